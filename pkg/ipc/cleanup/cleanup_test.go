package cleanup

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/spool/record"
)

func TestStatusTable(t *testing.T) {
	for _, c := range []struct {
		s    Status
		want string
	}{
		{OK, "250 2.0.0 Success"},
		{StatusBad | StatusWrite | StatusDefer, "451 4.7.1 service unavailable"},
		{StatusContent | StatusSize | StatusHops, "554 5.4.0 too many hops"},
		{StatusContent | StatusSize, "552 5.3.4 message file too big"},
		{StatusWrite, "451 4.3.0 queue file write error"},
		{StatusRcpt, "550 5.1.0 no recipients specified"},
		{StatusNoPerm, "550 5.7.1 service denied"},
		{StatusBareLF, "521 5.5.2 bare <LF> received"},
	} {
		d := c.s.Detail()
		if got := fmt.Sprint(d.SMTP, " ", d.DSN, " ", d.Text); got != c.want {
			t.Errorf("%d: %q, want %q", c.s, got, c.want)
		}
	}
}

func TestFlags(t *testing.T) {
	if FlagsExternal|FlagSMTPReply != 242 || FlagsExternal.Override([]string{"no_address_mappings", "no_header_body_checks", "no_milters"}) != 0 {
		t.Error("wrong values")
	}
	c := conf.FromMap(map[string]string{"internal_mail_filter_classes": "bounce", "smtputf8_autodetect_classes": "notify, bounce"})
	for _, x := range []struct {
		class string
		utf8  bool
		want  Flags
	}{{ClassBounce, false, 32 + 2 + 64 + 512}, {ClassBounce, true, 32 + 2 + 64 + 256}, {ClassNotify, false, 32 + 512}, {ClassVerify, false, 32}} {
		if got := InternalFlags(c, x.class, x.utf8); got != x.want {
			t.Errorf("%s %v: %d, want %d", x.class, x.utf8, got, x.want)
		}
	}
}

// serveOne is a service that notes the records it gets.
func serveOne(t *testing.T, r Result) <-chan string {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("public", 0700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", "public/cleanup")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		Announce(conn, "QID")
		in := bufio.NewReader(conn)
		flags, err := ReadFlags(attr.NewReader(in, attr.Null, "x"))
		text := fmt.Sprintf("flags %d %v\n", flags, err)
		rd := record.NewReader(in)
		rd.Raw = true
		for {
			typ, data, err := rd.Next()
			if err != nil {
				break
			}
			text += fmt.Sprintf("%c %s\n", typ, data)
			if typ == record.TypeEnd {
				Reply(conn, r)
				break
			}
		}
		got <- text
	}()
	return got
}

func TestPost(t *testing.T) {
	got := serveOne(t, Result{StatusContent, "5.7.1 no"})
	c := conf.FromMap(map[string]string{"myhostname": "h.example", "mail_name": "Postfix", "line_length_limit": "512"})
	p, err := NewPost(context.Background(), c, PostOptions{Sender: "", Recipient: "r@x", Class: ClassNotify, TraceFlags: 7, NoWait: true,
		Now: time.Unix(1795330322, 5000).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	p.Printf("Subject: %s", "s")
	p.Text(nil)
	p.Text([]byte(strings.Repeat("x", 600)))
	p.Rec(record.TypeContinued, []byte("y"))
	r, err := p.Close()
	if err != nil || r != (Result{StatusContent, "5.7.1 no"}) || p.QueueID != "QID" {
		t.Errorf("%+v %v", r, err)
	}
	want := `flags 32 <nil>
T 1795330322 5
A log_message_origin=local
A trace_flags=7
S 
R r@x
M 
N Received: by h.example (Postfix)
N 	id QID; Sun, 22 Nov 2026 06:52:02 +0000 (UTC)
N Date: Sun, 22 Nov 2026 06:52:02 +0000 (UTC)
N Subject: s
N 
L ` + strings.Repeat("x", 512) + "\nN " + strings.Repeat("x", 88) + `
L y
X 
E 
`
	if text := <-got; text != want {
		t.Errorf("got\n%s", text)
	}
}

func TestNoService(t *testing.T) {
	t.Chdir(t.TempDir())
	c := conf.FromMap(nil)
	if _, err := NewPost(context.Background(), c, PostOptions{NoWait: true}); err == nil {
		t.Error("no error")
	}
}

// TestEarlyVerdict: a service that hangs up early is an error, not a hang.
func TestEarlyVerdict(t *testing.T) {
	a, b := net.Pipe()
	go func() { Announce(b, "QID"); io.ReadFull(b, make([]byte, 3)); b.Close() }()
	s, err := NewSession(wrap(a))
	if err != nil {
		t.Fatal(err)
	}
	s.SetFlags(0)
	if r, err := s.Finish(); err == nil || r.Status == OK {
		t.Errorf("%+v %v", r, err)
	}
}

func wrap(c net.Conn) *dial.Conn { return dial.NewConn(c, time.Minute, "public/cleanup socket") }
