package badinput

import (
	"fmt"
	"strings"
	"sync"

	"posthaste/test/world"
)

// command is a command line, with what is wrong with its arguments or files.
// It runs in a directory of its own; etc/ there is a copy of the machine's
// configuration to which cf appends lines of main.cf, mc lines of master.cf.
type command struct {
	name, script string
	user         string // "" is root
	differs      string // why ours is different
}

const preamble = `
d=/tmp/case/$1; mkdir -p $d/etc; cd $d; cp /etc/postfix/main.cf /etc/postfix/master.cf etc/
cf() { printf "$@" >>etc/main.cf; printf '\n' >>etc/main.cf; cool; }
cool() { touch -d '1 minute ago' etc/*; } # a file changed just now is read more than once
mc() { printf "$@" >>etc/master.cf; printf '\n' >>etc/master.cf; }
query() { cool; postmap -c etc -q key "${1:-inline:{key=value}}"; }
set +e
`

var commands = []command{
	// main.cf: lines.
	{name: "main.cf without =", script: `cf 'this is no setting'; query`},
	{name: "main.cf name only", script: `cf 'lonely'; query`},
	{name: "main.cf = without name", script: `cf ' \n= value'; query`},
	{name: "main.cf blank in name", script: `cf 'my hostname = x.test'; query`},
	{name: "main.cf continuation at start", script: `printf ' continued\nmydestination = a\n' >etc/main.cf; query`},
	{name: "main.cf continuation after comment", script: `cf '# comment\n  more = text'; query`},
	{name: "main.cf is a directory", script: `rm etc/main.cf; mkdir etc/main.cf; query`},
	{name: "main.cf missing", script: `rm etc/main.cf; query`},
	{name: "main.cf unreadable directory", script: `postmap -c /nonexistent -q key inline:{key=value}`},
	{name: "main.cf NUL byte", script: `cf 'x\000y = z'; query`},
	{name: "main.cf 8 bit", script: `cf 'mydestination = \377\376'; query; postconf -c etc mydestination`},
	{name: "main.cf twice", script: `cf 'default_privs = nobody\ndefault_privs = mail'; query`},
	{name: "main.cf unclosed brace in inline", script: `query 'inline:{key=value'`},
	{name: "main.cf no final newline", script: `printf 'mydomain = x.test' >>etc/main.cf; postconf -c etc -h mydomain`},
	{name: "main.cf CRLF", script: `cf 'mydomain = x.test\r'; postconf -c etc -h mydomain | od -c`},
	// main.cf: values.
	{name: "value loop", script: `cf 'myorigin = $mydomain\nmydomain = $myorigin'; query`, differs: "the loop is noticed at another of its names"},
	{name: "value self reference", script: `cf 'mydomain = a.$mydomain'; query`, differs: "the loop is noticed a step earlier: fewer warnings before the same fatal error"},
	{name: "value unknown name", script: `cf 'myorigin = $no_such_name'; query; postconf -c etc -x myorigin`},
	{name: "value open brace", script: `cf 'relayhost = ${mydomain'; query`},
	{name: "value bad ternary", script: `cf 'relayhost = ${mydomain ? {a} : b'; query`},
	{name: "value bad comparison", script: `cf 'relayhost = ${{a} == }'; query`},
	{name: "value number text", script: `cf 'message_size_limit = lots'; postdrop -c etc </dev/null`},
	{name: "value number huge", script: `cf 'message_size_limit = 99999999999999999999'; postdrop -c etc </dev/null`},
	{name: "value number negative", script: `cf 'line_length_limit = -1'; postdrop -c etc </dev/null`},
	{name: "value number suffix", script: `cf 'line_length_limit = 2048k'; query`},
	{name: "value time unit", script: `cf 'ipc_timeout = 3y'; query`},
	{name: "value time zero", script: `cf 'fork_delay = 0'; query`},
	{name: "value time text", script: `cf 'ipc_timeout = soon'; query`, differs: "a value without digits is no time, whatever letter it begins with (3.7.11: 0 seconds)"},
	{name: "value time junk behind unit", script: `cf 'ipc_timeout = 5sxyz'; query`},
	{name: "value bool", script: `cf 'smtputf8_enable = maybe'; query`},
	{name: "value mail_owner", script: `cf 'mail_owner = nosuchuser'; query`},
	{name: "value mail_owner root", script: `cf 'mail_owner = root'; query`},
	{name: "value setgid_group", script: `cf 'setgid_group = nosuchgroup'; query`},
	{name: "value default_privs root", script: `cf 'default_privs = root'; query`},
	{name: "value default_privs unknown", script: `cf 'default_privs = nosuchuser'; query`},
	{name: "value myhostname", script: `cf 'myhostname = a..b'; query`},
	{name: "value myhostname empty", script: `cf 'myhostname ='; query`},
	{name: "value myhostname number", script: `cf 'myhostname = 1.2.3.4'; query`},
	{name: "value mydomain", script: `cf 'mydomain = -x-.test'; query`},
	{name: "value inet_protocols", script: `cf 'inet_protocols = ipv5'; query`},
	{name: "value inet_protocols empty", script: `cf 'inet_protocols ='; query`},
	{name: "value compatibility_level", script: `cf 'compatibility_level = new'; query`},
	{name: "value syslog_facility", script: `cf 'syslog_facility = nothing'; query`},
	{name: "value queue_directory", script: `cf 'queue_directory = /nonexistent'; postqueue -c etc -p; postsuper -c etc -d ABCDEF0123`},
	{name: "value import_environment", script: `cf 'import_environment = A=B {C = D} {bad'; query`, differs: "only programs that use import_environment read it"},
	{name: "value maillog_file prefix", script: `cf 'maillog_file = /tmp/log'; query`, differs: "postmap and postalias do not use maillog_file"},
	{name: "value default_database_type", script: `cf 'default_database_type = nosuch'; postmap -c etc x`},
	{name: "value message_size over mailbox", script: `cf 'mailbox_size_limit = 1\nmessage_size_limit = 2'; query`},
	{name: "value command_directory relative", script: `cf 'daemon_directory = here'; postfix -c $PWD/etc check`},

	// master.cf, as postconf and "postfix check" see it.
	{name: "master.cf too few fields", script: `mc 'x unix n'; postconf -c etc -M x/unix`},
	{name: "master.cf unknown type", script: `mc 'x pipe n - n - - smtpd'; postconf -c etc -M`},
	{name: "master.cf bad private", script: `mc 'x unix maybe - n - - smtpd'; postconf -c etc -M | tail -1`},
	{name: "master.cf unclosed brace", script: `mc 'x unix n - n - - smtpd -o {a=b'; postconf -c etc -M`},
	{name: "master.cf text after brace", script: `mc 'x unix n - n - - smtpd { a = b }c'; postconf -c etc -M`, differs: "braces stay (docs/differences.md)"},
	{name: "master.cf continuation at start", script: `printf ' x unix n - n - - smtpd\n' >etc/master.cf; postconf -c etc -M`},
	{name: "master.cf missing", script: `rm etc/master.cf; postconf -c etc -M; postconf -c etc -P`},
	{name: "master.cf option without =", script: `mc 'x unix n - n - - smtpd -o lonely'; postconf -c etc -P`},

	// Tables.
	{name: "table missing db", script: `query hash:/tmp/none`},
	{name: "table missing source", script: `postmap -c etc hash:$PWD/none`},
	{name: "table missing directory", script: `postmap -c etc hash:/none/none`},
	{name: "table garbage db", script: `head -c 9000 /bin/ls | tail -c 8192 >t.db; touch -d yesterday t; postmap -q key hash:$PWD/t; echo $?; postmap -s hash:$PWD/t`},
	{name: "table empty db", script: `: >t.db; postmap -q key hash:$PWD/t`},
	{name: "table truncated db", script: `seq 1 2000 | sed 's/$/ value/' >t; postmap hash:$PWD/t; truncate -s 5000 t.db; postmap -q 77 hash:$PWD/t >/dev/null 2>&1; [ $? -le 1 ] && echo ended`},
	{name: "table db is a directory", script: `mkdir t.db; postmap -q key hash:$PWD/t`},
	{name: "table older than source", script: `echo 'key value' >t; postmap hash:$PWD/t; touch -d '1 hour' t; postmap -q key hash:$PWD/t`},
	{name: "table unknown type", script: `query nosuch:/tmp/x; query ':'; query 'noslash'`},
	{name: "table type is odd", script: `query 'ha sh:/tmp/x'`},
	{name: "table key without value", script: `printf 'good value\nlonely\nother thing\n' >t; postmap hash:$PWD/t; postmap -q other hash:$PWD/t`},
	{name: "table key twice", script: `printf 'a 1\na 2\n' >t; postmap hash:$PWD/t; postmap -q a hash:$PWD/t`},
	{name: "table key with colon", script: `printf 'a: 1\n' >t; postmap hash:$PWD/t; postmap -q a: hash:$PWD/t`},
	{name: "table starts with blank", script: `printf '  a 1\nb 2\n' >t; postmap hash:$PWD/t; postmap -s hash:$PWD/t`},
	{name: "table quoted key", script: `printf '"a b" 1\n"c 2\n' >t; postmap hash:$PWD/t; postmap -s hash:$PWD/t | sort`},
	{name: "table 8 bit and NUL", script: `printf 'a\000b 1\n\377 2\n' >t; postmap hash:$PWD/t; postmap -s hash:$PWD/t | od -c`},
	{name: "table input is a directory", script: `mkdir t; postmap hash:$PWD/t`, differs: "an error, not an empty table"},
	{name: "table duplicate insert", script: `printf 'a 1\n' >t; postmap hash:$PWD/t; echo 'a 2' | postmap -i hash:$PWD/t; postmap -q a hash:$PWD/t`},
	{name: "table delete nothing", script: `printf 'a 1\n' >t; postmap hash:$PWD/t; postmap -d nothing hash:$PWD/t`},
	{name: "table write regexp", script: `printf '/a/ 1\n' >t; postmap regexp:$PWD/t; postmap -i regexp:$PWD/t </dev/null; postmap -d x regexp:$PWD/t`},
	{name: "regexp lines", script: `printf '/a/ 1\n/unclosed value\nbare words\n/bad[/ x\n/ok/\n/(/ x\n/a/q x\nif /x/\n/b/ 2\n' >t; postmap -q b regexp:$PWD/t; postmap -q a regexp:$PWD/t`},
	{name: "regexp endif", script: `printf 'endif\n/a/ 1\nif /a\nendif junk\n' >t; postmap -q a regexp:$PWD/t`},
	{name: "regexp group", script: `printf '/(a)/ $1 $2\n!/b/ $1\n/c/ ${1 $\n' >t; postmap -q a regexp:$PWD/t; postmap -q c regexp:$PWD/t`},
	{name: "regexp missing", script: `query regexp:/tmp/none`},
	{name: "pcre lines", script: `printf '/a/ 1\n/unclosed value\nbare words\n/bad[/ x\n/ok/\n/(/ x\n/a/q x\n/b/ 2\n' >t; postmap -q b pcre:$PWD/t; postmap -q a pcre:$PWD/t`,
		differs: "Debian has pcre in a package of its own; here it is built in"},
	{name: "cidr lines", script: `printf '10.0.0.0/8 ok\n10.0.0.1/8 x\n1.2.3 x\n10.0.0.0/33 x\n::1/129 x\nfoo bar\n192.0.2.1\n!x y\n[::1] z\nif 10.0.0.0/8\n' >t; postmap -q 10.1.1.1 cidr:$PWD/t; postmap -q notanip cidr:$PWD/t`},
	{name: "texthash lines", script: `printf 'a 1\nlonely\na 2\n' >t; touch -d yesterday t; postmap -q a texthash:$PWD/t; postmap -q a texthash:/tmp/none`},
	{name: "inline bad", script: `for t in inline: inline:{ inline:{} inline:{a} inline:{=b} 'inline:{a=b}c' 'inline:{ {a = b }'; do postmap -q a "$t"; done`},
	{name: "pipemap bad", script: `for t in pipemap: pipemap:{ pipemap:{} pipemap:{nosuch:x} unionmap:{x} randmap:{}; do postmap -q a "$t"; done`, differs: "other words for a unionmap entry without a type"},
	{name: "tcp refused", script: `postmap -q a tcp:127.0.0.1:1; postmap -q a tcp:; postmap -q a socketmap:x; postmap -q a socketmap:inet:127.0.0.1:1:map`, differs: "the reason is in the warning before"},
	{name: "static fail environ", script: `postmap -q a fail:x; postmap -q a 'static:{'; postmap -q '' static:x; postmap -q a environ:`},
	{name: "aliases odd", script: `printf 'good: bob\nno colon here\n: empty\nx:\n"quoted name": bob\n"open: bob\n  continued\na b: c\nc: "|unclosed\nd: :include:\n' >t; postalias hash:$PWD/t; postalias -s hash:$PWD/t | sort`},
	{name: "aliases twice", script: `printf 'a: bob\nA: alice\n' >t; postalias hash:$PWD/t; postalias -q a hash:$PWD/t`},
	{name: "newaliases missing", script: `cf 'alias_database = hash:%s' $PWD/none; sendmail -C $PWD/etc -bi`},
	{name: "newaliases bad type", script: `cf 'alias_database = regexp:/tmp/x'; sendmail -C $PWD/etc -bi`},

	// Command lines.
	{name: "postsuper no argument", script: `postsuper -d`},
	{name: "postsuper bad id", script: `postsuper -d ../../etc/passwd; postsuper -d 'A B'; postsuper -d abc; postsuper -h ''`},
	{name: "postsuper unknown id", script: `postsuper -d 0123456789; postsuper -H ABCDEF012; postsuper -r ABCDEF012`},
	{name: "postsuper bad queue", script: `postsuper -d ALL nosuchqueue; postsuper -d ALL /etc; postsuper -p nosuch; postsuper -s ../x`},
	{name: "postsuper bad option", script: `postsuper -x; postsuper -d all; postsuper -d ALL -h`},
	{name: "postsuper as user", user: "bob", script: `postsuper -d ALL`},
	{name: "postsuper stdin", script: `printf '0123456789\n\n../x\nABCDEF0123 trailing\n' | postsuper -d -`},
	{name: "postqueue no argument", script: `postqueue; postqueue -p -f; postqueue -p extra; postqueue -x`},
	{name: "postqueue bad id", script: `postqueue -i ../x; postqueue -i 0123456789; postqueue -i ''`},
	{name: "postqueue bad site", script: `postqueue -s 'a b'; postqueue -s ''; postqueue -s nosuch.test; postqueue -s '[1.2.3.4'; postqueue -s "$(printf 'x%.0s' $(seq 1 300))"`},
	{name: "postqueue foreign config", user: "bob", script: `postqueue -c /tmp -p; MAIL_CONFIG=/tmp postqueue -p`},
	{name: "postdrop foreign config", user: "bob", script: `postdrop -c /tmp </dev/null; MAIL_CONFIG=/tmp postdrop </dev/null`},
	{name: "postdrop garbage", user: "bob", script: `head -c 1000 /bin/ls | postdrop | od -c | tail -1; echo hello | postdrop >/dev/null`, differs: "one complaint about malformed input, with the user id"},
	{name: "postdrop forbidden records", user: "bob", script: `printf 'A\001x' | postdrop >/dev/null; printf 'S\003bobR\005aliceM\000N\002hip\000' | postdrop >/dev/null`},
	{name: "postdrop arguments", user: "bob", script: `postdrop -x; postdrop -v extra </dev/null >/dev/null`},
	{name: "postcat", script: `postcat -q 0123456789; postcat /bin/ls; postcat /tmp; postcat -q ../x; postcat -x; postcat nosuch; : >empty; postcat empty`, differs: "a directory is no queue file"},
	{name: "postconf bad option", script: `postconf -y; postconf -e; postconf -e 'no equals'; postconf -e '= x'; postconf -X; postconf -M -e 'x'; postconf -d -n`, differs: "the usage message names -j"},
	{name: "postconf unknown", script: `postconf no_such_name; postconf -h 'a b'; postconf -c /nonexistent; postconf -T nothing`},
	{name: "postconf edit bad names", script: `cd etc; postconf -c . -e 'a b = c'; postconf -c . -# 'x y'; postconf -c . -Me 'x/unix = bad'; postconf -c . -Fe 'smtp/inet/nofield=x'; postconf -c . -Pe 'smtp/inet/a b=x'; postconf -c . -MX nosuch/unix`},
	{name: "postmap bad option", script: `postmap -x; postmap -q; postmap -q a; postmap -i -d a hash:x; postmap -q a -d b hash:x; postmap`},
	{name: "postalias bad option", script: `postalias -x; postalias -q; postalias -i -q a hash:x`},
	{name: "postlock", script: `postlock; postlock /nonexistent/x true; postlock lock; postlock -x; postlock lock /nonexistent/program; postlock lock sh -c 'exit 7'`, differs: "no line of getopt before the usage message (docs/differences.md)"},
	{name: "postlog", script: `postlog -p nosuch x; postlog -x; postlog -t`, differs: "no line of getopt before the usage message (docs/differences.md)"},
	{name: "postkick", script: `postkick; postkick public nosuch W; postkick nowhere qmgr W; postkick public`},
	{name: "postfix", script: `postfix; postfix nosuch; postfix -x; postfix -c /nonexistent status; postfix start`},
	{name: "postfix as user", user: "bob", script: `postfix status; postfix reload`},
	{name: "sendmail bad option", user: "bob", script: `sendmail -y; sendmail -bz; sendmail -f; sendmail -O; sendmail -oQ; sendmail -N foo x; sendmail -R foo x; sendmail -V '' x`, differs: "the command line is read once: getopt complains once; an empty -V is taken as no VERP"},
	{name: "sendmail no recipient", user: "bob", script: `echo x | sendmail; printf 'Subject: x\n\ny\n' | sendmail -t`},
	{name: "sendmail bad recipient", user: "bob", script: `echo x | sendmail -t extra; echo x | sendmail ''; echo x | sendmail -f "$(printf 'a\nb')" -bv`},
	{name: "sendmail bad config", user: "bob", script: `echo x | sendmail -C /nonexistent bob; echo x | sendmail -C /tmp/nothing/main.cf bob`, differs: "an ordinary user may use a configuration of his own (rootless); postdrop and postqueue insist on the list"},
	{name: "sendmail bad bodies", user: "bob", script: `echo x | sendmail -B 9bit bob; echo x | sendmail -F; echo x | sendmail -h 0 -bs </dev/null; echo x | sendmail -qx; sendmail -qRfoo bob; sendmail -I extra`, differs: "a missing argument is complained about by the usage message"},
	{name: "sendmail -bs junk", user: "bob", script: `printf 'JUNK\r\nMAIL FROM\r\nDATA\r\nquit\r\n' | sendmail -bs`},
	{name: "sendmail too big", user: "bob", script: `head -c 11000000 /dev/zero | tr '\0' 'x' | sendmail alice`, differs: "the size is counted, not limited by the kernel: no further warnings"},
	{name: "mailq newaliases arguments", script: `mailq -x | tail -1; newaliases -C /nonexistent`},
}

func commandReasons() map[string]string {
	m := map[string]string{}
	for _, c := range commands {
		m[c.name] = c.differs
	}
	return m
}

// atOnce is how many commands run side by side: Debian's sleep a second in
// each fatal error.
const atOnce = 12

func runCommands(w *world.World, o *observation) {
	w.Sh("mkdir -p /tmp/case; chmod 1777 /tmp/case")
	queue := make(chan int)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := range queue {
				c := commands[i]
				argv := []string{"timeout", "20", "/bin/bash", "-c", preamble + c.script, "sh", fmt.Sprint(i)}
				cmd := w.Command(argv...)
				if c.user != "" {
					cmd = w.As(c.user, argv...)
				}
				r := world.Do(cmd, "")
				o.put("command", c.name, fmt.Sprintf("exit %d\nstdout:\n%s\nstderr:\n%s", r.Code, r.Out, lessNoise(r.Err)))
			}
		})
	}
	for i := range commands {
		queue <- i
	}
	close(queue)
	workers.Wait()
}

// lessNoise leaves out what libdb itself writes (docs/differences.md).
func lessNoise(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "BDB") {
			b.WriteString(line)
		}
	}
	return b.String()
}
