package postconf

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"posthaste/test/world"
)

// mainPieces and masterPieces are what random configurations are made of. Few
// make a fatal error: after one Debian's program sleeps for a second.
var mainPieces = []string{
	"biff = no", "biff=yes", "mydestination = $myhostname,  $a1", "a1 = x.example", "a2 = $a1 ${a3?$a4}", "a3 = 3", "a4 =",
	"relay_domains = ${{$compatibility_level} <level {2} ? {$a1} : {$a2}}", "alias_maps = hash:/etc/aliases ldap:lc", "lc_server_host = h",
	"lc_bogus = h", "# comment", "", "   ", "smtpd_banner = $myhostname ESMTP\n\t$mail_name\n# inside\n  more", "unused = $biff",
	"smtpd_restriction_classes = c1, c2", "c1 = permit", "c2 =\n  reject,\n  permit", "c3 = reject", "relayhost = [a1]:25 # not a comment",
	"transport_maps = proxy:mysql:my, inline:{{a=b}, { c = pgsql:pg }}", "my_hosts = $a3", "pg_table = t", "virtual_maps = hash:/x",
	"maildrop_time_limit = 1h", "maildrop_recipient_limit = 1", "smtp_destination_rate_delay = 5s", "mynetworks = 127.0.0.0/8 [::1]/128",
	"mailbox_command = /x \"$EXTENSION\" $a3", "header_checks = regexp:{{/a$$/ x}}", "mail_owner=postfix\r", "process_id = 7",
	"inet_interfaces = loopback-only", "mydomain = $myorigin", "message_size_limit = ${a3}000", "recipient_delimiter = +",
}

var masterPieces = []string{
	"smtp inet n - y - - smtpd", "25 inet n - y - 1 postscreen -o biff=$a1 -o a5=$a3\n  -o { a6 = $a5 b }", "# comment", "",
	"smtpd pass - - y - - smtpd -v\n  -o smtpd_restriction_classes=c4\n# inside\n  -o c4=permit -o c5=reject", "qmgr unix n - n 300? 1 qmgr",
	"maildrop unix - n n - - pipe\n  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient} {a b}", "lmtp unix - - y - 0 lmtp -vo alias_maps=ldap:lc2 -o lc2_bind=no",
	"[::1]:2525 inet n - n - - smtpd -oa1=q", "averyverylongservicename unix-dgram n - n - 1 postlogd -v -D -o relayhost=$service_name.$process_name",
	"relay unix - - - - - smtp -o unused=1 -o syslog_name=postfix/$service_name", "x fifo n n n 60 1 cmd -- -o a=b", "local unix - n n - - local -o c1=a -o c2=b",
}

// pick joins n of the pieces. A service that stands twice in master.cf is
// something Debian's program mixes up, so each piece is taken once.
func pick(r *rand.Rand, pieces []string, n int) string {
	var out strings.Builder
	for _, i := range r.Perm(len(pieces))[:n] {
		out.WriteString(pieces[i] + "\n")
	}
	return out.String()
}

// oracleCommands are run for every configuration.
var oracleCommands = [][]string{
	{"-n"}, {"-nxf"}, {"-C", "service,user"}, {"-Mf"}, {"-Mx"}, {"-F"}, {"-Px"}, {"-d", "-C", "service"}, {"-x", "mydestination", "a1", "c3", "relayhost", "smtp_recipient_limit"},
	{"-e", "a9 = 1  2"}, {"-e", "smtpd_banner="}, {"-X", "biff", "smtpd_banner", "c2"}, {"-#", "biff", "smtpd_banner", "a1"},
	{"-MX", "smtp/inet"}, {"-M#", "*/unix"}, {"-Pe", "smtp/inet/a5=z"}, {"-PX", "*/*/syslog_name"}, {"-Fe", "*/unix/chroot=n"},
	{"-Me", "maildrop/unix=maildrop unix - - - - - pipe -o x={y}"},
}

// TestAgainstDebian runs random configurations through Debian's postconf too.
func TestAgainstDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a private machine")
	}
	w := world.Test(t, world.Options{Suite: world.Debian})
	const configurations = 8
	r := rand.New(rand.NewPCG(3, 7))
	ours := t.TempDir()
	const theirs = "/tmp/oracle" // in the machine
	var script strings.Builder
	type result struct {
		name string
		args []string
		got  string
	}
	var results []result
	for i := range configurations {
		main := "compatibility_level = 3.6\nmyhostname = m.example.com\nmyorigin = o.example.com\n" + pick(r, mainPieces, 3+r.IntN(15))
		master := pick(r, masterPieces, r.IntN(9))
		for j, args := range oracleCommands {
			name := fmt.Sprintf("%d-%d", i, j)
			for _, dir := range []string{filepath.Join(ours, name), w.Path(filepath.Join(theirs, name))} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				put(t, dir, "main.cf", &main)
				put(t, dir, "master.cf", &master)
			}
			fmt.Fprintf(&script, "cd %s/%s; postconf -c $PWD '%s' >out 2>err; echo $? >exit\n", theirs, name, strings.Join(args, "' '"))
			dir := filepath.Join(ours, name)
			out, stderr, exit := run(t, dir, args...)
			results = append(results, result{name, args, summary(out, stderr, exit, dir)})
		}
	}
	if err := os.WriteFile(w.Path(theirs+"/script"), []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if res := w.Sh(". " + theirs + "/script"); res.Code != 0 {
		t.Fatalf("script: %+v", res)
	}
	for _, k := range results {
		dir := w.Path(filepath.Join(theirs, k.name))
		mask := strings.NewReplacer(filepath.Join(theirs, k.name), "DIR")
		var exit int
		fmt.Sscan(get(dir, "exit"), &exit)
		want := summary(mask.Replace(get(dir, "out")), mask.Replace(get(dir, "err")), exit, dir)
		if k.got != want {
			t.Errorf("postconf %q of\n%s\n%s\ngot:\n%s\nwant:\n%s", k.args, get(dir, "main.cf"), get(dir, "master.cf"), k.got, want)
		}
	}
}

// summary puts together what a command did; see TestGolden for what is left
// out. Warnings are compared without repetitions.
func summary(out, stderr string, exit int, dir string) string {
	stderr = strings.Join(slices.Compact(strings.Split(messages(stderr, exit), "\n")), "\n")
	return fmt.Sprintf("exit %d\n%s\n%s\n%s\n%s", exit, out, stderr, newline(get(dir, "main.cf")), newline(get(dir, "master.cf")))
}
