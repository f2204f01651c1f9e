package smtpd

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// startError is what a Server with one changed parameter says at start.
func startError(t *testing.T, name, value string) error {
	t.Helper()
	m := map[string]string{}
	for _, p := range baseConfig {
		m[p[0]] = p[1]
	}
	m[name] = value
	log, _ := maillog.Capture()
	c := conf.FromMap(m)
	_, err := newServer(c, table.Env{Config: c, Log: log}, log, false)
	return err
}

// FuzzSession feeds a whole conversation and asserts what must hold after any
// error path: no recipient without a sender, no message acknowledged that was
// not handed over complete, no message left open.
func FuzzSession(f *testing.F) {
	for _, s := range readCorpus(f) {
		var b strings.Builder
		for _, step := range s.steps {
			if text, ok := strings.CutPrefix(step, "C: "); ok {
				b.WriteString(text + "\r\n")
			} else if text, ok := strings.CutPrefix(step, "W: "); ok {
				b.WriteString(text + "\r\n")
			}
		}
		f.Add([]byte(b.String()))
	}
	f.Add([]byte("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bob>\r\nBDAT 5\r\nabc\r\nBDAT 3 LAST\r\nx\ny"))
	srv, fake, _ := newTestServer(f, [][2]string{{"smtpd_forbid_unauth_pipelining", "no"}, {"smtpd_authorized_xclient_hosts", "127.0.0.1"},
		{"smtpd_authorized_xforward_hosts", "127.0.0.1"}, {"line_length_limit", "512"}, {"message_size_limit", "2000"}})
	srv.log = maillog.Discard()
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 20000 {
			return
		}
		fake.mu.Lock()
		fake.messages = nil
		fake.mu.Unlock()
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() {
			srv.serve(context.Background(), server, nil)
			close(done)
		}()
		var out strings.Builder
		drained := make(chan struct{})
		go func() {
			io.Copy(&out, client)
			close(drained)
		}()
		client.SetWriteDeadline(time.Now().Add(5 * time.Second))
		client.Write(in)
		client.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // what is not answered by now never is
		<-drained
		client.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("session does not end")
		}
		checkInvariants(t, fake, out.String())
	})
}

func checkInvariants(t *testing.T, fake *fakeCleanup, out string) {
	if strings.Contains(out, "Server local error") {
		t.Fatal("a handler panicked")
	}
	complete := 0
	for _, m := range fake.messages {
		if !m.complete && !m.aborted {
			t.Fatal("a message was left open")
		}
		sender, rcpts, content, ended := 0, 0, false, false
		for _, r := range m.records {
			switch {
			case r[0] == 'S':
				sender++
			case r[0] == 'R' && !content:
				if sender != 1 {
					t.Fatalf("recipient without one sender: %q", m.records)
				}
				rcpts++
			case r[0] == 'M':
				if rcpts == 0 {
					t.Fatalf("content without recipient: %q", m.records)
				}
				content = true
			case r[0] == 'N' || r[0] == 'L':
				if !content || ended {
					t.Fatalf("content at a wrong place: %q", m.records)
				}
				if strings.Contains(r, "\n") {
					t.Fatalf("newline in a record: %q", r)
				}
			case r[0] == 'X':
				ended = true
			}
		}
		if m.complete {
			complete++
			if m.records[len(m.records)-1] != "E" || !ended {
				t.Fatalf("finished without end: %q", m.records)
			}
		}
	}
	if queued := strings.Count(out, "queued as "); queued > complete {
		t.Fatalf("%d messages acknowledged, %d complete", queued, complete)
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"<a@b>", "<<a@b>>", "<@r1,@r2:a@b>", `"foo bar"@b`, "<a@b@c>", "x,y@z", "<>", "<(c)a@b>", "<a@[1.2.3.4]>"} {
		f.Add(s)
	}
	srv, _, _ := newTestServer(f, nil)
	s := &session{srv: srv, ctx: context.Background(), log: maillog.Discard()}
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" {
			return
		}
		addr, ok := s.parseAddress(text, false)
		if ok && addr == "" {
			t.Fatalf("%q: empty recipient accepted", text)
		}
		if _, empty := s.parseAddress(text, true); ok && !empty {
			t.Fatalf("%q", text)
		}
	})
}
