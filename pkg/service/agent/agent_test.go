package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// world is a spool with fake status services that note what they are told.
type world struct {
	t      *testing.T
	dir    string
	log    *maillog.Logger
	lines  *maillog.Buffer
	report *Reporter
	spool  *queue.Spool

	mu    sync.Mutex
	got   []string       // "bounce failed a@x 5.1.1 reason"
	fails map[string]int // status by service
}

func now() time.Time { return time.Unix(1_800_000_000, 0) }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), fails: map[string]int{}}
	for _, d := range []string{"private", "public", "active"} {
		os.MkdirAll(filepath.Join(w.dir, d), 0o700)
	}
	w.log, w.lines = maillog.Capture()
	dialer := dial.Dialer{Dir: w.dir, Log: w.log}
	w.spool = queue.New(w.dir, queue.Options{Log: w.log})
	w.report = &Reporter{
		Services:      bounce.Services{Bounce: "bounce", Defer: "defer", Trace: "trace"},
		NegativeCache: true, Resolution: 2, Log: w.log, Now: now,
		Bounce: &bounce.Client{Dialer: dialer},
		Verify: verify.New(verify.Config{Dialer: dialer}),
	}
	for _, s := range []string{"bounce", "defer", "trace"} {
		w.serve(s, func(c net.Conn) { w.bounceService(s, c) })
	}
	w.serve("verify", w.verifyService)
	return w
}

func (w *world) serve(name string, f func(net.Conn)) {
	l, err := net.Listen("unix", filepath.Join(w.dir, "private", name))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
}

func (w *world) note(words ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, strings.Join(words, " "))
}

func (w *world) notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

func (w *world) bounceService(name string, c net.Conn) {
	out := attr.NewWriter(c, attr.Null)
	attr.Announce(out, bounce.Protocol)
	r, err := bounce.ReadRequest(attr.NewReader(c, attr.Null, "test"))
	if err != nil {
		return
	}
	kind := ""
	if r.Kind == bounce.One {
		kind = "one "
	}
	w.note(kind+name, r.Status.Action, r.Recipient.Address, r.Status.Code, r.Status.Reason)
	w.mu.Lock()
	status := w.fails[name]
	w.mu.Unlock()
	bounce.WriteReply(out, status)
}

func (w *world) verifyService(c net.Conn) {
	in, out := attr.NewReader(c, attr.Null, "test"), attr.NewWriter(c, attr.Null)
	attr.Announce(out, verify.Protocol)
	for {
		r, err := verify.ReadRequest(in)
		if err != nil {
			return
		}
		w.note("verify", r.Address, string('0'+rune(r.Result)), r.Reason)
		verify.WriteStatus(out, verify.OK)
	}
}

// message writes a queue file with two recipients and returns a request for it.
func (w *world) message(id string) *deliver.Request {
	w.t.Helper()
	path := filepath.Join(w.dir, "active", id)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o700)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	r := record.NewWriter(f)
	req := &deliver.Request{Flags: deliver.Success | deliver.Bounce, Queue: "active", ID: id, NextHop: "example.com", Sender: "s@x",
		Stats: deliver.Stats{Incoming: now(), Active: now(), Handoff: now()}}
	r.PutString(record.TypeFrom, "s@x")
	for _, a := range []string{"a@example.com", "b@example.com"} {
		req.Recipients = append(req.Recipients, deliver.Recipient{Address: a, Original: a, Offset: r.Offset()})
		r.PutString(record.TypeRcpt, a)
	}
	r.Put(record.TypeMessage, nil)
	req.DataOffset = r.Offset()
	r.PutString(record.TypeNormal, "Subject: hi")
	r.Put(record.TypeExtracted, nil)
	r.Put(record.TypeEnd, nil)
	if err := r.Flush(); err != nil {
		w.t.Fatal(err)
	}
	return req
}

// marks are the record types at the recipients' offsets.
func (w *world) marks(req *deliver.Request) string {
	b, err := os.ReadFile(filepath.Join(w.dir, "active", req.ID))
	if err != nil {
		w.t.Fatal(err)
	}
	s := ""
	for _, r := range req.Recipients {
		s += string(b[r.Offset])
	}
	return s
}

// talk has one conversation with the agent, as the queue manager would.
func (w *world) talk(a Agent, req *deliver.Request) (deliver.Reply, error) {
	w.t.Helper()
	qmgr, agent := net.Pipe()
	s := &server{agent: a, report: w.report}
	ended := make(chan error, 1)
	go func() {
		c := dial.NewConn(agent, 0, "test socket")
		err := attr.Announce(c.Out, deliver.Protocol)
		if err == nil {
			_, err = s.converse(context.Background(), c, &service.Runtime{Log: w.log, Queue: w.spool}, func() bool { return false })
		}
		ended <- err
		agent.Close()
	}()
	c := dial.NewConn(qmgr, 5*time.Second, "private/test socket")
	if err := c.Expect(deliver.Protocol); err != nil {
		w.t.Fatal(err)
	}
	var reply deliver.Reply
	var err error
	if req != nil {
		if err = deliver.WriteRequest(c.Out, req); err == nil {
			reply, err = deliver.ReadReply(c.In)
		}
	}
	qmgr.Close()
	if e := <-ended; e != nil && !errors.Is(e, io.ErrClosedPipe) {
		w.t.Errorf("converse: %v", e)
	}
	return reply, err
}

func TestConversation(t *testing.T) {
	w := newWorld(t)
	req := w.message("ABC1")
	var content string
	reply, err := w.talk(Agent{Deliver: func(ctx context.Context, j *Job) error {
		r, err := j.Content()
		if err != nil {
			return err
		}
		_, data, err := r.Next()
		content = string(data)
		j.Sent(ctx, &j.Recipients[0], Result{Relay: "x.test[1.2.3.4]:25", Status: dsn.Status{Code: "2.0.0", Reason: "250 ok"}})
		j.Deferred(ctx, &j.Recipients[1], Result{Relay: "none", Status: dsn.Status{Code: "4.4.1", Reason: "connect: no"}})
		j.Trouble(dsn.Status{Code: "4.4.1", Reason: "connect: no"})
		return err
	}}, req)
	if err != nil || reply.Status != deliver.Retry || reply.Trouble.Code != "4.4.1" {
		t.Errorf("%+v, %v", reply, err)
	}
	if m := w.marks(req); m != "DR" {
		t.Errorf("marks %s", m)
	}
	if content != "Subject: hi" {
		t.Errorf("content %q", content)
	}
	want := []string{
		"ABC1: to=<a@example.com>, relay=x.test[1.2.3.4]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (250 ok)",
		"ABC1: to=<b@example.com>, relay=none, delay=0, delays=0/0/0/0, dsn=4.4.1, status=deferred (connect: no)",
	}
	if got := w.lines.Lines(); !equal(got, want) {
		t.Errorf("log %q", got)
	}
	if got := w.notes(); !equal(got, []string{"defer delayed b@example.com 4.4.1 connect: no"}) {
		t.Errorf("services %q", got)
	}
}

func equal(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

func TestQueueManagerChangedItsMind(t *testing.T) {
	w := newWorld(t)
	if _, err := w.talk(Agent{}, nil); err != nil {
		t.Error(err)
	}
	if got := w.lines.Lines(); len(got) != 0 {
		t.Errorf("log %q", got)
	}
}

// Whatever is wrong with the request or its file: try again, lose nothing.
func TestBadRequests(t *testing.T) {
	never := Agent{Deliver: func(context.Context, *Job) error { t.Error("delivered"); return nil }}
	for _, c := range []struct {
		name   string
		change func(w *world, r *deliver.Request)
		log    string
	}{
		{"missing", func(_ *world, r *deliver.Request) { r.ID = "ABC9" }, "warning: open active ABC9: No such file or directory"},
		{"bad id", func(_ *world, r *deliver.Request) { r.ID = "../x" }, "warning: bad queue name or id in delivery request: active ../x"},
		{"no recipients", func(_ *world, r *deliver.Request) { r.Recipients = nil }, "warning: ABC2: no recipients in delivery request for destination example.com"},
		{"offset 0", func(_ *world, r *deliver.Request) { r.Recipients[0].Offset = 0 }, "warning: ABC2: bad recipient offset 0 in delivery request"},
		{"incomplete", func(w *world, r *deliver.Request) { os.Chmod(filepath.Join(w.dir, "active/ABC2"), 0o600) }, "not a complete message"},
		{"locked", func(w *world, r *deliver.Request) {
			f, _ := os.Open(filepath.Join(w.dir, "active/ABC2"))
			w.t.Cleanup(func() { f.Close() })
			queue.Lock(f, true)
		}, "shared lock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			req := w.message("ABC2")
			c.change(w, req)
			reply, err := w.talk(never, req)
			if err != nil || reply != (deliver.Reply{Status: deliver.Retry}) {
				t.Errorf("%+v, %v", reply, err)
			}
			if got := w.lines.Lines(); len(got) != 1 || !strings.Contains(got[0], c.log) {
				t.Errorf("log %q", got)
			}
		})
	}
}

func TestNoResultIsRetry(t *testing.T) {
	w := newWorld(t)
	req := w.message("ABC3")
	reply, err := w.talk(Agent{Deliver: func(ctx context.Context, j *Job) error {
		j.Sent(ctx, &j.Recipients[0], Result{Status: dsn.Status{Code: "2.0.0", Reason: "ok"}})
		return nil
	}}, req)
	if err != nil || reply.Status != deliver.Retry || w.marks(req) != "DR" {
		t.Errorf("%+v, %v, %s", reply, err, w.marks(req))
	}
}

func TestCorrupt(t *testing.T) {
	w := newWorld(t)
	req := w.message("ABC4")
	reply, _ := w.talk(Agent{Deliver: func(_ context.Context, j *Job) error { j.Corrupt(); return nil }}, req)
	info, err := os.Stat(filepath.Join(w.dir, "active", "ABC4"))
	if err != nil || info.Mode().Perm() != 0o400 || reply.Status != deliver.Retry {
		t.Errorf("%v %v %+v", info, err, reply)
	}
}

// Who marks what, delivery.md §7.3.
func TestMarking(t *testing.T) {
	for _, c := range []struct {
		flags deliver.Flags
		agent Agent
		want  string
	}{
		{deliver.Success | deliver.Bounce, Agent{}, "DD"},
		{deliver.Bounce, Agent{}, "RR"},
		{deliver.Bounce, Agent{MarkBounced: true}, "RD"},
	} {
		w := newWorld(t)
		req := w.message("ABC5")
		req.Flags = c.flags
		c.agent.Deliver = func(ctx context.Context, j *Job) error {
			j.Sent(ctx, &j.Recipients[0], Result{Status: dsn.Status{Code: "2.0.0", Reason: "ok"}})
			j.Bounced(ctx, &j.Recipients[1], Result{Status: dsn.Status{Code: "5.1.1", Reason: "no"}})
			return nil
		}
		reply, err := w.talk(c.agent, req)
		if got := w.marks(req); got != c.want || reply.Status != deliver.Done || err != nil {
			t.Errorf("flags %d: %s, want %s; %+v %v", c.flags, got, c.want, reply, err)
		}
	}
}

// The table of delivery.md §1.2.
func TestOutcomes(t *testing.T) {
	const sent, bounced, deferred, one = 0, 1, 2, 3
	for _, c := range []struct {
		name   string
		call   int
		flags  deliver.Flags
		rcpt   deliver.Recipient
		status dsn.Status
		set    func(w *world)
		done   bool
		notes  []string
		log    []string // what follows "dsn="
	}{
		{"sent", sent, 3, deliver.Recipient{}, dsn.Status{Code: "2.1.5", Reason: "ok"}, nil, true, nil, []string{"2.1.5, status=sent (ok)"}},
		{"sent -v", sent, 3 | deliver.Record, deliver.Recipient{}, dsn.Status{Code: "2.1.5", Reason: "ok", Action: "relayed"}, nil, true,
			[]string{"trace relayed r@x 2.1.5 delivery via mx: ok"}, []string{"2.1.5, status=sent (ok)"}},
		{"sent -v and notify", sent, 3 | deliver.Record, deliver.Recipient{Notify: dsn.NotifySuccess}, dsn.Status{Code: "2.1.5", Reason: "ok"}, nil, true,
			[]string{"trace delivered r@x 2.1.5 delivery via mx: ok", "trace delivered r@x 2.1.5 delivery via mx: ok"}, []string{"2.1.5, status=sent (ok)"}},
		{"sent after delay notice", sent, 3 | deliver.DelaySent, deliver.Recipient{}, dsn.Status{Code: "2.1.5", Reason: "ok"}, nil, true,
			[]string{"trace delivered r@x 2.1.5 delivery via mx: ok"}, []string{"2.1.5, status=sent (ok)"}},
		{"sent after delay notice, not wanted", sent, 3 | deliver.DelaySent, deliver.Recipient{Notify: dsn.NotifyFailure}, dsn.Status{Code: "2.1.5", Reason: "ok"}, nil, true,
			nil, []string{"2.1.5, status=sent (ok)"}},
		{"sent, trace fails", sent, 3 | deliver.Record, deliver.Recipient{}, dsn.Status{Code: "2.1.5", Reason: "ok"}, func(w *world) { w.fails["trace"] = -1 }, false,
			[]string{"trace delivered r@x 2.1.5 delivery via mx: ok", "defer delayed r@x 4.3.0 Q: trace service failed", "trace delayed r@x 4.3.0 delivery via mx: Q: trace service failed"},
			[]string{"4.3.0, status=deferred (Q: trace service failed)"}},
		{"sent, odd code", sent, 3, deliver.Recipient{}, dsn.Status{Code: "5.1.5", Reason: "ok"}, nil, true, nil,
			[]string{`warning: sent: ignoring dsn code "5.1.5"`, "2.0.0, status=sent (ok)"}},
		{"probe ok", sent, deliver.MTAVerify | 3, deliver.Recipient{Original: "o@x"}, dsn.Status{Code: "2.1.5", Reason: "ok"}, nil, true,
			[]string{"verify o@x 0 ok", "verify r@x 0 ok"}, []string{"2.1.5, status=deliverable (ok)"}},
		{"probe bounced", bounced, deliver.MTAVerify | deliver.UsrVerify, deliver.Recipient{Original: "r@x"}, dsn.Status{Code: "5.1.1", Reason: "no"}, nil, true,
			[]string{"verify r@x 2 no"}, []string{"5.1.1, status=undeliverable (no)"}},
		{"probe deferred", deferred, deliver.MTAVerify, deliver.Recipient{}, dsn.Status{Code: "4.1.1", Reason: "no"}, nil, true,
			[]string{"verify r@x 1 no"}, []string{"4.1.1, status=undeliverable (no)"}},
		{"probe not cached", bounced, deliver.MTAVerify, deliver.Recipient{}, dsn.Status{Code: "5.1.1", Reason: "no"}, func(w *world) { w.report.NegativeCache = false }, true,
			nil, []string{"5.1.1, status=undeliverable-but-not-cached (no)"}},
		{"user probe", bounced, deliver.UsrVerify, deliver.Recipient{}, dsn.Status{Code: "5.1.1", Reason: "no"}, nil, true,
			[]string{"trace undeliverable r@x 5.1.1 delivery via mx: no"}, []string{"5.1.1, status=undeliverable (no)"}},
		{"bounced", bounced, 3 | deliver.Record, deliver.Recipient{}, dsn.Status{Code: "5.1.1", Reason: "no"}, nil, true,
			[]string{"bounce failed r@x 5.1.1 no", "trace failed r@x 5.1.1 delivery via mx: no"}, []string{"5.1.1, status=bounced (no)"}},
		{"bounced, service fails", bounced, 3, deliver.Recipient{}, dsn.Status{Code: "5.1.1", Reason: "no"}, func(w *world) { w.fails["bounce"] = -1 }, false,
			[]string{"bounce failed r@x 5.1.1 no", "defer delayed r@x 4.3.0 bounce or trace service failure"},
			[]string{"4.3.0, status=deferred (bounce or trace service failure)"}},
		{"soft bounce", bounced, 3, deliver.Recipient{}, dsn.Status{Code: "5.1.1", Reason: "no"}, func(w *world) { w.report.SoftBounce = true }, false,
			[]string{"defer delayed r@x 4.1.1 no"}, []string{"4.1.1, status=SOFTBOUNCE (no)"}},
		{"bounced, odd code", bounced, 3, deliver.Recipient{}, dsn.Status{Code: "4.1.1", Reason: "no"}, nil, true,
			[]string{"bounce failed r@x 5.0.0 no"}, []string{`warning: bounce_append: ignoring dsn code "4.1.1"`, "5.0.0, status=bounced (no)"}},
		{"deferred, service fails", deferred, 3, deliver.Recipient{}, dsn.Status{Code: "4.1.1", Reason: "no"}, func(w *world) { w.fails["defer"] = -1 }, false,
			[]string{"defer delayed r@x 4.1.1 no"}, []string{"warning: Q: defer service failure", "4.1.1, status=deferred (no)"}},
		{"one", one, 3, deliver.Recipient{}, dsn.Status{Code: "5.1.1", Reason: "no"}, nil, true,
			[]string{"one bounce failed r@x 5.1.1 no"}, []string{"5.1.1, status=bounced (no)"}},
		{"one soft", one, 3, deliver.Recipient{}, dsn.Status{Code: "5.1.1", Reason: "no"}, func(w *world) { w.report.SoftBounce = true }, false,
			[]string{"defer delayed r@x 4.1.1 no"}, []string{"4.1.1, status=SOFTBOUNCE (no)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if c.set != nil {
				c.set(w)
			}
			c.rcpt.Address = "r@x"
			o := Outcome{Message: bounce.Message{ID: "Q"}, Flags: c.flags, Rcpt: c.rcpt, Relay: "mx", Status: c.status}
			call := [...]func(context.Context, Outcome) bool{w.report.Sent, w.report.Bounced, w.report.Deferred, w.report.BouncedOne}[c.call]
			if done := call(context.Background(), o); done != c.done {
				t.Errorf("done %v", done)
			}
			if got := w.notes(); !equal(got, c.notes) {
				t.Errorf("services %q\nwant %q", got, c.notes)
			}
			got := w.lines.Lines()
			for i := range got {
				if _, after, ok := strings.Cut(got[i], ", dsn="); ok {
					got[i] = after
				}
			}
			if !equal(got, c.log) {
				t.Errorf("log %q\nwant %q", got, c.log)
			}
		})
	}
}

func TestLogLine(t *testing.T) {
	log, lines := maillog.Capture()
	at := time.Unix(1_800_000_000, 0)
	r := &Reporter{Log: log, Resolution: 2, Now: func() time.Time { return at.Add(50 * time.Millisecond) }}
	o := Outcome{Message: bounce.Message{ID: "BE1CD9B08B6"}, Relay: "127.0.0.1[127.0.0.1]:2103",
		Rcpt: deliver.Recipient{Address: "a b@ca.test", Original: "fwd@local.test"}, Status: dsn.Status{Code: "2.0.0", Reason: "250 2.0.0 Ok: queued as 12345"}}
	o.Stats = deliver.Stats{Incoming: at, Active: at.Add(10 * time.Millisecond), Handoff: at.Add(10 * time.Millisecond), Reuse: 1}
	r.Sent(context.Background(), o)
	r.InternalForm = true
	o.Rcpt.Original, o.Relay, o.Stats.Reuse = "A B@ca.test", "", 0
	r.Sent(context.Background(), o)
	want := []string{
		`BE1CD9B08B6: to=<"a b"@ca.test>, orig_to=<fwd@local.test>, relay=127.0.0.1[127.0.0.1]:2103, conn_use=2, delay=0.05, delays=0.01/0/0/0.04, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 12345)`,
		`BE1CD9B08B6: to=<a b@ca.test>, relay=none, delay=0.05, delays=0.01/0/0/0.04, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 12345)`,
	}
	if got := lines.Lines(); !equal(got, want) {
		t.Errorf("log %q", got)
	}
}

// Pass hands a recipient to another agent, which here is one of ours.
func TestPass(t *testing.T) {
	w := newWorld(t)
	answer := deliver.Done
	w.serve("other", func(c net.Conn) {
		conn := dial.NewConn(c, time.Second, "other socket")
		attr.Announce(conn.Out, deliver.Protocol)
		r, err := deliver.ReadRequest(conn.In)
		if err != nil {
			return
		}
		w.note("other", r.NextHop, r.Sender, r.Recipients[0].Address)
		deliver.WriteReply(conn.Out, deliver.Reply{Status: answer})
	})
	w.serve("mute", func(c net.Conn) { c.Write([]byte("protocol\x00nonsense\x00\x00")) })
	req := w.message("ABC6")
	for _, c := range []struct {
		to     string
		answer int
		done   bool
		note   string
	}{
		{"other:hop", deliver.Done, true, "other hop owner@x a@example.com"},
		{"other", deliver.Retry, false, "other example.com owner@x a@example.com"},
		{"mute", 0, false, "defer delayed a@example.com 4.3.0 mail transport unavailable"},
		{":x", 0, false, "defer delayed a@example.com 4.3.0 mail transport unavailable"},
	} {
		answer = c.answer
		w.talk(Agent{Deliver: func(ctx context.Context, j *Job) error {
			rcpt := j.Recipients[0]
			rcpt.Offset = -1
			o := j.Outcome(&rcpt, Result{})
			o.Message.Sender = "owner@x"
			if done := j.Pass(ctx, c.to, rcpt, o); done != c.done {
				t.Errorf("%s: done %v", c.to, done)
			}
			j.Retry()
			return nil
		}}, req)
		if got := w.notes(); !equal(got, []string{c.note}) {
			t.Errorf("%s: %q", c.to, got)
		}
	}
	if w.marks(req) != "RR" {
		t.Error("something was marked")
	}
}

// The status filter moves recipients between defer and bounce (delivery.md §1.3).
func TestFilter(t *testing.T) {
	const sent, bounced, deferred = 0, 1, 2
	for _, c := range []struct {
		value  string
		call   int
		status dsn.Status
		done   bool
		notes  []string
	}{
		{"4.1.2 later", bounced, dsn.Status{Code: "5.1.1", Reason: "no"}, false, []string{"defer delayed r@x 4.1.2 later"}},
		{"5.1.2 never", deferred, dsn.Status{Code: "4.1.1", Reason: "no"}, true, []string{"bounce failed r@x 5.1.2 never"}},
		{"2.1.2 fine", deferred, dsn.Status{Code: "4.1.1", Reason: "no"}, false, []string{"defer delayed r@x 4.1.1 no"}},
		{"2.1.2 fine", sent, dsn.Status{Code: "2.0.0", Reason: "ok"}, true, nil},
		{"nonsense", sent, dsn.Status{Code: "2.0.0", Reason: "ok"}, true, nil},
	} {
		w := newWorld(t)
		tab, err := table.Open(table.Env{Log: w.log}, "static:{"+c.value+"}", 0)
		if err != nil {
			t.Fatal(err)
		}
		w.report.Filter = table.NewMaps(table.Env{Log: w.log}, "smtp_delivery_status_filter", tab)
		o := Outcome{Message: bounce.Message{ID: "Q"}, Flags: 3, Rcpt: deliver.Recipient{Address: "r@x"}, Relay: "mx", Status: c.status}
		call := [...]func(context.Context, Outcome) bool{w.report.Sent, w.report.Bounced, w.report.Deferred}[c.call]
		if done := call(context.Background(), o); done != c.done {
			t.Errorf("%s: done %v", c.value, done)
		}
		if got := w.notes(); !equal(got, c.notes) {
			t.Errorf("%s: %q, want %q (%q)", c.value, got, c.notes, w.lines.Lines())
		}
	}
}
