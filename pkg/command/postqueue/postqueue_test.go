package postqueue

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/showq"
	"posthaste/pkg/sys/maillog"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

func show(t *testing.T, f formatter, c *client, stream []byte) error {
	t.Helper()
	return c.copy(attr.NewReader(bytes.NewReader(stream), attr.Null, "public/showq socket"), f)
}

func newText(out *bytes.Buffer, long bool) (*text, *client) {
	c := &client{env: command.Env{Stdout: out}}
	f := newTextFor(c, long, func(s string) string { return showq.Printable(s, true) })
	return f, c
}

// What Debian's showq sent is shown as Debian's postqueue showed it.
func TestGolden(t *testing.T) {
	stream, err := os.ReadFile("testdata/stream.bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"text.out", "long.out", "json.out"} {
		want, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		var f formatter
		f, c := newText(&out, file == "long.out")
		if file == "json.out" {
			f = newJSONFor(c, func(s string) string { return showq.Printable(s, true) })
		}
		if err := show(t, f, c, stream); err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", file, out.String(), want)
		}
	}
}

func stream(messages ...any) []byte {
	var b bytes.Buffer
	w := showq.NewWriter(attr.NewWriter(&b, attr.Null))
	w.Begin()
	for _, m := range messages {
		switch m := m.(type) {
		case showq.Message:
			w.Message(m)
		case showq.Recipient:
			w.Recipient(m)
		}
	}
	w.End()
	return b.Bytes()
}

// The example of spec queue.md §4.3.
func TestText(t *testing.T) {
	const why = "connect to 127.0.0.1[127.0.0.1]:1: Connection refused"
	in := stream(
		showq.Message{Queue: "deferred", ID: "9222F9BC208", Time: 1795328752, Size: 344, Sender: "alice@example.test"},
		showq.Recipient{Address: `"a b"@defer.test`, Reason: why}, showq.Recipient{Address: "bob@defer.test", Reason: why},
		showq.Message{Queue: "hold", ID: "902979BC20F", Time: 1795328780, Size: 257, ForcedExpire: true, Sender: "alice@example.test"},
		showq.Recipient{Address: "bob@defer.test", Reason: why}, showq.Recipient{Address: "c@d"},
	)
	const want = `-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------
9222F9BC208     344 Sun Nov 22 06:25:52  alice@example.test
                       (connect to 127.0.0.1[127.0.0.1]:1: Connection refused)
                                         "a b"@defer.test
                                         bob@defer.test

902979BC20F!#     257 Sun Nov 22 06:26:20  alice@example.test
                       (connect to 127.0.0.1[127.0.0.1]:1: Connection refused)
                                         bob@defer.test
                                                          (reason unavailable)
                                         c@d

-- 0 Kbytes in 2 Requests.
`
	var out bytes.Buffer
	f, c := newText(&out, false)
	if err := show(t, f, c, in); err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	f, c = newText(&out, false)
	if show(t, f, c, stream()); out.String() != "Mail queue is empty\n" {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	f, c = newText(&out, true)
	show(t, f, c, stream(showq.Message{Queue: "active", ID: "4jXKB24Sk0z1TxC5", Time: 1795329434, Size: 4097, Sender: "a"}))
	if !strings.Contains(out.String(), "4jXKB24Sk0z1TxC5*     4097 Sun Nov 22 06:37:14 a\n\n-- 4 Kbytes in 1 Request.\n") {
		t.Errorf("%q", out.String())
	}
}

func TestJSONEscapes(t *testing.T) {
	var out bytes.Buffer
	_, c := newText(&out, false)
	f := newJSONFor(c, func(s string) string { return showq.Printable(s, true) })
	if err := show(t, f, c, stream(showq.Message{Queue: "hold", ID: "A", Sender: "a\"\\\n\x01\x7fé\xff"})); err != nil {
		t.Fatal(err)
	}
	want := `{"queue_name": "hold", "queue_id": "A", "arrival_time": 0, "message_size": 0, "forced_expire": false, "sender": "a\"\\\n\u0001\u007Fé?", "recipients": []}` + "\n"
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}

type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

func TestOutputTrouble(t *testing.T) {
	in := stream(showq.Message{ID: "A"}, showq.Message{ID: "B"})
	for _, c := range []struct {
		err  error
		want string
	}{{syscall.EPIPE, ""}, {syscall.ENOSPC, "output write error: No space left on device"}} {
		cl := &client{env: command.Env{Stdout: full{c.err}}}
		f := newTextFor(cl, false, func(s string) string { return s })
		err := show(t, f, cl, in)
		if got := errText(err); got != c.want {
			t.Errorf("%v: %q", c.err, got)
		}
	}
	log, _ := maillog.Capture()
	var out bytes.Buffer
	f, c := newText(&out, false)
	c.log = log
	for _, cut := range []int{0, 20, len(in) / 2, len(in) - 1} {
		if err := show(t, f, c, in[:cut]); !errors.Is(err, errMalformed) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"-p", "-j"}, {"-p", "x"}, {"-z"}, {"-s"}, {"-v"}} {
		var errs bytes.Buffer
		code := Run(append([]string{"postqueue"}, args...), command.Env{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &errs})
		if code != 69 || !strings.Contains(errs.String(), "postqueue: fatal: usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site\n") {
			t.Errorf("%q: exit %d %s", args, code, errs.String())
		}
	}
}

func TestDestinations(t *testing.T) {
	for site, want := range map[string]bool{
		"relay.test": true, "a_b.test": true, "x": true, "[127.0.0.1]": true, "[ipv6:::1]": true, "[IPv6:2001:db8::1]": true,
		"": false, "a..b": false, "1234": false, "1.2.3.4": false, "-a.b": false, "a b": false, "[1.2.3]": false, "[127.0.0.1": false, "[::1]": false, "[ipv6:1.2.3.4]": false,
		strings.Repeat("a", 64) + ".test": false,
	} {
		if validDestination(site) != want {
			t.Errorf("%q", site)
		}
	}
	if got := abridged(strings.Repeat("a", 101)); got != strings.Repeat("a", 100)+"..." {
		t.Error(got)
	}
}
