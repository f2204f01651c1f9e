package cleanup

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
)

// prepared is a message in a queue file that waits for changes.
func prepared(t testing.TB, w *world, headers []string, body string) *session {
	t.Helper()
	file, err := w.spool.CreateWait(context.Background(), queue.Incoming, 0600)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{d: w.daemon, ctx: context.Background(), id: file.ID, file: file, out: file.Records()}
	s.segment = (*session).envelope
	s.putString(record.TypeSize, s.size0())
	text := "T 1 1\nS a@x.example\nR one@x.example\nR two@x.example\nM\n>Received: by us\n"
	for _, h := range headers {
		text += ">" + strings.ReplaceAll(h, "\n", "\n>") + "\n"
	}
	text += ">\n"
	for line := range strings.Lines(body) {
		text += ">" + line
	}
	r := record.NewReader(bytes.NewReader(parseRecords(t, text+"X\nE\n")))
	r.Raw = true
	for !s.ended {
		typ, data, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		s.segment(s, typ, data)
	}
	if s.status != 0 {
		t.Fatalf("status %d: %q", s.status, w.logged.Lines())
	}
	return s
}

// logical is a queue file as every reader sees it.
func logical(t testing.TB, path string) (sender string, rcpts, headers []string, body string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := record.NewReader(bytes.NewReader(data))
	part, partial := 'e', false
	for {
		typ, data, err := r.Next()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		text := string(data)
		switch {
		case typ == record.TypeEnd:
			return sender, rcpts, headers, body
		case typ == record.TypeMessage:
			part = 'h'
		case typ == record.TypeExtracted:
			part = 'e'
		case part == 'h' && text == "":
			part = 'b'
		case part == 'h' && (text[0] == ' ' || text[0] == '\t'):
			headers[len(headers)-1] += "\n" + text
		case part == 'h' && partial:
			headers[len(headers)-1] += text
		case part == 'h':
			headers = append(headers, text)
		case part == 'b':
			body += text
			if typ == record.TypeNormal {
				body += "\n"
			}
		case typ == record.TypeFrom:
			sender = text
		case typ == record.TypeRcpt:
			rcpts = append(rcpts, text)
		}
		partial = part == 'h' && typ == record.TypeContinued
	}
}

// model is a message to which the same changes are made in memory.
type model struct {
	headers []string
	sender  string
	body    string
}

func (m *model) find(index int, name string) int {
	own := false
	for i, h := range m.headers {
		if !strings.EqualFold(h[:strings.IndexByte(h, ':')], name) {
			continue
		}
		if strings.EqualFold(name, "Received") && !own {
			own = true
			continue
		}
		if index--; index <= 0 {
			return i
		}
	}
	return -1
}

func (m *model) insert(i int, h string) {
	if i >= len(m.headers) {
		m.headers = append(m.headers, h)
		return
	}
	m.headers = append(m.headers[:i], append([]string{h}, m.headers[i:]...)...)
}

// change makes one random change to both.
func change(t testing.TB, rnd *rand.Rand, e *editor, m *model) string {
	names := []string{"Received", "A", "Subject", "X-Long-Name-Of-A-Header", "b"}
	name := names[rnd.IntN(len(names))]
	value := " " + strings.Repeat("v", rnd.IntN(30))
	if rnd.IntN(4) == 0 {
		value += "\n folded " + strings.Repeat("w", rnd.IntN(30))
	}
	if rnd.IntN(40) == 0 {
		value += strings.Repeat("long", 1500)
	}
	index := 1 + rnd.IntN(5)
	var err error
	var what string
	switch rnd.IntN(8) {
	case 0:
		what = fmt.Sprintf("add %s:%s", name, value)
		err = e.AddHeader(name, value)
		m.insert(len(m.headers), name+":"+value)
	case 1, 2:
		what = fmt.Sprintf("insert %d %s:%s", index, name, value)
		err = e.InsertHeader(index, name, value)
		m.insert(index-1, name+":"+value)
	case 3, 4:
		what = fmt.Sprintf("change %d %s:%s", index, name, value)
		err = e.ChangeHeader(index, name, value)
		if i := m.find(index, name); i >= 0 {
			m.headers[i] = name + ":" + value
		} else {
			m.insert(len(m.headers), name+":"+value)
		}
	case 5:
		what = fmt.Sprintf("delete %d %s", index, name)
		err = e.DeleteHeader(index, name)
		if i := m.find(index, name); i >= 0 {
			m.headers = append(m.headers[:i], m.headers[i+1:]...)
		}
	case 6:
		m.sender = strings.Repeat("s", rnd.IntN(20)) + "@x.example"
		what = "sender " + m.sender
		err = e.ChangeSender("<"+m.sender+">", "")
	case 7:
		m.body = ""
		for range rnd.IntN(20) {
			m.body += strings.Repeat("n", rnd.IntN(50)) + "\n"
		}
		what = "body " + m.body
		text := strings.ReplaceAll(m.body, "\n", "\r\n")
		for len(text) > 0 && err == nil {
			n := 1 + rnd.IntN(len(text))
			err = e.ReplaceBody([]byte(text[:n]))
			text = text[n:]
		}
		if err == nil {
			err = e.ReplaceBody(nil)
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return what
}

// checkEdits makes changes from a seed and compares what readers see with the
// model.
func checkEdits(t testing.TB, seed uint64, n int) {
	w := newWorld(t, goldenCase{conf: map[string]string{"non_smtpd_milters": "inet:127.0.0.1:1", "always_add_missing_headers": "no", "local_header_rewrite_clients": ""}})
	headers := []string{"A: b", "Subject: something", "a: c\n d\n e", "Received: elsewhere", "X: y", "Message-Id: <i>", "Date: now", "From: me@x.example"}
	s := prepared(t, w, headers, "old body\nof two lines\n")
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := &model{headers: append([]string{"Received: by us"}, headers...), sender: "a@x.example", body: "old body\nof two lines\n"}
	e := &editor{s: s}
	var done []string
	for range n {
		done = append(done, change(t, rnd, e, m))
	}
	if !s.finish() {
		t.Fatalf("not committed: %d", s.status)
	}
	sender, rcpts, got, body := logical(t, s.file.Path())
	if sender != m.sender || body != m.body || strings.Join(got, "\n") != strings.Join(m.headers, "\n") || len(rcpts) != 2 {
		t.Errorf("seed %d after\n%s\nfile: %s %q\n%s\nbody %q\nwant: %s\n%s\nbody %q", seed, strings.Join(done, "\n"), sender, rcpts, strings.Join(got, "\n"), body, m.sender, strings.Join(m.headers, "\n"), m.body)
	}
}

// TestEditsKeepToModel changes messages at random.
func TestEditsKeepToModel(t *testing.T) {
	for seed := range uint64(60) {
		if checkEdits(t, seed, 25); t.Failed() {
			return
		}
	}
}

func FuzzEdits(f *testing.F) {
	f.Add(uint64(1), 10)
	f.Fuzz(func(t *testing.T, seed uint64, n int) { checkEdits(t, seed, n&63) })
}

// TestEditError: a change that fails leaves a status and no message.
func TestEditError(t *testing.T) {
	w := newWorld(t, goldenCase{conf: map[string]string{"non_smtpd_milters": "inet:127.0.0.1:1", "message_size_limit": "2000"}})
	s := prepared(t, w, []string{"A: b"}, "text\n")
	e := &editor{s: s}
	if err := e.AddHeader("X", strings.Repeat("x", 3000)); err != errEdit || s.status&proto.StatusSize == 0 {
		t.Errorf("%v, status %d", err, s.status)
	}
	if s.finish() {
		t.Error("committed")
	}
}
