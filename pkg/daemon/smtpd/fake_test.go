package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/flush"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// fakeRewrite answers as trivial-rewrite does for the domains of baseConfig.
type fakeRewrite struct{}

func (fakeRewrite) Rewrite(_ context.Context, _, addr string) (string, error) {
	if addr == "" || strings.Contains(addr, "@") {
		return addr, nil
	}
	return addr + "@mail.example.com", nil
}

func (fakeRewrite) Resolve(_ context.Context, _, addr string) (rewrite.Reply, error) {
	i := strings.LastIndexByte(addr, '@')
	r := rewrite.Reply{Transport: "smtp", Recipient: addr, Flags: rewrite.ClassDefault}
	if i < 0 {
		r.Recipient = addr + "@mail.example.com"
		i = len(addr)
	}
	local, domain := r.Recipient[:i], r.Recipient[i+1:]
	if strings.ContainsAny(local, "@%") {
		r.Flags |= rewrite.Routed
	}
	if domain == "mail.example.com" && strings.HasSuffix(local, "%elsewhere.example") {
		r.Recipient, domain = strings.TrimSuffix(local, "%elsewhere.example")+"@elsewhere.example", "elsewhere.example"
		r.Flags |= rewrite.Routed
	}
	if domain == "mail.example.com" && strings.HasSuffix(local, "@elsewhere.example") {
		r.Recipient, domain = local, "elsewhere.example"
		r.Flags |= rewrite.Routed
	}
	switch {
	case domain == "" || strings.Contains(domain, "..") || domain == "[1.2.3]" || addr == "a b@c.example":
		return rewrite.Reply{Flags: rewrite.Error}, nil
	case strings.HasPrefix(domain, "error."):
		return rewrite.Reply{Flags: rewrite.Fail}, nil
	}
	set := func(class rewrite.Flags) { r.Flags = r.Flags&^rewrite.Class | class }
	switch domain {
	case "mail.example.com", "localhost", "[127.0.0.1]":
		set(rewrite.ClassLocal)
		r.Transport = "local"
	case "relay.example":
		set(rewrite.ClassRelay)
	case "virt.example":
		set(rewrite.ClassVirtual)
		r.Transport = "virtual"
	case "alias.example":
		set(rewrite.ClassAlias)
		r.Transport, r.NextHop = "error", "5.1.1 User unknown in virtual alias table"
	}
	return r, nil
}

// fakeCleanup collects messages.
type fakeCleanup struct {
	mu       sync.Mutex
	messages []*fakeMessage
	next     int
	result   cleanup.Result
	refuse   bool // nothing can be opened
	failRec  int  // the n-th record of a message fails, 0 is none
}

type fakeMessage struct {
	owner    *fakeCleanup
	id       string
	flags    cleanup.Flags
	records  []string
	complete bool
	aborted  bool
}

func (f *fakeCleanup) open(_ context.Context, flags cleanup.Flags) (messageSink, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse {
		return nil, errors.New("refused")
	}
	f.next++
	m := &fakeMessage{owner: f, id: fmt.Sprintf("ABCDEF%X", f.next), flags: flags}
	f.messages = append(f.messages, m)
	return m, nil
}

func (m *fakeMessage) ID() string { return m.id }
func (m *fakeMessage) Rec(t record.Type, data []byte) error {
	if m.complete || m.aborted {
		panic("record after the end of a message")
	}
	if n := m.owner.failRec; n > 0 && len(m.records) >= n {
		return errors.New("broken pipe")
	}
	m.records = append(m.records, string(rune(t))+string(data))
	return nil
}
func (m *fakeMessage) Finish() (cleanup.Result, error) {
	if m.complete || m.aborted {
		panic("finished twice")
	}
	m.complete = true
	return m.owner.result, nil
}
func (m *fakeMessage) Abort() {
	if m.complete || m.aborted {
		panic("aborted after the end")
	}
	m.aborted = true
}

// newTestServer makes a Server of a configuration, with everything around it
// faked.
func newTestServer(t testing.TB, options [][2]string) (*Server, *fakeCleanup, *maillog.Buffer) {
	t.Helper()
	m := map[string]string{"queue_directory": t.TempDir()}
	for _, p := range append(baseConfig[:len(baseConfig):len(baseConfig)], options...) {
		m[p[0]] = p[1]
	}
	log, lines := maillog.Capture()
	c := conf.FromMap(m)
	srv, err := newServer(c, table.Env{Config: c, Log: log}, log, false)
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeCleanup{}
	zone := corpusZone()
	srv.dns, srv.native = zone, zone
	srv.rewrite, srv.open = fakeRewrite{}, fake.open
	srv.service = "smtp"
	srv.queueDir = "/"
	srv.flush = func(_ context.Context, site string) (flush.Status, error) {
		if site == "x.example" || site == "[1.2.3.4]" {
			return flush.Denied, nil
		}
		return flush.OK, nil
	}
	srv.loadRewriteClients()
	return srv, fake, lines
}

// connect starts a session over loopback TCP, which has the buffering that
// the pipelining checks look at; done is closed at its end.
func connect(t testing.TB, srv *Server) (net.Conn, chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network:", err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		srv.serve(context.Background(), server, nil)
		close(done)
	}()
	return client, done
}

func waitFor(t testing.TB, done chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the session does not end")
	}
}
