// Package stock walks through what an administrator does on the first day:
// Debian's own main.cf and master.cf, a dialogue on port 25, sendmail, a relay
// host that is down, and a spool that changes hands between the suites.
package stock

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-maildir"

	"posthaste/test/world"
)

// telnet types lines at port 25 and returns both sides.
func telnet(t *testing.T, w *world.World, lines ...string) string {
	t.Helper()
	conn, err := w.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	var b strings.Builder
	answer := func() {
		for {
			line, err := r.ReadString('\n')
			b.WriteString("S: " + line)
			if err != nil {
				fmt.Fprintf(&b, "(%v)\n", err)
				return
			}
			if len(line) > 3 && line[3] != '-' {
				return
			}
		}
	}
	answer()
	content := false
	for _, line := range lines {
		b.WriteString("C: " + line + "\r\n")
		io.WriteString(conn, line+"\r\n")
		switch {
		case content && line != ".":
			continue
		case strings.EqualFold(line, "DATA"):
			content = true
		default:
			content = false
		}
		answer()
	}
	return regexp.MustCompile(`queued as \S+`).ReplaceAllString(b.String(), "queued as ID")
}

// dialogue is what a person types, mistakes included.
var dialogue = []string{
	"help", "mail from:<a@b.test>", "HELO", "HELO me.test", "EHLO me.test", "VRFY alice", "VRFY nobody-here", "VRFY", "ETRN", "ETRN x.test", "EXPN x",
	"MAIL FROM: a@sender.test", "MAIL FROM:<b@sender.test>", "RCPT TO:", "RCPT TO:<someone@elsewhere.test>", "RCPT TO:<nosuch@mail.example.com>",
	"RCPT TO:<>", "RCPT TO:<alice@[127.0.0.1]>", "RCPT TO:alice", "RCPT TO:<\"al ice\"@mail.example.com>", "RCPT TO:<alice@mail.example.com> FOO=bar",
	"DATA extra", "DATA", "Subject: typed", "", "..leading dot", "hello", ".", "RSET now", "RSET", "NOOP hi", "MAIL FROM:<x@sender.test> SIZE=99999999999",
	"MAIL FROM:<x@sender.test> BODY=9BIT", "MAIL FROM:<x@sender.test> RET=SOME", "MAIL FROM:<<x>", "BDAT 0 LAST", "DATA", "AUTH PLAIN x", "STARTTLS x", "BDAT x",
}

func boot(t *testing.T, s world.Suite, main ...string) *world.World {
	t.Helper()
	w := world.Test(t, world.Options{Suite: s, Main: main})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// The same keys typed at both give the same answers.
func TestDialogue(t *testing.T) {
	plain := []string{"smtpd_tls_security_level = none", "smtpd_error_sleep_time = 0", "smtpd_hard_error_limit = 100", "smtpd_junk_command_limit = 1000"}
	want := telnet(t, boot(t, world.Debian, plain...), dialogue...)
	w := boot(t, world.Ours, plain...)
	if got := telnet(t, w, dialogue...); got != want {
		a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
		for i := range a {
			if i >= len(b) || a[i] != b[i] {
				t.Fatalf("line %d: Debian %q, ours %q\nafter\n%s", i, a[i], b[min(i, len(b)-1)], strings.Join(a[max(0, i-3):i], "\n"))
			}
		}
		t.Fatalf("ours goes on: %q", got)
	}
	if _, err := w.WaitLog(10*time.Second, "to=<alice@", "status=sent (delivered to mailbox)"); err != nil {
		t.Fatal(err)
	}
	box, err := os.ReadFile(w.Path("/var/mail/alice"))
	if err != nil || !bytes.HasPrefix(box, []byte("From a@sender.test ")) || !bytes.Contains(box, []byte("\n.leading dot\nhello\n\n")) {
		t.Fatalf("%v\n%s", err, box)
	}
}

// Debian's stock files with nothing changed but myhostname: mail comes in by
// the network and from a user, goes to /var/mail, ~/Maildir and back.
func TestStockConfiguration(t *testing.T) {
	w := boot(t, world.Ours)
	if r := world.Do(w.As("bob", "sendmail", "root"), "Subject: from a user\n\nvia the aliases\n"); r.Code != 0 {
		t.Fatal(r)
	}
	if _, err := w.WaitLog(10*time.Second, "to=<alice@mail.example.com>, orig_to=<root>", "status=sent (delivered to mailbox)"); err != nil {
		t.Fatal(err)
	}
	if r := w.Run("", "postconf", "-e", "home_mailbox = Maildir/"); r.Code != 0 {
		t.Fatal(r)
	}
	if r := w.Run("", "postfix", "reload"); r.Code != 0 {
		t.Fatal(r)
	}
	if r := world.Do(w.As("bob", "sendmail", "bob", "nosuch"), "Subject: to myself\n\nand to nobody\n"); r.Code != 0 {
		t.Fatal(r)
	}
	if _, err := w.WaitLog(10*time.Second, "to=<nosuch@mail.example.com>", "dsn=5.1.1, status=bounced (unknown user: \"nosuch\")"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		text := readAll(w.Path("/home/bob/Maildir/new/*"))
		if strings.Contains(text, "and to nobody") && strings.Contains(text, "Content-Type: multipart/report; report-type=delivery-status;") &&
			strings.Contains(text, "Final-Recipient: rfc822; nosuch@mail.example.com") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("bob's Maildir:\n%s", text)
		}
	}
	for _, shape := range pflogsumm {
		if !regexp.MustCompile(`(?m)` + shape).MatchString(w.Syslog()) {
			t.Errorf("no log line of the shape pflogsumm reads: %s", shape)
		}
	}
}

// pflogsumm are the shapes of log lines that pflogsumm and its like parse.
var pflogsumm = []string{
	`postfix/pickup\[\d+\]: [0-9A-F]+: uid=\d+ from=<bob>$`,
	`postfix/cleanup\[\d+\]: [0-9A-F]+: message-id=<\S+@mail\.example\.com>$`,
	`postfix/qmgr\[\d+\]: [0-9A-F]+: from=<bob@mail\.example\.com>, size=\d+, nrcpt=\d+ \(queue active\)$`,
	`postfix/local\[\d+\]: [0-9A-F]+: to=<\S+>, (orig_to=<\S+>, )?relay=local, delay=[\d.]+, delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, dsn=2\.0\.0, status=sent \(.*\)$`,
	`postfix/qmgr\[\d+\]: [0-9A-F]+: removed$`,
	`postfix/bounce\[\d+\]: [0-9A-F]+: sender non-delivery notification: [0-9A-F]+$`,
}

func readAll(pattern string) string {
	var b strings.Builder
	files, _ := filepath.Glob(pattern)
	for _, f := range files {
		data, _ := os.ReadFile(f)
		b.Write(data)
	}
	return b.String()
}

// A relay host that is down: the mail waits, is seen, survives a restart, and
// leaves when the host is back and the administrator says so.
func TestUnreachableRelayHost(t *testing.T) {
	w := boot(t, world.Ours, "relayhost = [127.0.0.1]:2600", "smtp_tls_security_level = none")
	world.Do(w.As("bob", "sendmail", "far@away.test"), "Subject: waits\n\nx\n")
	if _, err := w.WaitLog(10*time.Second, "to=<far@away.test>", "status=deferred (connect to 127.0.0.1[127.0.0.1]:2600: Connection refused)"); err != nil {
		t.Fatal(err)
	}
	seen := func(when string) {
		t.Helper()
		if q := w.Run("", "mailq"); !strings.Contains(q.Out, "far@away.test") || !strings.Contains(q.Out, "Connection refused") || !strings.Contains(q.Out, "in 1 Request.") {
			t.Fatalf("mailq %s: %s%s", when, q.Out, q.Err)
		}
		if q := w.Run("", "qshape", "deferred"); !regexp.MustCompile(`away\.test +1 +1`).MatchString(q.Out) {
			t.Fatalf("qshape %s: %s%s", when, q.Out, q.Err)
		}
	}
	seen("before the restart")
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	seen("after the restart")
	l, err := w.Listen("tcp", "127.0.0.1:2600")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	arrived := make(chan string, 1)
	go relay(l, arrived)
	if r := w.Run("", "postsuper", "-r", "ALL"); r.Code != 0 || !strings.Contains(r.Err, "postsuper: Requeued: 1 message") {
		t.Fatal(r)
	}
	if r := w.Run("", "postqueue", "-f"); r.Code != 0 {
		t.Fatal(r)
	}
	select {
	case text := <-arrived:
		if !strings.Contains(text, "Subject: waits") {
			t.Fatal(text)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the mail does not leave")
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if q := w.Run("", "mailq"); q.Out == "Mail queue is empty\n" {
			break
		} else if time.Now().After(end) {
			t.Fatal(q)
		}
	}
}

// TestTakeover defers and holds mail under one suite and lets the other
// deliver it, in both directions.
func TestTakeover(t *testing.T) {
	for _, first := range []world.Suite{world.Debian, world.Ours} {
		t.Run("written by "+first.String(), func(t *testing.T) {
			w := boot(t, first, "relayhost = [127.0.0.1]:2600", "smtp_tls_security_level = none", "home_mailbox = Maildir/", "hash_queue_names = deferred, defer, hold")
			for i := range 5 {
				world.Do(w.As("bob", "sendmail", "-f", "alice", fmt.Sprintf("far%d@away.test", i), fmt.Sprintf("alice+%d", i)), fmt.Sprintf("Subject: number %d\n\nx\n", i))
			}
			for i := range 5 {
				if _, err := w.WaitLog(20*time.Second, fmt.Sprintf("to=<far%d@away.test>", i), "status=deferred"); err != nil {
					t.Fatal(err)
				}
			}
			if r := w.Run("", "postsuper", "-h", "ALL", "deferred"); r.Code != 0 || !strings.Contains(r.Err, "Placed on hold: 5 messages") {
				t.Fatal(r)
			}
			world.Do(w.As("bob", "sendmail", "far9@away.test"), "Subject: number 9\n\nx\n")
			if _, err := w.WaitLog(20*time.Second, "to=<far9@away.test>", "status=deferred"); err != nil {
				t.Fatal(err)
			}
			if err := w.Stop(); err != nil {
				t.Fatal(err)
			}
			second := world.Debian
			if first == world.Debian {
				second = world.Ours
			}
			// One more that nobody has looked at yet.
			world.Do(w.As("bob", "sendmail", "far8@away.test"), "Subject: number 8\n\nx\n")
			if err := w.Install(second); err != nil {
				t.Fatal(err)
			}
			l, err := w.Listen("tcp", "127.0.0.1:2600")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			arrived := make(chan string, 20)
			go relay(l, arrived)
			if err := w.Start(); err != nil {
				t.Fatal(err)
			}
			if q := w.Run("", "mailq"); strings.Count(q.Out, "! ") < 5 && strings.Count(q.Out, "!") < 5 {
				t.Fatalf("held mail is not seen by the second suite: %s%s", q.Out, q.Err)
			}
			if r := w.Run("", "postsuper", "-H", "ALL"); r.Code != 0 || !strings.Contains(r.Err, "Released from hold: 5 messages") {
				t.Fatal(r)
			}
			w.Run("", "postqueue", "-f")
			got := map[string]bool{}
			for len(got) < 7 {
				select {
				case text := <-arrived:
					got[regexp.MustCompile(`Subject: number \d`).FindString(text)] = true
				case <-time.After(20 * time.Second):
					t.Fatalf("arrived: %v\n%s", got, w.Run("", "mailq").Out)
				}
			}
			// An independent reader finds each of alice's messages once.
			mail, err := maildir.Dir(w.Path("/home/alice/Maildir")).Unseen()
			if err != nil || len(mail) != 5 {
				t.Errorf("alice has %d messages, want each of the 5 once (%v)", len(mail), err)
			}
		})
	}
}
