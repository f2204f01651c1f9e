package scheduler

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/test/world"
)

// mailUser is the numeric id of the mail system's owner in a world.
const mailUser = 951

// full tells that the tests are to run at the size of the issue.
func full() bool { return os.Getenv("SCHEDULER_FULL") != "" }

// machine is a running suite whose queue is filled directly.
type machine struct {
	*world.World
	t     testing.TB
	spool *queue.Spool
}

func newMachine(t testing.TB, o world.Options) *machine {
	t.Helper()
	o.Memory = true
	w := world.Test(t, o)
	spool := queue.New(w.Path("/var/spool/postfix"), queue.Options{HashNames: []string{"deferred", "defer"}, HashDepth: 1})
	return &machine{World: w, t: t, spool: spool}
}

func (m *machine) start() {
	m.t.Helper()
	if err := m.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { m.Stop() })
}

// letter is a message to put into a queue.
type letter struct {
	sender  string
	rcpts   []string
	created time.Time
	due     time.Time
}

// put writes a queue file and returns its id.
func (m *machine) put(q string, l letter) string {
	m.t.Helper()
	f, err := m.spool.Create(queue.Incoming, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	w := f.Records()
	var size record.SizeRecord
	w.PutString(record.TypeSize, size.String())
	w.Printf(record.TypeTime, "%d %06d", l.created.Unix(), l.created.Nanosecond()/1000)
	w.PutAttr("create_time", fmt.Sprint(l.created.Unix()))
	w.PutAttr("rewrite_context", "local")
	w.PutString(record.TypeFrom, l.sender)
	for _, r := range l.rcpts {
		w.PutString(record.TypeOrigRcpt, r)
		w.PutString(record.TypeRcpt, r)
	}
	w.PutString(record.TypeMessage, "")
	size.DataOffset = w.Offset()
	for _, line := range []string{"From: <" + l.sender + ">", "Subject: order", "", "body"} {
		w.PutString(record.TypeNormal, line)
	}
	size.ContentSize, size.Recipients = w.Offset()-size.DataOffset, int64(len(l.rcpts))
	w.PutString(record.TypeExtracted, "")
	w.PutString(record.TypeEnd, "")
	if err := w.Flush(); err != nil {
		m.t.Fatal(err)
	}
	f.WriteAt([]byte(size.String()), 2)
	if err := os.Chown(f.Path(), mailUser, mailUser); err != nil {
		m.t.Fatal(err)
	}
	if q == queue.Incoming {
		err = f.Commit()
	} else {
		if !l.due.IsZero() { // before a scan can see it
			os.Chtimes(f.Path(), l.due, l.due)
		}
		f.Chmod(0o700)
		f.Close()
		if err = m.spool.Move(queue.Incoming, q, f.ID); err == nil {
			m.own(filepath.Dir(m.spool.Path(q, f.ID)))
		}
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return f.ID
}

// own gives a hash directory to the mail system.
func (m *machine) own(dir string) {
	if err := os.Chown(dir, mailUser, mailUser); err != nil {
		m.t.Fatal(err)
	}
}

// trigger sends request bytes to the queue manager.
func (m *machine) trigger(requests string) {
	m.t.Helper()
	c, err := net.Dial("unix", m.Path("/var/spool/postfix/public/qmgr"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(requests + "\x00")); err != nil {
		m.t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
}

// wait polls until a condition holds.
func (m *machine) wait(patience time.Duration, what string, f func() bool) {
	m.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// quiet waits until the log says nothing new for a moment, and returns it.
func (m *machine) quiet() string {
	for last := ""; ; {
		log := m.Syslog()
		if log == last {
			return log
		}
		last = log
		time.Sleep(200 * time.Millisecond)
	}
}

// files counts what is in a queue.
func (m *machine) files(q string) (n int) {
	for _, err := range m.spool.Scan(q) {
		if err == nil {
			n++
		}
	}
	return n
}

// sink is a delivery agent that the test plays. It remembers the order of the
// requests and accepts everything.
type sink struct {
	m     *machine
	gate  chan struct{}    // deliveries end when it is closed
	pause time.Duration    // that a delivery takes
	rest  time.Duration    // of a process between two deliveries
	fails func(n int) bool // the nth request finds the site in trouble; nil: none
	mu    sync.Mutex
	order []*deliver.Request
	times []time.Time // of the requests
}

// sink listens as transport name with as many processes.
func (m *machine) sink(name string, processes int, pause time.Duration, more ...func(*sink)) *sink {
	m.t.Helper()
	path := m.Path("/var/spool/postfix/private/" + name)
	l, err := net.Listen("unix", path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Close() })
	if err := os.Chmod(path, 0o666); err != nil {
		m.t.Fatal(err)
	}
	s := &sink{m: m, gate: make(chan struct{}), pause: pause}
	for _, f := range more {
		f(s)
	}
	for range processes {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				s.serve(c)
				time.Sleep(s.rest)
			}
		}()
	}
	return s
}

func (s *sink) open() { close(s.gate) }

func (s *sink) serve(c net.Conn) {
	defer c.Close()
	out := attr.NewWriter(c, attr.Null)
	out.Str("protocol", deliver.Protocol).Send()
	r, err := deliver.ReadRequest(attr.NewReader(c, attr.Null, "sink"))
	if err != nil {
		return
	}
	s.mu.Lock()
	failed := s.fails != nil && s.fails(len(s.order))
	s.order = append(s.order, r)
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	f, err := s.m.spool.Open(queue.Active, r.ID, os.O_RDWR)
	if err != nil {
		s.m.t.Errorf("agent: %v", err)
		return
	}
	defer f.Close()
	if err := queue.Lock(f, false); err != nil {
		s.m.t.Errorf("agent: lock: %v", err)
		return
	}
	<-s.gate
	time.Sleep(s.pause)
	if failed {
		deliver.WriteReply(out, deliver.Reply{Status: deliver.Retry, Trouble: dsn.Status{Code: "4.4.1", Action: "delayed", Reason: "no answer"}})
		return
	}
	for _, rcpt := range r.Recipients {
		if err := s.m.spool.Mark(f, rcpt.Offset); err != nil {
			s.m.t.Errorf("agent: mark: %v", err)
		}
	}
	deliver.WriteReply(out, deliver.Reply{Status: deliver.Done})
}

// requests is what arrived so far.
func (s *sink) requests() []*deliver.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*deliver.Request(nil), s.order...)
}

// recipients is the number of recipients in the requests that arrived.
func (s *sink) recipients() (n int) {
	for _, r := range s.requests() {
		n += len(r.Recipients)
	}
	return n
}

// settled waits until no more requests arrive, and returns the number of recipients.
func (s *sink) settled() int {
	s.m.t.Helper()
	last, since := -1, time.Now()
	s.m.wait(30*time.Second, "requests", func() bool {
		if n := s.recipients(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 1500*time.Millisecond
	})
	return last
}

// count is the number of requests that arrived.
func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.order)
}

// addresses makes n addresses spread over domains "KIND-<i>.TOP".
func addresses(kind, top string, n, domains int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("u%d@%s-%d.%s", i, kind, i%domains, top)
	}
	return out
}

func isList(r *deliver.Request) bool { return strings.HasPrefix(r.Sender, "list@") }
