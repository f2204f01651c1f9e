package interchange

// commandPart is a command of the package that is exchanged on a running system.
type commandPart struct {
	name string
	// paths are the programs exchanged together.
	paths []string
	// script is what is typed. $P is the queue id of a deferred message, $H
	// of one on hold; "try CMD ..." prints output and exit status; "fresh" puts
	// a new deferred message in the queue and its id in $F.
	script string
}

// typing is what the scripts may use.
const typing = `
P=$1 H=$2
cd /tmp; rm -rf work; mkdir work; chmod 777 work; cd work
try() { echo "\$ $*"; "$@" 2>/tmp/said; set -- $?; cat /tmp/said; echo "status $1"; }
bob() { setpriv --reuid=bob --regid=bob --init-groups -- "$@"; }
fresh() {
	R=fresh$RANDOM@wait.test
	printf 'Subject: fresh\n\nx\n' | sendmail -f alice@mail.example.com $R
	for i in $(seq 100); do f=$(grep -rl $R /var/spool/postfix/deferred); [ -n "$f" ] && break; sleep .1; done
	F=${f##*/}
}
rest() { for i in $(seq 400); do [ -z "$(find /var/spool/postfix/active /var/spool/postfix/incoming /var/spool/postfix/maildrop -type f)" ] && return; sleep .1; done; echo not at rest; }
`

var commandParts = []commandPart{
	{"postqueue", []string{"/usr/sbin/postqueue"}, `
try postqueue -p; try bob postqueue -p; echo; postqueue -j | sort; try postqueue -s etrn.test; try postqueue -s elsewhere.test; try postqueue -i $P; try postqueue -i none/x; try postqueue; rest; try bob postqueue -f; rest; try postqueue -p`},
	{"postsuper", []string{"/usr/sbin/postsuper"}, `
fresh; try postsuper -h $F; try postcat -q $F | grep -c fresh; try postsuper -H $F; try postsuper -h none; try postsuper -d ABCDEF0123; try postsuper -r $F; postkick public pickup W; rest
fresh; try postsuper -e $F; rest; fresh; echo $F | postsuper -d - 2>&1; fresh; try postsuper -d $F; try postsuper -s; try postsuper -p; try bob postsuper -p; try postsuper
for f in $(grep -rl fresh /var/spool/postfix/deferred); do postsuper -d ${f##*/}; done >/dev/null 2>&1; rest`},
	{"postcat", []string{"/usr/sbin/postcat"}, `
try postcat -q $P; try postcat -qe $H; try postcat -qh $P; try postcat -qb $P; try postcat -oq $H; try postcat -q ABCDEF0123; try postcat /etc/hosts; try bob postcat -q $P`},
	{"postmap", []string{"/usr/sbin/postmap"}, `
printf '# c\nb two\n  more\nA one\nb again\n' >t; try postmap hash:t; try postmap -s hash:t; try postmap -q a hash:t; try postmap -q b hash:t; try postmap -q none hash:t
echo 'n new' | postmap -i hash:t; try postmap -q n hash:t; try postmap -d a hash:t; try postmap -q a hash:t; printf 'b\nn\nz\n' | postmap -q - hash:t
try postmap btree:t; try postmap -s btree:t; try postmap -q dora@pvirtual.test proxy:hash:/etc/postfix/valias; try postmap -q x 'inline:{x=1, {y = 2 3}}'; try postmap -q X-Hold:a regexp:/etc/postfix/header_checks; try postmap -q a nosuch:t; try postmap hash:none; try postmap`},
	{"postalias", []string{"/usr/sbin/postalias"}, `
printf 'a: b, c\n# x\nq: "|cmd x"\nbad\n' >t; try postalias hash:t; try postalias -s hash:t; try postalias -q a hash:t; try postalias -q q hash:t; try postalias -q root hash:/etc/aliases; try postalias /etc/aliases; try postalias -q none hash:t`},
	{"postconf", []string{"/usr/sbin/postconf"}, `
try postconf -n; try postconf -x virtual_mailbox_maps; try postconf -h relay_domains mydestination; try postconf -d queue_directory alias_maps mynetworks_style smtpd_recipient_restrictions; try postconf -M; try postconf -Mf filter/unix; try postconf -F '*/inet/command'; try postconf -P; try postconf -l; try postconf nosuch
cp /etc/postfix/main.cf /etc/postfix/master.cf .; try postconf -c . -e 'relay_domains = a.test' 'mail_spool_directory=/x'; try postconf -c . -X home_mailbox; try postconf -c . -# notify_classes; try postconf -c . -Me 'new/unix=new unix - - n - - pipe argv=/x'; try postconf -c . -Fe smtp/inet/chroot=n; try postconf -c . -MX uucp/unix; cat main.cf; grep -v '^#' master.cf`},
	{"postlog", []string{"/usr/sbin/postlog"}, `
try postlog -t battery hello there; try postlog -p warn a warning; try postlog -p error an error; printf 'one\ntwo\n' | postlog -i -t lines 2>&1; try bob postlog by bob; try postlog -p nosuch x`},
	{"postkick", []string{"/usr/sbin/postkick"}, `
try postkick public pickup W; try postkick public qmgr IW; try postkick private nosuch W; try postkick public; try bob postkick private bounce W; rest`},
	{"postlock", []string{"/usr/sbin/postlock"}, `
touch box; try postlock box ls; try postlock -l dotlock box ls; try postlock box sh -c 'exit 7'; try postlock -v box true 2>/dev/null | tail -1; try postlock -l nosuch box ls; try postlock box; try postlock /nosuch/x true`},
	{"sendmail and postdrop", []string{"/usr/sbin/sendmail", "/usr/sbin/postdrop", "/usr/bin/mailq", "/usr/bin/newaliases"}, sending},
	{"sendmail", []string{"/usr/sbin/sendmail", "/usr/bin/mailq", "/usr/bin/newaliases"}, sending},
	{"postdrop", []string{"/usr/sbin/postdrop"}, sending + `; printf x | bob postdrop 2>&1; echo "status $?"; try postdrop a b </dev/null`},
	{"mailq and newaliases", []string{"/usr/bin/mailq", "/usr/bin/newaliases"}, `try mailq; try bob mailq; rm /etc/aliases.db; try newaliases; try postalias -q root hash:/etc/aliases`},
	{"qshape", []string{"/usr/sbin/qshape"}, `try qshape; try qshape deferred; try qshape -s deferred hold; try qshape -b 3 -t 10 -l deferred hold active; try qshape -n 1 deferred; try qshape -m 5 deferred; try qshape -p deferred`},
	{"postfix", []string{"/usr/sbin/postfix", "/usr/lib/postfix/sbin/postfix-script", "/usr/lib/postfix/sbin/post-install", "/usr/lib/postfix/sbin/postfix-wrapper"}, `
try postfix status; try postfix start; try postfix check; try postfix flush; try postfix reload; sleep 1; try postfix stop; try postfix status; try postfix stop; try postfix start; sleep 1; try postfix status; rest`},
}

// sending is what is typed to hand in mail.
const sending = `
N=0; mail() { N=$((N+1)); printf 'Subject: typed %d\n\nhello\n.\nafter the dot\n' $N | bob sendmail "$@" 2>&1; echo "sendmail $*: status $?"; rest; }
rm -f /home/alice/Maildir/new/*; mail alice; mail -i alice; mail -oi -f bob@sender.test -F 'Bob B' alice; mail -f '' alice; mail -N never -R hdrs -V envid alice; mail -r x@y alice root; mail; mail -bz alice; mail -v alice >/dev/null
printf 'To: alice\nSubject: t\n\nx\n' | bob sendmail -t 2>&1; echo "status $?"; rest
printf 'EHLO x\r\nMAIL FROM:<bob@mail.example.com>\r\nRCPT TO:<alice@mail.example.com>\r\nDATA\r\nSubject: bs\r\n\r\nx\r\n.\r\nQUIT\r\n' | bob sendmail -bs 2>&1; echo "status $?"; rest
try bob sendmail -bp; try bob sendmail -q; try bob sendmail -bv alice; rest; try sendmail -I; rest
for f in /home/alice/Maildir/new/*; do sed -e 's/^\tid .*/\tid ID/' "$f"; echo ==; done | grep -v '^Message-Id: \|^Date: \|^	.* +0000 \|^X-Postfix-Queue-ID\|^	boundary=\|^--\|^Arrival-Date:\|^; ' | sed 's/userid [0-9]*/userid N/' | sort
`
