package qmgr

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

// suite is a spool with services around it that stand for the other programs. Mail
// to domain "x.T" goes to transport T.
type suite struct {
	t     testing.TB
	dir   string
	spool *queue.Spool
	log   *maillog.Logger
	lines *maillog.Buffer
	set   map[string]string

	mu        sync.Mutex
	delivered map[string]int // recipient → times an agent had it
	returned  map[string]int // recipient → times it stood in a notice
	requests  []*deliver.Request
	notices   []string
	refuse    map[string]bool // services that say "not done"
	busy      int             // agents with a request
}

func newSuite(t testing.TB) *suite {
	dir, err := os.MkdirTemp("", "qmgr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &suite{t: t, dir: dir, delivered: make(map[string]int), returned: make(map[string]int), refuse: make(map[string]bool)}
	s.log, s.lines = maillog.Capture()
	for _, d := range []string{"private", "public", "incoming", "active", "deferred", "hold", "corrupt", "bounce", "defer", "trace", "flush"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0700); err != nil {
			t.Fatal(err)
		}
	}
	s.spool = s.open(queue.FS{})
	s.set = map[string]string{"myhostname": "mx.test", "queue_directory": dir, "inet_interfaces": "loopback-only"}
	s.serve("rewrite", rewrite.Protocol, s.rewrite)
	for _, name := range []string{"smtp", "retry", "error", "slow"} {
		s.serve(name, deliver.Protocol, func(in *attr.Reader, out *attr.Writer) { s.agent(name, in, out) })
	}
	for _, name := range []string{"bounce", "defer", "trace"} {
		s.serve(name, bounce.Protocol, func(in *attr.Reader, out *attr.Writer) { s.bounce(name, in, out) })
	}
	return s
}

func (s *suite) open(f queue.FS) *queue.Spool {
	return queue.New(s.dir, queue.Options{HashNames: []string{"deferred", "defer"}, HashDepth: 1, FS: f, Log: s.log})
}

func (s *suite) serve(name, protocol string, f func(*attr.Reader, *attr.Writer)) {
	l, err := net.Listen("unix", filepath.Join(s.dir, "private", name))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				out := attr.NewWriter(c, attr.Null)
				out.Str("protocol", protocol).Send()
				f(attr.NewReader(c, attr.Null, name), out)
			}()
		}
	}()
}

func (s *suite) rewrite(in *attr.Reader, out *attr.Writer) {
	for {
		q, err := rewrite.ReadRequest(in)
		if err != nil {
			return
		}
		if q.Kind == rewrite.RequestRewrite {
			rewrite.WriteRewritten(out, q.Address)
			continue
		}
		domain := domainOf(q.Address)
		r := rewrite.Reply{Transport: strings.TrimPrefix(filepath.Ext(domain), "."), NextHop: domain, Recipient: q.Address, Flags: rewrite.ClassDefault}
		switch domain {
		case "fail":
			r = rewrite.Reply{Transport: "x", NextHop: "x", Recipient: "x", Flags: rewrite.Fail}
		case "bad":
			r.Flags |= rewrite.Error
		case "mx.test":
			r.Transport, r.Flags = "smtp", rewrite.ClassLocal
		}
		if r.Transport == "" {
			r.Transport = "smtp"
		}
		rewrite.WriteReply(out, r)
	}
}

// agent delivers by marking recipients; retry defers and error bounces them.
func (s *suite) agent(name string, in *attr.Reader, out *attr.Writer) {
	r, err := deliver.ReadRequest(in)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.busy++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.busy--
		s.mu.Unlock()
	}()
	f, err := s.spool.Open(queue.Active, r.ID, os.O_RDWR)
	if err != nil {
		deliver.WriteReply(out, deliver.Reply{Status: deliver.Retry})
		return
	}
	defer f.Close()
	if err := queue.Lock(f, false); err != nil {
		return
	}
	reply := deliver.Reply{}
	for _, rcpt := range r.Recipients {
		st := dsn.Status{}
		st.Code, st.Reason = dsn.Split(r.NextHop, "4.0.0")
		switch {
		case name == "retry":
			s.append(queue.Defer, r.ID, rcpt, st)
			reply.Status = deliver.Retry
			continue
		case name == "error":
			s.append(queue.Bounce, r.ID, rcpt, st)
		case strings.HasPrefix(rcpt.Address, "down"):
			reply.Status, reply.Trouble = deliver.Retry, dsn.Status{Code: "4.4.1", Reason: "refused"}
			s.append(queue.Defer, r.ID, rcpt, st)
			continue
		case strings.HasPrefix(rcpt.Address, "crash"):
			return
		case strings.HasPrefix(rcpt.Address, "corrupt"):
			f.Chmod(0400)
			reply.Status = deliver.Retry
			continue
		default:
			s.mu.Lock()
			s.delivered[rcpt.Address]++
			s.mu.Unlock()
		}
		if err := s.spool.Mark(f, rcpt.Offset); err != nil {
			s.t.Errorf("mark: %v", err)
		}
	}
	deliver.WriteReply(out, reply)
}

func (s *suite) append(service, id string, rcpt deliver.Recipient, st dsn.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.spool.OpenLog(service, id, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "\nrecipient=%s\noffset=%d\nstatus=%s\nreason=%s\n\n", rcpt.Address, rcpt.Offset, st.Code, st.Reason)
}

// bounce stands for bounce, defer and trace.
func (s *suite) bounce(service string, in *attr.Reader, out *attr.Writer) {
	r, err := bounce.ReadRequest(in)
	if err != nil {
		return
	}
	if r.Kind == bounce.Append {
		s.mu.Lock()
		refuse := s.refuse["append"]
		s.mu.Unlock()
		if refuse {
			bounce.WriteReply(out, -1)
			return
		}
		s.append(service, r.ID, r.Recipient, r.Status)
		bounce.WriteReply(out, 0)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices = append(s.notices, fmt.Sprintf("%s %d", service, r.Kind))
	if s.refuse[service] {
		bounce.WriteReply(out, -1)
		return
	}
	text, _ := os.ReadFile(s.spool.Path(service, r.ID))
	for line := range strings.Lines(string(text)) {
		if addr, ok := strings.CutPrefix(strings.TrimSpace(line), "recipient="); ok {
			s.returned[addr]++
		}
	}
	if r.Kind != bounce.Warn {
		s.spool.Remove(service, r.ID)
	}
	bounce.WriteReply(out, 0)
}

// message puts a message into a queue. Options are further envelope records.
func (s *suite) message(q, sender string, created time.Time, rcpts []string, records ...string) string {
	s.t.Helper()
	f, err := s.spool.Create(queue.Incoming, 0600)
	if err != nil {
		s.t.Fatal(err)
	}
	w := f.Records()
	var size record.SizeRecord
	w.PutString(record.TypeSize, size.String())
	w.Printf(record.TypeTime, "%d 0", created.Unix())
	w.PutAttr("create_time", fmt.Sprint(created.Unix()))
	w.PutString(record.TypeFrom, sender)
	for _, r := range records {
		w.PutString(record.Type(r[0]), r[1:])
	}
	for _, r := range rcpts {
		w.PutString(record.TypeRcpt, r)
	}
	w.PutString(record.TypeMessage, "")
	size.DataOffset = w.Offset()
	w.PutString(record.TypeNormal, "body")
	size.ContentSize, size.Recipients = w.Offset()-size.DataOffset, int64(len(rcpts))
	w.PutString(record.TypeExtracted, "")
	w.PutString(record.TypeEnd, "")
	w.Flush()
	f.WriteAt([]byte(size.String()), 2)
	if err := f.Commit(); err != nil {
		s.t.Fatal(err)
	}
	if q != queue.Incoming {
		s.spool.Move(queue.Incoming, q, f.ID)
	}
	return f.ID
}

// start runs a queue manager until the returned function is called.
func (s *suite) start(spool *queue.Spool) (m *manager, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	m = newManager(conf.FromMap(s.set), s.log, spool, nil, false)
	done := make(chan struct{})
	go func() {
		m.run(ctx)
		close(done)
	}()
	<-m.started
	return m, func() { cancel(); <-done }
}

// files counts what is in a queue.
func (s *suite) files(q string) (n int) {
	for _, err := range s.spool.Scan(q) {
		if err == nil {
			n++
		}
	}
	return n
}

// wait waits until a condition holds.
func (s *suite) wait(what string, f func() bool) {
	s.t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: timeout\n%s", what, strings.Join(s.lines.Lines(), "\n"))
		}
	}
}

func (s *suite) settled(q string, n int) func() bool {
	return func() bool { return s.files(queue.Incoming)+s.files(queue.Active) == 0 && s.files(q) == n }
}

func (s *suite) logged(text string) bool {
	return strings.Contains(strings.Join(s.lines.Lines(), "\n"), text)
}

func (s *suite) wantLog(text string) {
	s.t.Helper()
	s.wait("log line "+text, func() bool { return s.logged(text) })
}

func TestDeliveryAndRemoval(t *testing.T) {
	s := newSuite(t)
	m, stop := s.start(s.spool)
	defer stop()
	id := s.message(queue.Incoming, "me@mx.test", time.Now(), []string{"a@x.smtp", "b@x.smtp", "c@y.smtp"})
	m.trigger([]byte("W"))
	s.wantLog(id + ": removed")
	s.wantLog(id + ": from=<me@mx.test>, size=6, nrcpt=3 (queue active)")
	if s.delivered["a@x.smtp"] != 1 || s.delivered["c@y.smtp"] != 1 || len(s.requests) != 2 {
		t.Errorf("%v, %d requests", s.delivered, len(s.requests))
	}
	if r := s.requests[0]; r.Flags != 3 || r.Queue != "active" || r.RewriteContext != "local" || r.DataSize != 6 {
		t.Errorf("%+v", r)
	}
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		name, sender string
		age          time.Duration
		rcpts        []string
		records      []string
		set          string
		queue        string // where the file ends up; "" = removed
		log          string
		notices      string
	}{
		{name: "deferred", sender: "s@t", rcpts: []string{"a@x.retry", "b@x.smtp"}, queue: queue.Deferred},
		{name: "bounced", sender: "s@t", rcpts: []string{"a@x.error"}, notices: "bounce 1", log: ": removed"},
		{name: "verp", sender: "s@t", rcpts: []string{"a@x.error"}, records: []string{"V+="}, notices: "bounce 3"},
		{name: "expired", sender: "s@t", age: 6 * 24 * time.Hour, rcpts: []string{"a@x.retry"}, notices: "defer 1", log: "from=<s@t>, status=expired, returned to sender"},
		{name: "expired notice", sender: "", age: time.Hour, set: "bounce_queue_lifetime=60s", rcpts: []string{"a@x.retry"}, notices: "defer 1", log: "from=<>, status=expired, returned to sender"},
		{name: "warned", sender: "s@t", rcpts: []string{"a@x.retry"}, records: []string{"W            100"}, notices: "defer 2", queue: queue.Deferred},
		{name: "resolver failure", sender: "s@t", rcpts: []string{"a@fail"}, queue: queue.Deferred},
		{name: "bad address", sender: "s@t", rcpts: []string{"a@bad"}, notices: "bounce 1"},
		{name: "null recipient", sender: "s@t", rcpts: []string{""}, notices: "bounce 1"},
		{name: "double bounce", sender: "", rcpts: []string{"double-bounce@mx.test"}, log: "dsn=2.0.0, status=sent (undeliverable postmaster notification discarded)"},
		{name: "deferred transport", sender: "s@t", set: "defer_transports=smtp", rcpts: []string{"a@x.smtp"}, queue: queue.Deferred},
		{name: "no transport", sender: "s@t", rcpts: []string{"a@x.nosuch"}, queue: queue.Deferred, log: "warning: connect to transport private/nosuch: No such file or directory"},
		{name: "agent crash", sender: "s@t", rcpts: []string{"crash@x.smtp"}, queue: queue.Deferred, log: "warning: private/smtp socket: malformed response"},
		{name: "agent finds damage", sender: "s@t", rcpts: []string{"corrupt@x.smtp"}, queue: queue.Corrupt, log: `from queue "active" to queue "corrupt"`},
		{name: "trace", sender: "s@t", rcpts: []string{"a@x.smtp"}, records: []string{"Atrace_flags=1024"}, notices: "trace 5"},
		{name: "redirect", sender: "s@t", rcpts: []string{"a@x.error", "b@x.error"}, records: []string{">r@x.smtp"}, log: ": removed"},
		{name: "filter", sender: "s@t", rcpts: []string{"a@x.error", "b@x.error"}, records: []string{"Lsmtp:hop"}, log: ": removed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSuite(t)
			if k, v, ok := strings.Cut(c.set, "="); ok {
				s.set[k] = v
			}
			id := s.message(queue.Incoming, c.sender, time.Now().Add(-c.age), c.rcpts, c.records...)
			_, stop := s.start(s.spool)
			defer stop()
			if c.queue != "" {
				s.wait("file in "+c.queue, s.settled(c.queue, 1))
			} else {
				s.wantLog(id + ": removed")
			}
			if c.log != "" {
				s.wantLog(c.log)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := strings.Join(s.notices, ","); got != c.notices {
				t.Errorf("notices %q, want %q", got, c.notices)
			}
			if c.name == "redirect" && (len(s.delivered) != 1 || s.delivered["r@x.smtp"] != 1) || c.name == "filter" && (len(s.requests) != 1 || s.requests[0].NextHop != "hop") {
				t.Errorf("%v %+v", s.delivered, s.requests)
			}
			if c.name == "warned" {
				if data, _ := os.ReadFile(s.spool.Path(queue.Deferred, id)); !strings.Contains(string(data), "W\x0f             -1") {
					t.Error("the notice is not marked as sent")
				}
			}
		})
	}
}

// The retry transport missing: the queue manager writes to the defer log itself.
func TestDeferredByItself(t *testing.T) {
	s := newSuite(t)
	os.Remove(filepath.Join(s.dir, "private/retry"))
	s.message(queue.Incoming, "s@t", time.Now(), []string{"a@x.nosuch"})
	_, stop := s.start(s.spool)
	defer stop()
	s.wait("deferred", s.settled(queue.Deferred, 1))
	s.wantLog("to=<a@x.nosuch>, relay=none, delay=0")
	s.wantLog("dsn=4.3.0, status=deferred (mail transport unavailable)")
	if s.files(queue.Defer) != 1 {
		t.Error("no defer log")
	}
}

func TestRefusedNoticeKeepsTheMessage(t *testing.T) {
	s := newSuite(t)
	s.refuse["bounce"] = true
	s.message(queue.Incoming, "s@t", time.Now(), []string{"a@x.error"})
	_, stop := s.start(s.spool)
	defer stop()
	s.wait("deferred", s.settled(queue.Deferred, 1))
	s.wantLog("status=deferred (bounce failed)")
}

// The scheduler is asked again for what is deferred: trigger D, with and without A.
func TestDeferredScan(t *testing.T) {
	s := newSuite(t)
	id := s.message(queue.Deferred, "s@t", time.Now(), []string{"a@x.smtp"})
	s.spool.SetTime(queue.Deferred, id, time.Now().Add(time.Hour))
	m, stop := s.start(s.spool)
	defer stop()
	m.trigger([]byte("D"))
	time.Sleep(50 * time.Millisecond)
	if s.files(queue.Deferred) != 1 {
		t.Fatal("time stamp not respected")
	}
	m.trigger([]byte("FADI"))
	s.wantLog(id + ": removed")
}

func TestForcedExpiry(t *testing.T) {
	s := newSuite(t)
	id := s.message(queue.Deferred, "s@t", time.Now(), []string{"a@x.smtp", "b@x.smtp"})
	// Only a stands in the log of the last attempt.
	f, _ := s.spool.Open(queue.Deferred, id, os.O_RDWR)
	data, _ := os.ReadFile(f.Name())
	s.append(queue.Defer, id, deliver.Recipient{Address: "a@x.smtp", Offset: int64(strings.Index(string(data), "R\x08a@x"))}, dsn.Status{Code: "4.4.1"})
	f.Chmod(0710)
	f.Close()
	_, stop := s.start(s.spool)
	defer stop()
	s.wantLog("from=<s@t>, status=force-expired, returned to sender")
	s.wantLog(id + ": removed")
	if s.returned["a@x.smtp"] != 1 || s.returned["b@x.smtp"] != 1 || len(s.delivered) != 0 {
		t.Errorf("returned %v, delivered %v", s.returned, s.delivered)
	}
}

func TestStillBeingDelivered(t *testing.T) {
	s := newSuite(t)
	id := s.message(queue.Active, "s@t", time.Now(), []string{"a@x.smtp"})
	f, _ := s.spool.Open(queue.Active, id, os.O_RDWR)
	if err := queue.Lock(f, false); err != nil {
		t.Fatal(err)
	}
	_, stop := s.start(s.spool)
	defer stop()
	s.wantLog(id + ": skipped, still being delivered")
	s.wait("back in incoming", func() bool {
		info, err := os.Stat(s.spool.Path(queue.Incoming, id))
		return err == nil && time.Until(info.ModTime()) > 50*time.Second
	})
	f.Close()
}

func TestCorruptFile(t *testing.T) {
	s := newSuite(t)
	id := s.message(queue.Incoming, "s@t", time.Now(), []string{"a@x.smtp"})
	os.Truncate(s.spool.Path(queue.Incoming, id), 150)
	_, stop := s.start(s.spool)
	defer stop()
	s.wait("corrupt", s.settled(queue.Corrupt, 1))
	s.wantLog(fmt.Sprintf(`warning: saving corrupt file "%s" from queue "active" to queue "corrupt"`, id))
}

func TestManyRecipientsInBatches(t *testing.T) {
	s := newSuite(t)
	s.set["qmgr_message_active_limit"], s.set["qmgr_message_recipient_limit"], s.set["qmgr_message_recipient_minimum"] = "20", "20", "5"
	s.set["default_recipient_limit"], s.set["default_recipient_refill_limit"], s.set["smtp_destination_recipient_limit"] = "30", "7", "3"
	var rcpts []string
	for i := range 500 {
		rcpts = append(rcpts, fmt.Sprintf("u%d@h%d.smtp", i, i%9))
	}
	id := s.message(queue.Incoming, "s@t", time.Now(), rcpts)
	_, stop := s.start(s.spool)
	defer stop()
	s.wantLog(id + ": removed")
	for _, r := range rcpts {
		if s.delivered[r] != 1 {
			t.Errorf("%s: %d deliveries", r, s.delivered[r])
		}
	}
}

func TestManyMessages(t *testing.T) {
	s := newSuite(t)
	s.set["qmgr_message_active_limit"] = "10"
	m, stop := s.start(s.spool)
	defer stop()
	for i := range 200 {
		s.message(queue.Incoming, "s@t", time.Now(), []string{fmt.Sprintf("u%d@h.smtp", i)})
		if i%10 == 0 {
			m.trigger([]byte("W"))
		}
	}
	m.trigger([]byte("W"))
	s.wait("all delivered", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.delivered) == 200 && s.files(queue.Active)+s.files(queue.Incoming) == 0
	})
}

// A crash at any file operation of the queue manager loses nobody: each recipient is
// delivered or returned in the end.
func TestCrashPoints(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the queue manager some dozen times")
	}
	for point := 0; ; point++ {
		s := newSuite(t)
		rcpts := []string{"a@x.smtp", "b@x.error", "c@y.smtp", "d@x.retry"}
		s.message(queue.Incoming, "s@t", time.Now().Add(-6*24*time.Hour), rcpts)
		s.message(queue.Deferred, "s@t", time.Now().Add(-6*24*time.Hour), []string{"e@x.smtp"})
		crashed := make(chan struct{})
		_, stop := s.start(s.open(crashing(point, crashed)))
		done := func() bool {
			return s.files(queue.Incoming)+s.files(queue.Active)+s.files(queue.Deferred) == 0
		}
		reached := false
		s.wait("crash or end", func() bool {
			select {
			case <-crashed:
				reached = true
			default:
			}
			return reached || done()
		})
		stop()
		// What is still being delivered would be left alone for a minute.
		s.wait("agents", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.busy == 0
		})
		// The goroutines of the crashed manager hold locks for a moment longer.
		s.wait("locks", s.unlocked)
		// One of them may still take a lock after that; the next start finds it gone.
		for try := 1; ; try++ {
			_, stop = s.start(s.spool)
			ended := s.within(3*time.Second, done)
			if !ended && try == 4 {
				s.wait("end", done)
			}
			stop()
			if ended {
				break
			}
		}
		s.mu.Lock()
		for _, r := range append(slices.Clone(rcpts), "e@x.smtp") {
			if s.delivered[r]+s.returned[r] == 0 {
				t.Errorf("crash point %d: %s is lost", point, r)
			}
		}
		s.mu.Unlock()
		if !reached {
			t.Logf("%d crash points", point)
			return
		}
		if point > 500 {
			t.Fatal("no end")
		}
	}
}

// within tells whether a condition comes to hold in time.
func (s *suite) within(patience time.Duration, f func() bool) bool {
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// unlocked tells whether every message could be locked now.
func (s *suite) unlocked() bool {
	for _, q := range []string{queue.Incoming, queue.Active, queue.Deferred} {
		for id := range s.spool.Scan(q) {
			f, err := s.spool.Open(q, id, os.O_RDWR)
			if err != nil {
				continue
			}
			err = queue.Lock(f, true)
			f.Close()
			if err != nil {
				return false
			}
		}
	}
	return true
}

var errCrashed = errors.New("crashed")

// crashing is a file system that stops to work at its n-th operation.
func crashing(n int, crashed chan struct{}) queue.FS {
	var mu sync.Mutex
	dead := func() bool {
		mu.Lock()
		defer mu.Unlock()
		n--
		if n == -1 {
			close(crashed)
		}
		return n < 0
	}
	return queue.FS{
		OpenFile: func(path string, flag int, perm fs.FileMode) (*os.File, error) {
			if dead() {
				return nil, errCrashed
			}
			return os.OpenFile(path, flag, perm)
		},
		Rename: func(from, to string) error {
			if dead() {
				return errCrashed
			}
			return os.Rename(from, to)
		},
		Remove: func(path string) error {
			if dead() {
				return errCrashed
			}
			return os.Remove(path)
		},
		WriteAt: func(f *os.File, data []byte, at int64) (int, error) {
			if dead() {
				return 0, errCrashed
			}
			return f.WriteAt(data, at)
		},
	}
}
