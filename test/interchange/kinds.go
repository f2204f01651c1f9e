package interchange

import (
	"fmt"
	"slices"
	"strings"

	"posthaste/test/world"
)

// kind is one kind of mail: how it is sent, and what must be in its
// transcript when it is through.
type kind struct {
	name string
	tag  string // its Message-ID's local part, set by number
	// uses names the daemons, separated by blanks, that this kind tries more
	// than any mail does; cells of those daemons have it in a short run.
	uses string
	// send hands the message in; tag is its Message-ID's local part.
	send func(w *world.World, tag string) (string, error)
	// want are texts that must show up in the transcript; the run waits for
	// all of them. "%s" stands for nothing: they are plain substrings.
	want []string
	// after runs when want is satisfied; want2 must then show up.
	after func(r *run, tag string) error
	want2 []string
	// log are texts of log records that belong to no queue id; the records
	// become part of the transcript.
	log []string
	// flushes is set when after makes the whole queue be tried.
	flushes bool
}

// letter is a message with the kind's Message-ID.
func letter(tag, header, body string) string {
	return fmt.Sprintf("From: <a@sender.test>\r\nDate: Sun, 22 Nov 2026 08:00:00 +0000\r\nMessage-ID: <%s@battery.test>\r\n%s\r\n%s", tag, header, body)
}

// smtpIn sends to port 25; mail and rcpts are what follows MAIL FROM: and RCPT TO:.
func smtpIn(mail, header, body string, rcpts ...string) func(*world.World, string) (string, error) {
	return smtpTo("127.0.0.1:25", nil, mail, header, body, rcpts...)
}

// smtpTo sends to a server; first are the commands before MAIL, EHLO by
// default. TAG in a recipient or command stands for the kind's tag.
func smtpTo(address string, first []string, mail, header, body string, rcpts ...string) func(*world.World, string) (string, error) {
	return func(w *world.World, tag string) (string, error) {
		lines := slices.Clone(first)
		if lines == nil {
			lines = []string{"EHLO client.test"}
		}
		lines = append(lines, "MAIL FROM:"+mail)
		for _, r := range rcpts {
			lines = append(lines, "RCPT TO:"+r)
		}
		for i := range lines {
			lines[i] = strings.ReplaceAll(lines[i], "TAG", tag)
		}
		return talk(w, address, append(lines, "DATA", letter(tag, header, body)+".\r\n", "QUIT")...)
	}
}

// sendmailIn submits as user bob.
func sendmailIn(header, body string, args ...string) func(*world.World, string) (string, error) {
	return func(w *world.World, tag string) (string, error) {
		text := strings.ReplaceAll(letter(tag, header, body), "\r\n", "\n")
		r := world.Do(w.As("bob", append([]string{"sendmail"}, args...)...), text)
		return fmt.Sprintf("sendmail exit %d %s%s\n", r.Code, r.Out, r.Err), nil
	}
}

// probe asks for a report on the tag's own address; a probe has no content of
// its sender's.
func probe(w *world.World, tag string) (string, error) {
	r := world.Do(w.As("bob", "sendmail", "-bv", "-f", "alice@mail.example.com", tag+"@sink.test", "reject9@sink.test"), "")
	return fmt.Sprintf("sendmail exit %d %s%s\n", r.Code, r.Out, r.Err), nil
}

func many(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("<u%02d@sink.test>", i))
	}
	return list
}

const (
	toAlice = "To: alice@mail.example.com\r\nSubject: battery\r\n"
	sent    = "status=sent (delivered to maildir)"
)

var mailKinds = []kind{
	{name: "smtp to a local maildir", uses: "local", send: smtpIn("<a@sender.test>", toAlice, "hello\r\n..dot\r\n", "<alice@mail.example.com>"),
		want: []string{sent, "removed", "maildir /home/alice"}},
	{name: "sendmail through an alias", uses: "pickup local", send: sendmailIn("Subject: x\r\n", "hi\r\n", "root"),
		want: []string{"orig_to=<root>", sent, "removed"}},
	{name: "include list, with a forward and a remote member", uses: "local smtp", send: smtpIn("<a@sender.test>", toAlice, "list\r\n", "<team@mail.example.com>"),
		want: []string{"status=sent (forwarded as", "to=<far@sink.test>", "sink from="}},
	{name: "alias to a file", uses: "local", send: smtpIn("<a@sender.test>", toAlice, "From me\r\nto mbox\r\n", "<archive@mail.example.com>"),
		want: []string{"delivered to file: /var/mail/archive", "removed"}},
	{name: "alias to a command", uses: "local", send: smtpIn("<a@sender.test>", toAlice, "piped\r\n", "<prog@mail.example.com>"),
		want: []string{"delivered to command: /bin/cat", "removed"}},
	{name: "command that fails", uses: "local bounce", send: smtpIn("<alice@mail.example.com>", toAlice, "piped\r\n", "<fail@mail.example.com>"),
		want: []string{"status=bounced", "the program says no", "sender non-delivery notification", "maildir /home/alice"}},
	{name: "own forward file with a backslash copy", uses: "local", send: smtpIn("<a@sender.test>", toAlice, "fwd\r\n", "<bob@mail.example.com>"),
		want: []string{"forwarded as", "maildir /home/bob", "maildir /home/alice"}},
	{name: "address extension", uses: "local", send: smtpIn("<a@sender.test>", toAlice, "ext\r\n", "<alice+box@mail.example.com>"),
		want: []string{"to=<alice+box@mail.example.com>", sent, "removed"}},
	{name: "virtual alias", uses: "cleanup", send: smtpIn("<a@sender.test>", toAlice, "v\r\n", "<anna@virtual.test>"),
		want: []string{"orig_to=<anna@virtual.test>", sent, "removed"}},
	{name: "virtual alias to two and to a remote host", uses: "cleanup smtp", send: smtpIn("<a@sender.test>", toAlice, "v\r\n", "<both@virtual.test>", "<info@virtual.test>"),
		want: []string{"orig_to=<both@virtual.test>", "sink from=", "orig_to=<info@virtual.test>", "maildir /home/bob"}},
	{name: "smtp to another host", uses: "smtp", send: smtpIn("<a@sender.test> SIZE=500", toAlice, "out\r\n.. two dots\r\n", "<far@sink.test>"),
		want: []string{"status=sent (250 ", "sink from=", "removed"}},
	{name: "fifty recipients at another host", uses: "smtp qmgr nqmgr oqmgr", send: smtpIn("<a@sender.test>", toAlice, "many\r\n", many(50)...),
		want: []string{"nrcpt=50", "to=<u49@sink.test>", "removed", "sink from="}},
	{name: "mixed recipients", uses: "discard smtp local", send: smtpIn("<a@sender.test>", toAlice, "mixed\r\n", "<alice@mail.example.com>", "<far@sink.test>", "<x@drop.test>"),
		want: []string{sent, "status=sent (250 ", "status=sent (gone)", "removed"}},
	{name: "unknown local user bounces", uses: "pickup bounce", send: sendmailIn("Subject: x\r\n", "hi\r\n", "-f", "alice@mail.example.com", "nosuch@mail.example.com"),
		want: []string{"unknown user: \"nosuch\"", "sender non-delivery notification", "maildir /home/alice", "Undelivered Mail Returned to Sender"}},
	{name: "refused recipient bounces", uses: "smtp bounce", send: smtpIn("<alice@mail.example.com>", toAlice, "no\r\n", "<reject1@sink.test>"),
		want: []string{"status=bounced (host 127.0.0.1[127.0.0.1] said: 550", "sender non-delivery notification", "maildir /home/alice"}},
	{name: "partly refused", uses: "smtp bounce", send: smtpIn("<alice@mail.example.com>", toAlice, "half\r\n", "<far@sink.test>", "<reject2@sink.test>"),
		want: []string{"status=bounced", "status=sent (250 ", "maildir /home/alice"}},
	{name: "error transport", uses: "error bounce pickup", send: sendmailIn("Subject: x\r\n", "err\r\n", "-f", "alice@mail.example.com", "x@err.test"),
		want: []string{"dsn=5.1.2", "status=bounced (no such domain)", "maildir /home/alice"}},
	{name: "retry transport", uses: "error pickup showq", send: sendmailIn("Subject: x\r\n", "wait\r\n", "x@wait.test"),
		want: []string{"dsn=4.1.8", "status=deferred (not yet)"}},
	{name: "dead host is deferred", uses: "smtp bounce", send: smtpIn("<a@sender.test>", toAlice, "dead\r\n", "<x@dead.test>"),
		want: []string{"status=deferred (connect to 127.0.0.1[127.0.0.1]:2599: Connection refused)"}},
	{name: "put off, seen in mailq, requeued, flushed", uses: "showq pickup qmgr nqmgr oqmgr", send: smtpIn("<a@sender.test>", toAlice, "later\r\n", "<later@sink.test>"),
		want: []string{"status=deferred (host 127.0.0.1[127.0.0.1] said: 450"},
		after: func(r *run, tag string) error {
			id := r.lastID(tag)
			if q := r.w.Run("", "mailq"); !strings.Contains(q.Out, id) || !strings.Contains(q.Out, "450 4.2.1 come back later") {
				return fmt.Errorf("mailq: %s%s", q.Out, q.Err)
			}
			r.sink.Open("later@sink.test")
			if s := r.w.Run("", "postsuper", "-r", id); s.Code != 0 || !strings.Contains(s.Err, "Requeued: 1 message") {
				return fmt.Errorf("postsuper -r: %s%s", s.Out, s.Err)
			}
			r.w.Run("", "postqueue", "-f")
			return nil
		}, flushes: true, want2: []string{"sink from=", "status=sent (250 "}},
	{name: "held by a header check, released", uses: "showq cleanup pickup", send: smtpIn("<a@sender.test>", "X-Hold: yes\r\n"+toAlice, "hold\r\n", "<alice@mail.example.com>"),
		want: []string{"hold: header X-Hold: yes from"},
		after: func(r *run, tag string) error {
			id := r.lastID(tag)
			if q := r.w.Run("", "mailq"); !strings.Contains(q.Out, id+"!") {
				return fmt.Errorf("mailq: %s%s", q.Out, q.Err)
			}
			if s := r.w.Run("", "postsuper", "-H", id); s.Code != 0 {
				return fmt.Errorf("postsuper -H: %s%s", s.Out, s.Err)
			}
			r.w.Run("", "postqueue", "-f")
			return nil
		}, flushes: true, want2: []string{sent, "removed"}},
	{name: "header check warns and removes", uses: "cleanup", send: smtpIn("<a@sender.test>", "X-Warn: a\r\nX-Gone: b\r\n"+toAlice, "chk\r\n", "<alice@mail.example.com>"),
		want: []string{"warning: header X-Warn: a from", sent, "removed"}},
	{name: "success notification", uses: "bounce smtp local", send: smtpIn("<alice@mail.example.com> RET=HDRS ENVID=QQ314159", toAlice, "dsn\r\n", "<bob+x@mail.example.com> NOTIFY=SUCCESS ORCPT=rfc822;Bob@X.test", "<far@sink.test> NOTIFY=SUCCESS"),
		want: []string{"sender delivery status notification", "maildir /home/alice", "Successful Mail Delivery Report"}},
	{name: "never notified", uses: "bounce", send: smtpIn("<alice@mail.example.com>", toAlice, "never\r\n", "<reject3@sink.test> NOTIFY=NEVER"),
		want: []string{"status=bounced", "removed"}},
	{name: "eight bits and no subject", uses: "smtp", send: smtpIn("<a@sender.test> BODY=8BITMIME", "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", "grüße\r\n", "<far@sink.test>", "<alice@mail.example.com>"),
		want: []string{"status=sent (250 ", sent, "removed"}},
	{name: "internationalised address", uses: "smtp smtpd", send: smtpIn("<jürgen@sender.test> SMTPUTF8", "Subject: grüße\r\n", "utf8\r\n", "<far@sink.test>"),
		want: []string{"status=sent (250 ", "removed", "sink from="}},
	{name: "chunked", uses: "smtpd", send: func(w *world.World, tag string) (string, error) {
		text := letter(tag, toAlice, "bdat\r\n.\r\n")
		return talk(w, "127.0.0.1:25", "EHLO client.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<alice@mail.example.com>",
			fmt.Sprintf("BDAT %d\r\n%s", 20, text[:20]), fmt.Sprintf("BDAT %d LAST\r\n%s", len(text)-20, text[20:]), "QUIT")
	}, want: []string{sent, "removed"}},
	{name: "large with long lines", uses: "smtp cleanup", send: smtpIn("<a@sender.test>", toAlice, strings.Repeat(strings.Repeat("0123456789", 250)+"\r\n", 200), "<far@sink.test>", "<alice@mail.example.com>"),
		want: []string{"status=sent (250 ", sent, "removed"}},
	{name: "null sender", uses: "qmgr nqmgr oqmgr", send: smtpIn("<>", toAlice, "bounce\r\n", "<alice@mail.example.com>"),
		want: []string{"from=<>", sent, "removed"}},
	{name: "incomplete headers", uses: "pickup", send: sendmailIn("To: alice, Bob B <bob>\r\nCc: far@sink.test\r\nSubject: x\r\n", "hdr\r\n", "alice"),
		want: []string{sent, "removed"}},
	{name: "sendmail -t with Bcc", uses: "pickup", send: sendmailIn("To: alice\r\nBcc: far@sink.test\r\nSubject: x\r\n", "hdr\r\n", "-t"),
		want: []string{sent, "sink from=", "removed"}},
	{name: "canonical sender", uses: "cleanup trivial-rewrite", send: smtpIn("<old@mail.example.com>", "Subject: c\r\n", "canon\r\n", "<alice@mail.example.com>"),
		want: []string{"from=<new@mail.example.com>", sent, "removed"}},
	{name: "recipient bcc", uses: "cleanup", send: smtpIn("<a@sender.test>", "Subject: c\r\n", "bcc\r\n", "<watched@sink.test>"),
		want: []string{"sink from=", "maildir /home/bob", "removed"}},
	{name: "list with an owner bounces to the owner", uses: "local bounce", send: smtpIn("<a@sender.test>", "Subject: c\r\n", "owner\r\n", "<list@mail.example.com>"),
		want: []string{"maildir /home/bob", "Undelivered Mail"}},
	{name: "address probe", uses: "bounce pickup", send: probe,
		want: []string{"Mail Delivery Status Report", "maildir /home/alice"}},
	{name: "virtual mailbox", uses: "virtual", send: smtpIn("<a@sender.test>", toAlice, "virtual\r\nFrom me\r\n", "<Carol+x@vbox.test>"),
		want: []string{sent, "removed", "maildir /home/alice"}},
	{name: "unknown virtual mailbox bounces", uses: "virtual bounce", send: sendmailIn("Subject: x\r\n", "hi\r\n", "-f", "alice@mail.example.com", "nosuch@vbox.test"),
		want: []string{"unknown user: \"nosuch@vbox.test\"", "sender non-delivery notification", "maildir /home/alice"}},
	{name: "two recipients of a command", uses: "pipe", send: smtpIn("<a@sender.test>", toAlice, "pipe\r\nFrom me\r\n..\r\n", "<One+Box@Pipe.test>", "<\"t w o\"@Pipe.test>"),
		want: []string{"status=sent (delivered via filter service (taken for one))", "removed", "maildir /home/bob"}},
	{name: "command that refuses", uses: "pipe bounce", send: smtpIn("<alice@mail.example.com>", toAlice, "pipe\r\n", "<Nobody@pipe.test>"),
		want: []string{"dsn=5.7.2, status=bounced (not for nobody )", "sender non-delivery notification", "maildir /home/alice"}},
	{name: "refused at the door", uses: "smtpd trivial-rewrite proxymap", send: func(w *world.World, tag string) (string, error) {
		return talk(w, "127.0.0.1:25", "EHLO client.test", "VRFY alice", "MAIL FROM:<a@sender.test>", "RCPT TO:<nosuch@mail.example.com>", "RCPT TO:<a b@x.test>", "RCPT TO:<x@err.test>", "RCPT TO:<x@wait.test>", "DATA", "NOOP", "FROB", "RSET", "QUIT")
	}, want: []string{"550 5.1.1 <nosuch@mail.example.com>: Recipient address rejected: User unknown in local recipient table"}},
}
