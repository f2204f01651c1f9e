package qmgr

import (
	"net"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/dial"
)

// pipe makes a connection to an agent that has said something after its reply.
func pipe(t *testing.T, says string) (*dial.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	c := dial.NewConn(a, 5*time.Second, "test socket")
	w := attr.NewWriter(b, attr.Null)
	deliver.AddReply(w, deliver.Reply{})
	if says != "" {
		w.Str("protocol", says).End()
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := deliver.ReadReply(c.In); err != nil {
		t.Fatal(err)
	}
	return c, b
}

// An agent that announces itself again is kept, any other is not.
func TestLines(t *testing.T) {
	var l lines
	for says, kept := range map[string]bool{deliver.Protocol: true, "": false, "other": false} {
		c, agent := pipe(t, says)
		l.put("smtp", c)
		got := l.take("smtp")
		if (got == c) != kept {
			t.Errorf("%q: kept is %v", says, got == c)
		}
		if got != nil {
			got.Close()
		}
		agent.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := agent.Read(make([]byte, 1)); err == nil {
			t.Errorf("%q: still open", says)
		}
	}
}

// An agent that has left, or has something to say, is not used again.
func TestLinesStale(t *testing.T) {
	var l lines
	gone, agent := pipe(t, deliver.Protocol)
	l.put("smtp", gone)
	agent.Close()
	talks, other := pipe(t, deliver.Protocol)
	l.put("smtp", talks)
	other.Write([]byte("x"))
	if c := l.take("smtp"); c != nil {
		t.Error("a stale connection")
	}
	if c := l.take("local"); c != nil {
		t.Error("another transport's")
	}
}

// A connection that nobody uses is closed after a while.
func TestLinesExpire(t *testing.T) {
	var l lines
	c, agent := pipe(t, deliver.Protocol)
	l.put("smtp", c)
	agent.SetReadDeadline(time.Now().Add(10 * time.Second))
	begin := time.Now()
	if _, err := agent.Read(make([]byte, 1)); err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	if c := l.take("smtp"); c != nil {
		t.Error("still there")
	}
}
