package badinput

import (
	"fmt"
	"strings"
	"time"

	"posthaste/test/world"
)

// session is an odd SMTP client.
type session struct {
	name    string
	steps   []step
	differs string
}

// blind sends without waiting for a reply.
func blind(s string) step { return step{s, false} }

const (
	ehlo = "EHLO odd.test\r\n"
	from = "MAIL FROM:<a@b.test>\r\n"
	to   = "RCPT TO:<alice@mail.example.com>\r\n"
)

var sessions = []session{
	{name: "nothing at all"},
	{name: "NUL in command", steps: []step{send("EH\x00LO x\r\n"), send("\x00\x00\r\n"), send(ehlo), send("MAIL FROM:<a\x00b@c.test>\r\n"), send(from), send("RCPT TO:<ali\x00ce@mail.example.com>\r\n")}},
	{name: "8 bit", steps: []step{send("\xff\xfe\xfd\r\n"), send("EHLO \xe9t\xe9.test\r\n"), send("MAIL FROM:<\xe9@b.test>\r\n"), send(from), send("RCPT TO:<\xff\xff@mail.example.com>\r\n"), send("RCPT TO:<alice@\xe9.test>\r\n")}},
	{name: "100 kB line", steps: []step{send(ehlo), send("MAIL FROM:<" + strings.Repeat("x", 100000) + "@b.test>\r\n"), send(from), send(strings.Repeat("y", 100000) + "\r\n")}},
	{name: "1 MB without newline", steps: []step{send(ehlo), blind(strings.Repeat("z", 1<<20))}},
	{name: "bare LF", steps: []step{send("EHLO odd.test\n"), send("MAIL FROM:<a@b.test>\n"), send("NOOP\n"), send("QUIT\n")}},
	{name: "bare CR", steps: []step{send(ehlo), send("NOOP\rQUIT\r\n"), send("MAIL FROM:<a@b.test>\rRCPT TO:<alice@mail.example.com>\r\n")}},
	{name: "CR CR LF", steps: []step{send("EHLO odd.test\r\r\n"), send("NOOP\r\r\n")}},
	{name: "blank lines", steps: []step{send("\r\n"), send("   \r\n"), send("\t\r\n"), send(" NOOP\r\n")}},
	{name: "pipelined junk", steps: []step{send(ehlo), blind("JUNK\r\nMORE\r\n\r\n"), blind(from + "GARBAGE\r\n" + to + "QUIT\r\n")}},
	{name: "pipelined before EHLO", steps: []step{blind(ehlo + from + to)},
		differs: "smtpd_forbid_unauth_pipelining is yes by default"},
	{name: "talks before the banner", steps: []step{blind("QUIT\r\n")}},
	{name: "HTTP", steps: []step{send("GET / HTTP/1.1\r\n"), blind("Host: mail\r\n\r\n")}},
	{name: "HTTP post", steps: []step{send(ehlo), send("POST /x HTTP/1.1\r\n")}},
	{name: "CONNECT", steps: []step{send("CONNECT evil.test:25 HTTP/1.1\r\n")}},
	{name: "header as command", steps: []step{send(ehlo), send("Subject: hello\r\n"), send("From: me\r\n")}},
	{name: "TLS hello", steps: []step{blind("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n")}},
	{name: "disconnect in DATA", steps: []step{send(ehlo), send(from), send(to), send("DATA\r\n"), blind("Subject: half\r\n\r\nnever ends\r\n")}},
	{name: "disconnect after RCPT", steps: []step{send(ehlo), send(from), send(to)}},
	{name: "long recipient", steps: []step{send(ehlo), send(from), send("RCPT TO:<" + strings.Repeat("a", 1000) + "@mail.example.com>\r\n"), send("RCPT TO:<a@" + strings.Repeat("b.", 600) + "test>\r\n")}},
	{name: "odd paths", steps: []step{send(ehlo), send("MAIL FROM:<a@b.test\r\n"), send("MAIL FROM:a@b.test>\r\n"), send("MAIL FROM:<<a@b.test>>\r\n"), send("MAIL FROM:<a@b.test> <c@d.test>\r\n"), send("MAIL FROM:<\"unclosed@b.test>\r\n"), send("MAIL FROM:<a@b@c@d.test>\r\n"), send("MAIL FROM:<@@@>\r\n"), send("MAIL FROM:<a@[1.2.3]>\r\n"), send("MAIL FROM\r\n"), send("MAIL\r\n"), send("MAIL TO:<x>\r\n")}},
	{name: "odd parameters", steps: []step{send(ehlo), send("MAIL FROM:<a@b.test> SIZE=x\r\n"), send("MAIL FROM:<a@b.test> SIZE=-1\r\n"), send("MAIL FROM:<a@b.test> SIZE=999999999999999999999999\r\n"), send("MAIL FROM:<a@b.test> =\r\n"), send("MAIL FROM:<a@b.test> BODY\r\n"), send("MAIL FROM:<a@b.test> ENVID=+ZZ\r\n"), send("MAIL FROM:<a@b.test> AUTH=x\r\n"), send("MAIL FROM:<a@b.test> RET=FULL RET=HDRS\r\n"), send(from), send("RCPT TO:<alice@mail.example.com> NOTIFY=\r\n"), send("RCPT TO:<alice@mail.example.com> NOTIFY=NEVER,SUCCESS\r\n"), send("RCPT TO:<alice@mail.example.com> ORCPT=x\r\n"), send("RCPT TO:<alice@mail.example.com> ORCPT=rfc822;+Z\r\n"), send("RCPT TO:<alice@mail.example.com> X=Y\r\n")}},
	{name: "odd helo", steps: []step{send("HELO\r\n"), send("EHLO \r\n"), send("HELO a b c\r\n"), send("HELO <x>\r\n"), send("EHLO [1.2.3\r\n"), send("HELO " + strings.Repeat("h", 600) + "\r\n")}},
	{name: "out of order", steps: []step{send(to), send("DATA\r\n"), send(ehlo), send(to), send("DATA\r\n"), send(from), send(from), send("DATA\r\n"), send("RSET\r\n"), send("BDAT\r\n"), send("BDAT x\r\n"), send("BDAT -5\r\n"), send("BDAT 99999999999999999999\r\n"), send("BDAT 1 FIRST\r\n")}},
	{name: "XCLIENT and friends", steps: []step{send(ehlo), send("XCLIENT NAME=x\r\n"), send("XFORWARD NAME=x\r\n"), send("AUTH\r\n"), send("STARTTLS\r\n"), send("ETRN\r\n"), send("ETRN a b\r\n"), send("ETRN ;x\r\n"), send("VRFY\r\n"), send("VRFY a b\r\n"), send("EXPN x\r\n"), send("HELP\r\n"), send("TURN\r\n")}},
	{name: "message of NULs and long lines", steps: []step{send(ehlo), send(from), send(to), send("DATA\r\n"), send("Subject: \x00\xff\r\n\r\n" + strings.Repeat("l", 70000) + "\r\n\x00\x00\r\n.\r\n")}},
	{name: "smuggled end of data", steps: []step{send(ehlo), send(from), send(to), send("DATA\r\n"), blind("Subject: s\r\n\r\nx\n.\r\n"), send("x\r\n.\r\n"), send("NOOP\r\n")}},
	{name: "headers without body", steps: []step{send(ehlo), send(from), send(to), send("DATA\r\n"), send(".\r\n"), send(from), send(to), send("DATA\r\n"), send("no header here\r\n.\r\n"), send(from), send(to), send("DATA\r\n"), send(": empty name\r\n\r\n.\r\n")}},
	{name: "too big", steps: []step{send(ehlo), send(from), send(to), send("DATA\r\n"), send(strings.Repeat(strings.Repeat("b", 998)+"\r\n", 10300) + ".\r\n"), send("NOOP\r\n")}},
}

func sessionReasons() map[string]string {
	m := map[string]string{}
	for _, s := range sessions {
		m[s.name] = s.differs
	}
	return m
}

func runSessions(w *world.World, o *observation) {
	for _, s := range sessions {
		mark := len(w.Syslog())
		conn, err := w.Dial("tcp", "127.0.0.1:25")
		if err != nil {
			o.trouble("%s: %v", s.name, err)
			continue
		}
		replies := converse(conn, s.steps)
		conn.Close()
		ended := func(line string) bool {
			return strings.Contains(line, "postfix/smtpd[") && strings.Contains(line, "disconnect from")
		}
		for end := time.Now().Add(5 * time.Second); logSince(w, mark, ended) == "" && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		log := logSince(w, mark, func(line string) bool {
			return strings.Contains(line, "postfix/smtpd[") || strings.Contains(line, "/smtpd ")
		})
		o.put("session", s.name, fmt.Sprintf("%slog:\n%s", replies, log))
	}
}
