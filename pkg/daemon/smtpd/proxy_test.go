package smtpd

import (
	"net"
	"os"
	"strings"
	"testing"

	"posthaste/pkg/sys/maillog"
)

// filterServer is a server of ours in front of a scripted content filter.
func filterServer(t *testing.T, rules []string, options ...[2]string) (*Server, *helper, *maillog.Buffer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network:", err)
	}
	t.Cleanup(func() { l.Close() })
	h := newHelper(rules)
	go h.serve(l)
	srv, _, log := newTestServer(t, append(options, [2]string{"smtpd_proxy_filter", l.Addr().String()}))
	srv.queueDir = t.TempDir()
	if err := os.Mkdir(srv.queueDir+"/incoming", 0o700); err != nil {
		t.Fatal(err)
	}
	return srv, h, log
}

// oneMessage sends a message and tells the reply to its end.
func oneMessage(t *testing.T, srv *Server) string {
	t.Helper()
	out := talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>", "C: DATA", "W: Subject: x", "C: .", "C: QUIT")
	_, after, _ := strings.Cut(out, "C: .\n")
	reply, _, _ := strings.Cut(after, "\n")
	return reply
}

// However the filter fails, 2xx is answered only when it answered 2xx to the
// end of the content.
func TestNoSuccessWithoutTheFilter(t *testing.T) {
	speed := [2]string{"smtpd_proxy_options", "speed_adjust"}
	for _, rules := range [][]string{
		{"BANNER = <close>"}, {"BANNER = 554 no"}, {"EHLO = 500 no"}, {"EHLO = <close>"}, {"XFORWARD = 550 no"},
		{"MAIL = 550 no"}, {"MAIL = 354 odd"}, {"MAIL = <close>"}, {"RCPT = 450 no"}, {"RCPT = 354 odd"}, {"RCPT = <close>"},
		{"DATA = 250 odd"}, {"DATA = 554 no"}, {"DATA = <close>"}, {"CONTENT = <close>"}, {". = 354 odd"}, {". = 550 no"}, {". = 450 no"},
		{". = <close>"}, {". = nonsense"}, {". = 2"}, {". = 250-half"},
	} {
		for _, options := range [][][2]string{nil, {speed}} {
			options = append(options, [2]string{"smtpd_proxy_timeout", "1s"})
			t.Run(rules[0], func(t *testing.T) {
				t.Parallel()
				srv, _, _ := filterServer(t, rules, options...)
				if reply := oneMessage(t, srv); strings.HasPrefix(reply, "S: 2") && !strings.HasPrefix(reply, "S: 221 2.7.0") {
					t.Errorf("%v: %s", rules, reply)
				}
			})
		}
	}
	for _, options := range [][][2]string{nil, {speed}} {
		srv, h, _ := filterServer(t, nil, options...)
		if reply := oneMessage(t, srv); reply != "S: 250 2.0.0 filtered" {
			t.Errorf("%v: %s\n%s", options, reply, h.transcript())
		}
	}
}

// A filter that answers 3xx to a recipient is out of step: it gets no more of
// this message. (3.7.11 goes on and answers the end of the data with 354.)
func TestFilterOutOfStep(t *testing.T) {
	srv, h, _ := filterServer(t, []string{"RCPT:1 = 354 odd"})
	out := talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>", "C: RCPT TO:<alice>", "C: QUIT")
	if strings.Count(out, "S: "+proxyTrouble) != 2 || strings.Contains(h.transcript(), "alice") {
		t.Errorf("%s\n%s", out, h.transcript())
	}
}

func TestBadProxyOption(t *testing.T) {
	err := startError(t, "smtpd_proxy_options", "speed_adjust, foo")
	if err == nil || err.Error() != `unknown smtpd_proxy_options value "foo" in "speed_adjust, foo"` {
		t.Error(err)
	}
}

// The replay file cannot be written: the client hears it at once, nothing is
// accepted.
func TestReplayFileFails(t *testing.T) {
	srv, _, log := filterServer(t, nil, [2]string{"smtpd_proxy_options", "speed_adjust"})
	os.Remove(srv.queueDir + "/incoming")
	out := talk(t, srv, "C: EHLO x", "C: MAIL FROM:<a@b.example>", "C: RCPT TO:<bob>", "C: QUIT")
	if !strings.Contains(out, "S: "+proxyTrouble) || !strings.Contains(strings.Join(log.Lines(), "\n"), "proxy speed-adjust log I/O error: No such file or directory") {
		t.Error(out, log.Lines())
	}
}

func TestReplayLog(t *testing.T) {
	l := newReplayLog(t.TempDir())
	defer l.close()
	for round := range 2 {
		if err := l.reset(); err != nil {
			t.Fatal(err)
		}
		for i := range 5000 * (2 - round) {
			l.put('N', []byte(strings.Repeat("x", i%700)))
		}
		if err := l.rewind(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for {
			kind, data, err := l.next()
			if err == errReplayEnd {
				break
			}
			if err != nil || kind != 'N' || len(data) != n%700 {
				t.Fatal(n, kind, len(data), err)
			}
			n++
		}
		if n != 5000*(2-round) {
			t.Error(n)
		}
	}
	if left, _ := os.ReadDir(l.dir); len(left) > 0 {
		t.Error("the file has a name")
	}
}

func TestProxyAddress(t *testing.T) {
	srv, _, _ := newTestServer(t, nil)
	srv.queueDir = "/q"
	for in, want := range map[string]string{"127.0.0.1:10025": "tcp4 127.0.0.1:10025", "inet:host:smtp": "tcp4 host:smtp", "10025": "tcp4 localhost:10025",
		":10025": "tcp4 localhost:10025", "unix:private/f": "unix /q/private/f", "unix:/a": "unix /a"} {
		srv.set.proxyFilter = in
		if network, address := srv.proxyAddress(); network+" "+address != want {
			t.Errorf("%s: %s %s", in, network, address)
		}
	}
}

// FuzzFilterReply feeds the conversation of a content filter: whatever it
// says, success needs its 2xx as the last reply.
func FuzzFilterReply(f *testing.F) {
	f.Add("220 x\r\n250-f\r\n250 XFORWARD NAME\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 done\r\n")
	f.Add("220 x\r\n250 f\r\n250 ok\r\n250 ok\r\n354 go\r\n550-a\r\n\r\n550 b\r\n")
	srv, _, _ := newTestServer(f, [][2]string{{"smtpd_proxy_filter", "unused:1"}})
	srv.log = maillog.Discard()
	f.Fuzz(func(t *testing.T, replies string) {
		ours, theirs := net.Pipe()
		go func() {
			buf := make([]byte, 4096)
			go func() {
				for {
					if _, err := theirs.Read(buf); err != nil {
						return
					}
				}
			}()
			theirs.Write([]byte(replies))
			theirs.Close()
		}()
		p := &proxySink{srv: srv, log: srv.log, greet: []string{"NAME", "x"}}
		p.attach(ours)
		ok := p.greeting() && p.command("MAIL FROM:<>", '2') && p.command("RCPT TO:<a>", '2') && p.command("DATA", '3')
		if !ok {
			p.Abort()
			if p.reply == "" || p.reply[0] != '4' && p.reply[0] != '5' {
				t.Fatalf("%q: refused with %q", replies, p.reply)
			}
			return
		}
		result, _ := p.Finish()
		if (result.Status == 0) != (p.reply[0] == '2') {
			t.Fatalf("%q: status %d, reply %q", replies, result.Status, p.reply)
		}
	})
}
