package cleanup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
)

// files lists what is left in the queues.
func files(t testing.TB, dir string) []string {
	list, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestBounceCalls(t *testing.T) {
	c := goldenCase{name: "b", flags: 51, recs: head + "A envelope_id=e1\nA ret_flags=1\nV +=\nA notify_flags=4\nR b@x.example\nR c@x.example\n" + content + ">Subject: x\n>\n" + tail,
		checks: map[string][]string{"header_checks": {"/^subject/ REJECT 5.7.9 no"}}}
	w := newWorld(t, c)
	_, r, _ := w.run(t, c)
	if r.Status != 0 || r.Reason != "5.7.9 no" {
		t.Errorf("%+v", r)
	}
	if len(w.calls) != 3 || !strings.HasPrefix(w.calls[0], "append bounce 1 {Original:b@x.example Address:b@x.example Offset:") ||
		!strings.Contains(w.calls[0], "Notify:FAILURE} {Code:5.7.9 Action:failed Reason:no") && !strings.Contains(w.calls[0], "5.7.9 no") ||
		!strings.HasPrefix(w.calls[2], "verp bounce 1 {Queue:incoming") || !strings.HasSuffix(w.calls[2], "+=") {
		t.Errorf("%q", w.calls)
	}
	if left := files(t, w.dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func TestTraceExpansion(t *testing.T) {
	c := goldenCase{name: "t", recs: head + "A notify_flags=2\nR b@x.example\nA notify_flags=6\nR b@x.example\n" + content + ">\n" + tail,
		maps: map[string]string{"virtual_alias_maps": "b@x.example c@x.example"}}
	w := newWorld(t, c)
	_, _, out := w.run(t, c)
	if len(w.calls) != 2 || !strings.HasPrefix(w.calls[0], "append trace 0") || !strings.Contains(w.calls[0], "alias expanded") {
		t.Errorf("%q", w.calls)
	}
	if !strings.Contains(out, `"notify_flags=1"`) || !strings.Contains(out, `"notify_flags=4"`) {
		t.Error(out)
	}
}

func TestProbeOfList(t *testing.T) {
	c := goldenCase{name: "p", recs: head + "A trace_flags=256\nR b@x.example\n" + content + ">\n" + tail,
		maps: map[string]string{"virtual_alias_maps": "b@x.example c@x.example d@x.example"}}
	w := newWorld(t, c)
	if w.run(t, c); len(w.calls) != 1 || w.calls[0] != "verify b@x.example 0 2.0.0 aliased to multiple recipients" {
		t.Errorf("%q", w.calls)
	}
}

func TestMilters(t *testing.T) {
	for action, want := range map[string]proto.Result{
		"tempfail": {Status: proto.StatusDefer, Reason: "451 4.7.1 Service unavailable - try again later"},
		"reject":   {Status: proto.StatusContent, Reason: "550 5.5.0 Service unavailable"},
		"accept":   {},
	} {
		c := goldenCase{name: "m", conf: map[string]string{"non_smtpd_milters": "inet:localhost:1", "milter_default_action": action}, recs: plain + ">\n" + tail}
		if _, r, _ := newWorld(t, c).run(t, c); r != want {
			t.Errorf("%s: %+v", action, r)
		}
		c.recs = "m 0\n" + c.recs
		if _, r, _ := newWorld(t, c).run(t, c); r.Status != 0 {
			t.Errorf("no milters handed over: %+v", r)
		}
	}
	c := goldenCase{name: "m", recs: "T 1 1\nm 1\n"}
	if _, r, _ := newWorld(t, c).run(t, c); r.Status != proto.StatusBad {
		t.Errorf("milters handed over: %+v", r)
	}
}

// TestNULInBody: 3.7.11 shows tables the text up to a NUL only.
func TestNULInBody(t *testing.T) {
	c := goldenCase{name: "n", recs: plain + ">\n>abc\\x00bad\n" + tail, checks: map[string][]string{"body_checks": {"/bad/ REJECT"}}}
	if _, r, _ := newWorld(t, c).run(t, c); r.Status != proto.StatusContent {
		t.Errorf("%+v", r)
	}
}

func TestQueueTrouble(t *testing.T) {
	c := goldenCase{name: "q", recs: plain + ">\n" + tail}
	for name, fs := range map[string]queue.FS{
		"write": {Write: func(*os.File, []byte) (int, error) { return 0, errors.New("disk gone") }},
		"sync":  {Sync: func(*os.File) error { return errors.New("disk gone") }},
		"size":  {WriteAt: func(*os.File, []byte, int64) (int, error) { return 0, errors.New("disk gone") }},
	} {
		w := newWorld(t, c)
		w.spool = queue.New(w.dir, queue.Options{Log: w.log, FS: fs})
		_, r, out := w.run(t, c)
		if r.Status != proto.StatusWrite || !strings.Contains(out, "log warning: QID: write queue file: disk gone") {
			t.Errorf("%s: %+v %s", name, r, out)
		}
		if left := files(t, w.dir); len(left) != 0 {
			t.Errorf("%s: left %q", name, left)
		}
		select {
		case <-w.woken:
			t.Errorf("%s: the queue manager was told", name)
		default:
		}
	}
}

func TestTriggers(t *testing.T) {
	for _, c := range []struct {
		recs string
		want int
	}{{plain + ">\n" + tail, 1}, {plain + ">\nX\nf 4\nE\n", 0}, {plain + ">\nX\nf 8\nE\n", 0}, {head + content + ">\n" + tail, 0}} {
		g := goldenCase{name: "t", recs: c.recs}
		w := newWorld(t, g)
		if w.run(t, g); len(w.woken) != c.want {
			t.Errorf("%q: %d triggers", c.recs, len(w.woken))
		}
	}
}

// TestHangUp: a client that goes away leaves nothing behind.
func TestHangUp(t *testing.T) {
	c := goldenCase{name: "h"}
	w := newWorld(t, c)
	whole := append(flagList(50), parseRecords(t, plain+">\n>body\nX\n")...)
	for n := 0; n <= len(whole); n += 7 {
		client, server := socketPair(t)
		go func() { client.Write(whole[:n]); client.Close() }()
		w.serve(context.Background(), server, "cleanup socket")
		server.Close()
	}
	if left := files(t, w.dir); len(left) != 0 {
		t.Errorf("left %q", left)
	}
}

func flagList(flags int) []byte {
	var b bytes.Buffer
	attr.NewWriter(&b, attr.Null).Int("flags", flags).Send()
	return b.Bytes()
}

func TestBadFlags(t *testing.T) {
	w := newWorld(t, goldenCase{})
	client, server := socketPair(t)
	go func() { w.serve(context.Background(), server, "cleanup socket"); server.Close() }()
	client.Write([]byte("flags\x00x\x00\x00E\x00"))
	all, _ := io.ReadAll(client)
	if !bytes.HasSuffix(all, []byte("status\x001\x00reason\x00\x00\x00")) {
		t.Errorf("%q", all)
	}
}

// TestClient plays ipc/cleanup's client against the daemon.
func TestClient(t *testing.T) {
	w := newWorld(t, goldenCase{})
	client, server := socketPair(t)
	go func() { w.serve(context.Background(), server, "cleanup socket"); server.Close() }()
	s, err := proto.NewSession(dial.NewConn(client, time.Minute, "public/cleanup socket"))
	if err != nil {
		t.Fatal(err)
	}
	s.SetFlags(proto.FlagsExternal)
	s.Printf(record.TypeTime, "%d %d", 1795330322, 1)
	s.RecString(record.TypeFrom, "a@b.example")
	s.RecString(record.TypeRcpt, "c@d.example")
	s.Rec(record.TypeMessage, nil)
	s.Text([]byte("Received: x"), 2048)
	s.Text(nil, 0)
	s.Text(bytes.Repeat([]byte("x"), 5000), 2048)
	s.Rec(record.TypeExtracted, nil)
	s.Rec(record.TypeEnd, nil)
	if r, err := s.Finish(); err != nil || r.Status != 0 {
		t.Fatal(r, err)
	}
	if _, where := findFile(w.dir, s.QueueID); where != "incoming 0700" {
		t.Error(where)
	}
}

// TestRewriteFailure: no rewriting, no message.
func TestRewriteFailure(t *testing.T) {
	c := goldenCase{name: "r", recs: plain + ">\n" + tail}
	w := newWorld(t, c)
	w.rewrite = brokenRewrite{}
	if _, r, _ := w.run(t, c); r.Status != proto.StatusWrite {
		t.Errorf("%+v", r)
	}
	if w.mailerDaemon.Load() != nil {
		t.Error("a failure was cached")
	}
}

type brokenRewrite struct{}

func (brokenRewrite) Rewrite(context.Context, string, string) (string, error) {
	return "", rewrite.ErrAddress
}

// FuzzSession sends any bytes after any flags. Whatever comes: an answer; a
// whole queue file with a recipient if the answer is yes and nobody asked for
// a discard; nothing otherwise.
func FuzzSession(f *testing.F) {
	for _, c := range allCases() {
		f.Add(c.clientFlags(), parseRecords(f, c.recs))
	}
	c := goldenCase{checks: map[string][]string{"header_checks": {"/reject/ REJECT", "/x-pre/ PREPEND X: y", "/hold/ HOLD", "/bcc/ BCC b@c.example", "/disc/ DISCARD"}, "body_checks": {"/rep/ REPLACE x"}},
		maps: map[string]string{"virtual_alias_maps": "a@x.example b@x.example, a@x.example"}, conf: map[string]string{"always_bcc": "all@x.example"}}
	w := newWorld(f, c)
	f.Fuzz(func(t *testing.T, flags int, data []byte) {
		client, server := socketPair(t)
		done := make(chan error, 1)
		go func() {
			done <- w.serve(context.Background(), server, "cleanup socket")
			server.Close()
		}()
		in := attr.NewReader(client, attr.Null, "cleanup")
		var id, reason string
		var status int
		if err := attr.Expect(in, proto.Protocol, attr.Str("queue_id", &id)); err != nil {
			t.Fatal(err)
		}
		go func() {
			b := bufio.NewWriter(client)
			b.Write(flagList(flags))
			b.Write(data)
			b.Flush()
			client.(interface{ CloseWrite() error }).CloseWrite()
		}()
		if err := in.Scan(attr.Int("status", &status), attr.Str("reason", &reason)); err != nil {
			t.Fatal(err)
		}
		<-done
		client.Close()
		file, where := findFile(w.dir, id)
		if status != 0 && where != "none" {
			t.Fatalf("status %d and a file in %s", status, where)
		}
		if where != "none" {
			checkFile(t, file)
		}
		for _, path := range files(t, w.dir) {
			os.Remove(path)
		}
		w.logged.Reset()
		w.calls = nil
	})
}

// checkFile verifies what the queue manager relies on.
func checkFile(t testing.TB, file []byte) {
	rd := record.NewReader(bytes.NewReader(file))
	rd.Raw = true
	var size record.SizeRecord
	var rcpts, x, m int64
	var last record.Type
	for {
		typ, data, err := rd.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch last = typ; typ {
		case record.TypeSize:
			size, _ = record.ParseSize(data)
		case record.TypeRcpt:
			rcpts++
		case record.TypeMessage:
			m = rd.Tell()
		case record.TypeExtracted:
			x = rd.Offset()
		}
	}
	if last != record.TypeEnd || rcpts == 0 || size.Recipients != rcpts || size.DataOffset != m || size.ContentSize != x-m {
		t.Fatalf("last %c, %d recipients, M %d, X %d, size %s", last, rcpts, m, x, size)
	}
}

func BenchmarkSession(b *testing.B) {
	var body strings.Builder
	for i := range 200 {
		body.WriteString(">line " + strconv.Itoa(i) + " of a message that is of some length, as lines are\n")
	}
	c := goldenCase{name: "bench", recs: plain + ">Subject: x\n>\n" + body.String() + tail}
	c.raw = parseRecords(b, c.recs)
	w := newWorld(b, c)
	w.spool = queue.New(w.dir, queue.Options{Log: w.log, FS: queue.FS{Sync: func(*os.File) error { return nil }, SyncDir: func(string, *os.File) error { return nil }}})
	b.ReportAllocs()
	b.SetBytes(int64(len(c.raw)))
	for b.Loop() {
		client, server := socketPair(b)
		go func() { w.serve(context.Background(), server, "cleanup socket"); server.Close() }()
		id, r := c.play(b, client)
		client.Close()
		if r.Status != 0 {
			b.Fatal(r)
		}
		os.Remove(filepath.Join(w.dir, "incoming", id))
		w.logged.Reset()
	}
}
