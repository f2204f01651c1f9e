package interchange

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"posthaste/test/world"
)

// through is a message to local user alice through a server.
func through(address string, first ...string) func(*world.World, string) (string, error) {
	return smtpTo(address, append([]string{"EHLO client.test"}, first...), "<a@sender.test>", toAlice, "hello\r\n", "<alice@mail.example.com>")
}

// lines speaks SMTP without a message.
func lines(address string, say ...string) func(*world.World, string) (string, error) {
	return func(w *world.World, tag string) (string, error) {
		for i := range say {
			say[i] = strings.ReplaceAll(say[i], "TAG", tag)
		}
		return talk(w, address, slices.Clone(say)...)
	}
}

// fetched sends to a site that puts mail off and then asks for the site's mail.
func fetched(site, uses string, ask func(r *run, id string) (string, error), answer string) kind {
	to := "later@" + site
	return kind{name: "put off, asked for by " + answer, uses: uses, send: smtpIn("<a@sender.test>", toAlice, "fetch\r\n", "<"+to+">"),
		want: []string{"status=deferred (host 127.0.0.1[127.0.0.1] said: 450"},
		after: func(r *run, tag string) error {
			r.sink.Open(to)
			id := r.lastID(tag)
			// The agent's entry in the site's list, and the file's place
			// in deferred, come right after the log record.
			for range 100 {
				if q := r.w.Run("", "find", "/var/spool/postfix/deferred", "-name", id); strings.Contains(q.Out, id) {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			said, err := ask(r, id)
			if err != nil {
				return fmt.Errorf("%s: %w", said, err)
			}
			return nil
		}, want2: []string{"sink from=", "status=sent (250 "}}
}

func command(argv ...string) func(r *run, id string) (string, error) {
	return func(r *run, id string) (string, error) {
		line := slices.Clone(argv)
		for i := range line {
			line[i] = strings.ReplaceAll(line[i], "ID", id)
		}
		if q := r.w.Run("", line...); q.Code != 0 || q.Out+q.Err != "" {
			return q.Out + q.Err, fmt.Errorf("exit %d", q.Code)
		}
		return "", nil
	}
}

func etrn(r *run, _ string) (string, error) {
	said, err := talk(r.w, "127.0.0.1:25", "EHLO client.test", "ETRN etrn.test", "ETRN elsewhere.test", "ETRN a b", "QUIT")
	if err == nil && !strings.Contains(said, "250 2.0.0 Queuing started") && !strings.Contains(said, "250 Queuing started") || !strings.Contains(said, "459 ") {
		err = fmt.Errorf("unexpected reply")
	}
	return said, err
}

// twice holds a connection and makes a second.
func twice(w *world.World, tag string) (string, error) {
	first, err := dial(w, "127.0.0.1:2502")
	if err != nil {
		return "", err
	}
	defer first.Close()
	if _, err := first.Read(make([]byte, 100)); err != nil {
		return "", err
	}
	return talk(w, "127.0.0.1:2502", "QUIT")
}

// again sends two messages one after the other to a host whose connections
// are kept.
func again(domain string) func(w *world.World, tag string) (string, error) {
	return func(w *world.World, tag string) (string, error) {
		said := ""
		for i := range 2 {
			to := fmt.Sprintf("%s-%d@%s", tag, i, domain)
			one, err := smtpIn("<a@sender.test>", toAlice, "again\r\n", "<"+to+">")(w, tag)
			said += one
			if err == nil {
				_, err = waitLog(w, to)
			}
			if err != nil {
				return said, err
			}
			time.Sleep(300 * time.Millisecond) // the agent stores the connection after its log record
		}
		return said, nil
	}
}

// qmqp sends by QMQP (spec ipc.md §3.7).
func qmqp(addresses ...string) func(w *world.World, tag string) (string, error) {
	netstring := func(s string) string { return fmt.Sprintf("%d:%s,", len(s), s) }
	return func(w *world.World, tag string) (string, error) {
		said := ""
		for _, address := range addresses {
			conn, err := dial(w, address)
			if err != nil {
				return said, err
			}
			defer conn.Close()
			text := strings.ReplaceAll(letter(tag, toAlice, "qmqp\r\n"), "\r\n", "\n")
			io.WriteString(conn, netstring(netstring(text)+netstring("a@sender.test")+netstring("alice@mail.example.com")))
			reply, err := io.ReadAll(conn)
			said += fmt.Sprintf("S: %s\n", reply)
			if err != nil {
				return said, err
			}
		}
		return said, nil
	}
}

// spawned talks to a command that a socket starts.
func spawned(w *world.World, tag string) (string, error) {
	conn, err := dial(w, "127.0.0.1:2618")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	io.WriteString(conn, "a line\n")
	reply, err := io.ReadAll(conn)
	return string(reply), err
}

const blocked = "554 5.7.1 Service unavailable; Client host [127.0.0.1] blocked using bl.test; listed for the battery"

// serviceKinds try what single daemons do, beside the mail that all carry.
var serviceKinds = []kind{
	{name: "anvil: too many messages", uses: "anvil smtpd", send: lines(port(2501), "EHLO client.test", "MAIL FROM:<a@sender.test>", "RSET", "MAIL FROM:<a@sender.test>", "QUIT"),
		want: []string{"S: 450 4.7.1 Error: too much mail from 127.0.0.1"}, log: []string{"warning: Message delivery request rate limit exceeded: 2 from localhost[127.0.0.1] for service 2501"}},
	{name: "anvil: too many connections", uses: "anvil smtpd", send: twice,
		want: []string{"S: 421 4.7.0 mail.example.com Error: too many connections from 127.0.0.1"}, log: []string{"warning: Connection concurrency limit exceeded: 2 from localhost[127.0.0.1] for service 2502"}},
	{name: "verify: deliverable at the next host", uses: "verify smtpd proxymap smtp", send: smtpTo(port(2503), nil, "<a@sender.test>", toAlice, "v\r\n", "<TAG@sink.test>"),
		want: []string{"status=deliverable (250 ", "status=sent (250 ", "sink from="}},
	{name: "verify: undeliverable at the next host", uses: "verify smtpd", send: lines(port(2503), "EHLO client.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<rejectTAG@sink.test>", "RCPT TO:<rejectTAG@sink.test>", "QUIT"),
		want: []string{"undeliverable address: host 127.0.0.1[127.0.0.1] said: 550"}},
	{name: "verify: no answer from the next host", uses: "verify smtpd", send: lines(port(2503), "EHLO client.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<TAG@dead.test>", "QUIT"),
		want: []string{"S: 450 4.1.1 <", "unverified address: connect to 127.0.0.1[127.0.0.1]:2599: Connection refused"}},
	{name: "TLS and a login", uses: "smtpd tlsmgr", send: smtpTo(port(2504), []string{"EHLO client.test", "AUTH PLAIN " + plain("joe", "secret"), "STARTTLS", "EHLO client.test", "AUTH PLAIN " + plain("joe", "wrong"), "AUTH PLAIN " + plain("joe", "secret")},
		"<a@sender.test>", toAlice, "tls\r\n", "<far@sink.test>"), want: []string{"S: 235 2.7.0 Authentication successful", "sasl_method=PLAIN, sasl_username=joe", "sink from="},
		log: []string{"SASL PLAIN authentication failed"}},
	{name: "TLS and a login at the next host", uses: "smtp tlsmgr", send: smtpIn("<a@sender.test>", toAlice, "auth\r\n", "<far@auth.test>"), want: []string{"auth=joe", "status=sent (250 "}},
	{name: "policy service at a unix socket", uses: "spawn smtpd", send: smtpTo(port(2506), nil, "<a@sender.test>", toAlice, "pol\r\n", "<refuse@sink.test>", "<far@sink.test>"),
		want: []string{"S: 554 5.7.1 <refuse@sink.test>: Recipient address rejected: not by policy of bob", "X-Policy: bob has seen far@sink.test"}},
	{name: "policy service at an inet socket", uses: "spawn smtpd", send: smtpTo(port(2507), nil, "<a@sender.test>", toAlice, "pol\r\n", "<refuse@sink.test>", "<far@sink.test>"),
		want: []string{"S: 554 5.7.1 <refuse@sink.test>: Recipient address rejected: not by policy of bob", "X-Policy: bob has seen far@sink.test"}},
	{name: "spawn over inet", uses: "spawn", send: spawned, want: []string{"bob\nmail\n/var/spool/postfix\n2 one two\ngot a line\n"}},
	{name: "Milter", uses: "smtpd cleanup", send: smtpTo(port(2508), nil, "<a@sender.test>", toAlice, "milter\r\n", "<mreject@sink.test>", "<copy@sink.test>"),
		want: []string{"S: 550 5.7.1 not past the filter", "X-Scanned: by go-milter", "to=<added@sink.test>", "removed"}},
	{name: "Milter for mail that is not SMTP", uses: "cleanup qmqpd", send: qmqp(port(2615)), want: []string{"X-Scanned: by go-milter", sent}},
	{name: "DNS block list", uses: "smtpd", send: lines(port(2509), "EHLO client.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<alice@mail.example.com>", "QUIT"), want: []string{blocked}},
	{name: "postscreen lets pass, dnsblog knows nothing", uses: "dnsblog postscreen proxymap smtpd", send: through(port(2510)), want: []string{sent, "removed"}, log: []string{"PASS NEW [127.0.0.1]"}},
	{name: "postscreen refuses what dnsblog found", uses: "dnsblog postscreen proxymap", send: lines(port(2511), "EHLO client.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<alice@mail.example.com>", "QUIT"),
		want: []string{"550 5.7.1 Service unavailable; client [127.0.0.1] blocked using bl.test"}, log: []string{"addr 127.0.0.1 listed by domain bl.test as 127.0.0.2", "DNSBL rank 2 for [127.0.0.1]"}},
	{name: "postscreen refuses through TLS", uses: "dnsblog postscreen tlsproxy tlsmgr", send: lines(port(2517), "EHLO client.test", "STARTTLS", "EHLO client.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<alice@mail.example.com>", "QUIT"),
		want: []string{"550 5.7.1 Service unavailable; client [127.0.0.1] blocked using bl.test"}},
	{name: "filter before the queue", uses: "smtpd", send: through(port(2512)), want: []string{sent, "removed"}, log: []string{"proxy-accept: END-OF-MESSAGE: 250 2.0.0 Ok: queued as"}},
	{name: "filter after the queue", uses: "pipe qmgr nqmgr oqmgr", send: smtpIn("<a@sender.test>", "X-Filter: yes\r\n"+toAlice, "filter\r\n", "<far@sink.test>"), want: []string{"status=sent (delivered via filter service", "maildir /home/bob"}},
	{name: "smtpd at a unix socket", uses: "smtpd master", send: through("unix:public/smtpdu"), want: []string{sent, "removed"}},
	{name: "LMTP over inet", uses: "lmtp", send: smtpIn("<alice@mail.example.com>", toAlice, "lmtp\r\n..\r\n", "<one@lmtp.test>", "<half@lmtp.test>", "<reject@lmtp.test>"),
		want: []string{"said: 552 5.2.2 <half@", "status=sent (250 ", "sink from=", "maildir /home/alice"}},
	{name: "LMTP at a unix socket", uses: "lmtp", send: smtpIn("<alice@mail.example.com>", toAlice, "lmtp\r\n", "<one@ulmtp.test>", "<half@ulmtp.test>"),
		want: []string{"said: 552 5.2.2 <half@", "status=sent (250 ", "sink from=", "maildir /home/alice"}},
	{name: "proxied tables", uses: "proxymap cleanup trivial-rewrite virtual", send: smtpIn("<a@sender.test>", toAlice, "proxy\r\n", "<dora@pvirtual.test>", "<erin@vbox.test>", "<x@proxied.test>"),
		want: []string{"orig_to=<dora@pvirtual.test>", "to=<erin@vbox.test>", "to=<x@proxied.test>", "sink from=", "removed"}},
	{name: "QMQP over inet and at a unix socket", uses: "qmqpd", send: qmqp(port(628), "unix:public/qmqp"), want: []string{sent, "removed"}},
	{name: "kept connection", uses: "scache smtp", send: again("cache.test"), want: []string{"sink from="}, log: []string{"-1@cache.test>, relay=127.0.0.1[127.0.0.1]:2526, conn_use=2"}},
	{name: "kept TLS connection", uses: "scache tlsproxy tlsmgr smtp", send: again("reuse.test"), want: []string{"sink from="}, log: []string{"-1@reuse.test>, relay=127.0.0.1[127.0.0.1]:2527, conn_use=2"}},
	fetched("etrn.test", "flush smtpd", etrn, "ETRN"),
	fetched("qsite.test", "flush", command("postqueue", "-s", "qsite.test"), "postqueue -s"),
	fetched("qr.test", "flush", command("sendmail", "-qRqr.test"), "sendmail -qR"),
	fetched("qid.test", "flush showq", command("postqueue", "-i", "ID"), "postqueue -i"),
	{name: "cleanup over unix and inet", uses: "cleanup", send: submission, want: []string{sent, "by hand 0", "by hand 1"}},
	{name: "showq over unix and inet", uses: "showq", send: listing, want: []string{"announced: true, ended: true\nannounced: true, ended: true\n"}},
}

// inquiryKinds ask the services over their own protocols.
func inquiryKinds() (list []kind) {
	program := map[string]string{"rewrite": "trivial-rewrite", "proxywrite": "proxymap"}
	for _, name := range []string{"anvil", "dnsblog", "rewrite", "proxymap", "proxywrite", "verify", "flush", "bounce", "scache"} {
		q, uses := inquiries[name], name
		if p := program[name]; p != "" {
			uses = p
		}
		over := "unix and inet"
		if q.inet == "" {
			over = "unix"
		}
		list = append(list, kind{name: name + "'s protocol over " + over, uses: uses, send: q.ask})
	}
	for _, a := range agents {
		over, want := "unix and inet", "over 127.0.0.1"
		if a.port == 0 {
			over, want = "unix", "over unix"
		}
		list = append(list, kind{name: a.name + " asked for a missing message over " + over, uses: a.program, send: missing(a.name, a.port).ask, want: []string{want}})
	}
	return list
}

// kinds is the whole battery, numbered.
var kinds = numbered(slices.Concat(mailKinds, serviceKinds, inquiryKinds()))

func numbered(list []kind) []kind {
	for i := range list {
		list[i].tag = fmt.Sprintf("k%02d", i)
	}
	return list
}
