package smtpsource

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"posthaste/pkg/command"
	"posthaste/pkg/command/load"
)

// backend is an independent server that keeps what it gets.
type backend struct {
	mu    sync.Mutex
	mails []string
	rcpts []string
}

func (b *backend) NewSession(*smtp.Conn) (smtp.Session, error) { return b, nil }
func (b *backend) Mail(string, *smtp.MailOptions) error        { return nil }
func (b *backend) Reset()                                      {}
func (b *backend) Logout() error                               { return nil }

func (b *backend) Rcpt(to string, _ *smtp.RcptOptions) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rcpts = append(b.rcpts, to)
	if strings.HasPrefix(to, "bad") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no"}
	}
	return nil
}

func (b *backend) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mails = append(b.mails, string(text))
	return err
}

func serve(t *testing.T, lmtp bool) (*backend, string) {
	t.Helper()
	b := &backend{}
	s := smtp.NewServer(b)
	s.LMTP, s.Domain = lmtp, "server.example"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return b, l.Addr().String()
}

func source(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = Run(append([]string{"smtp-source"}, args...), command.Env{Stdout: &o, Stderr: &e})
	return code, o.String(), e.String()
}

func TestToGoSMTP(t *testing.T) {
	b, address := serve(t, false)
	code, out, errs := source("-c", "-m", "5", "-s", "2", "-r", "3", "-N", "-d", "-M", "client.example", "-S", "hello", address)
	if code != 0 || errs != "" || !strings.HasSuffix(out, "5\r\n") {
		t.Errorf("status %d, %q %q", code, out, errs)
	}
	seen := map[string]bool{}
	for _, r := range b.rcpts {
		seen[r] = true
	}
	if len(b.mails) != 5 || len(seen) != 15 {
		t.Errorf("%d messages to %d different recipients", len(b.mails), len(seen))
	}
	if m := b.mails[0]; !strings.Contains(m, "From: <foo@client.example>\r\n") || !strings.Contains(m, "\r\nSubject: hello\r\n\r\nLa de") {
		t.Errorf("message %q", m)
	}
}

func TestLMTP(t *testing.T) {
	b, address := serve(t, true)
	if code, _, errs := source("-L", "-m", "2", "-d", "-r", "2", address); code != 0 || len(b.mails) != 2 {
		t.Errorf("status %d, %s, %d messages", code, errs, len(b.mails))
	}
}

func TestRefusal(t *testing.T) {
	b, address := serve(t, false)
	if code, _, errs := source("-t", "bad@x", address); code != 1 || !strings.Contains(errs, "smtp-source: fatal: recipient rejected: 550") {
		t.Errorf("status %d, %q", code, errs)
	}
	if code, _, errs := source("-A", "-t", "bad@x", address); code != 0 || !strings.Contains(errs, "warning: recipient rejected: 550") {
		t.Errorf("status %d, %q", code, errs)
	}
	if len(b.mails) != 0 {
		t.Errorf("messages %q", b.mails)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(path, []byte("Subject: x\n\n.dot\n..\nend\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, address := serve(t, false)
	if code, _, errs := source("-F", path, address); code != 0 {
		t.Fatal(errs)
	}
	if want := "Subject: x\r\n\r\n.dot\r\n..\r\nend\r\n\r\n"; b.mails[0] != want {
		t.Errorf("got %q, want %q", b.mails[0], want)
	}
}

// As Debian's: what remains after the lines of 80 goes out with CR LF besides.
func TestPayload(t *testing.T) {
	for length, want := range map[int]int{1: 3, 80: 82, 81: 83, 160: 162, 161: 163, 1000: 1002} {
		var b bytes.Buffer
		if err := payload(&b, length); err != nil || b.Len() != want {
			t.Errorf("%d: %d bytes, %v; want %d", length, b.Len(), err, want)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, x := range []struct {
		line string
		code int
		text string
	}{{"250 ok", 250, "ok"}, {"250", 250, ""}, {"354-x", 354, "x"}, {"hello", 0, "hello"}, {"2500", 0, "2500"}, {"", 0, ""}, {"0 5", 0, "0 5"}} {
		if code, text := number([]byte(x.line)); code != x.code || text != x.text {
			t.Errorf("%q: %d %q", x.line, code, text)
		}
	}
}

// A server can say what it likes; a reply ends and is of bounded size.
func FuzzReply(f *testing.F) {
	f.Add("250-a\r\n250 b\r\n")
	f.Add(strings.Repeat("250-a\n", 200))
	f.Add("\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		tool := &tool{Source: load.NewSource(nil, command.Env{})}
		c := &load.Conn{R: bufio.NewReader(strings.NewReader(text))}
		code, _, err := tool.reply(c, "testing")
		if code != 0 && (code < 100 || code > 999) {
			t.Errorf("code %d, %v", code, err)
		}
	})
}

func Example_payload() {
	var b bytes.Buffer
	_ = payload(&b, 85)
	fmt.Printf("%d %q", b.Len(), b.String()[80:])
	// Output: 87 "XXXXX\r\n"
}
