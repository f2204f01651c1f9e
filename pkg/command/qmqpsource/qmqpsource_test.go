package qmqpsource

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/load"
)

// answer is a server that says the same to everyone; got is what the last
// client sent.
func answer(t *testing.T, text string) (address string, got chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got = make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			n, _ := c.Read(buf)
			got <- string(buf[:n])
			_, _ = c.Write([]byte(text))
			c.Close()
		}
	}()
	return l.Addr().String(), got
}

func TestAnswers(t *testing.T) {
	for _, x := range []struct {
		answer string
		code   int
		want   string
	}{
		{"3:Kok,", 0, ""},
		{"3:Zno,", 1, "recoverable error: no"},
		{"3:Dno,", 1, "unrecoverable error: no"},
		{"3:Qno,", 1, "unknown error: no"},
		{"", 1, "lost connection while receiving server reply"},
		{"xx", 1, "netstring format error while receiving server reply"},
		{"3:Kok.", 1, "netstring format error while receiving server reply"},
	} {
		t.Run(x.answer, func(t *testing.T) {
			t.Parallel()
			address, got := answer(t, x.answer)
			var errs bytes.Buffer
			code := Run([]string{"qmqp-source", "-M", "foo", "-r", "2", "-l", "100", address}, command.Env{Stdout: &errs, Stderr: &errs})
			if code != x.code || x.want != "" && errs.String() != "qmqp-source: fatal: "+x.want+"\n" {
				t.Errorf("status %d, %q", code, errs.String())
			}
			if sent := <-got; !strings.HasPrefix(sent, "137:100:From: <foo@foo>\n") || !strings.HasSuffix(sent, ",7:foo@foo,8:0foo@foo,8:1foo@foo,,") {
				t.Errorf("sent %q", sent)
			}
		})
	}
}

func TestContentLength(t *testing.T) {
	s := load.NewSource(nil, command.Env{})
	for _, length := range []int{0, 1, 90, 300, 20000} {
		s.Length = length
		want := length
		if want == 0 {
			want = stockSize
		}
		if got := content(s, time.Now()); len(got) != want || got[len(got)-1] != '\n' {
			t.Errorf("%d: %d bytes", length, len(got))
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add("3:Kok,")
	f.Add("99999999999999999999:")
	f.Add(":")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := reply(&load.Conn{R: bufio.NewReader(strings.NewReader(text))})
		if err == nil && !strings.Contains(text, ":"+got+",") {
			t.Errorf("%q from %q", got, text)
		}
	})
}
