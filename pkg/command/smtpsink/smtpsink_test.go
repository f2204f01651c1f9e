package smtpsink

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
	"time"

	"github.com/emersion/go-smtp"

	"posthaste/pkg/command"
	"posthaste/pkg/command/load"
	"posthaste/pkg/conf"
)

// output is what the program has printed so far; it may be read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs a sink with these options and returns its address. The test waits
// for the sink to end, which it does when stop is called or by itself.
func start(t testing.TB, options ...string) (address string, ended chan struct{}, out *output) {
	t.Helper()
	s, err := parse(append(options, ":0", "10"))
	if err != nil {
		t.Fatal(err)
	}
	out = &output{}
	env := command.Env{Stdout: out, Stderr: io.Discard}
	k := &sink{settings: s, log: load.Logger([]string{"smtp-sink"}, env, 0), env: env, done: make(chan struct{}), conns: map[net.Conn]bool{}, dumper: newDumper(s)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() { defer close(ended); k.serve(l) }()
	t.Cleanup(func() {
		k.mu.Lock()
		if !k.ended {
			k.ended = true
			close(k.done)
		}
		k.mu.Unlock()
		<-ended
	})
	return l.Addr().String(), ended, out
}

// An independent client is served, and its message is dumped.
func TestGoSMTPClient(t *testing.T) {
	dump := filepath.Join(t.TempDir(), "sub", "all")
	address, ended, out := start(t, "-c", "-n", "1", "-D", dump, "-h", "sink.example")
	c, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SendMail("a@example.com", []string{"b@example.com", "c@example.com"}, strings.NewReader("Subject: x\r\n\r\n.dot\r\nend\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("one session did not end it")
	}
	if got, want := out.String(), "sess=0 quit=0 mesg=1\rsess=1 quit=1 mesg=1\r"; got != want {
		t.Errorf("counters %q, want %q", got, want)
	}
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"X-Client-Addr: 127.0.0.1\nX-Client-Proto: ESMTP\n", "X-Rcpt-Args: <b@example.com>\nX-Rcpt-Args: <c@example.com>\n", "\nSubject: x\n\n.dot\nend\n\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// A message that is longer than memory holds goes through a file, whole.
func TestLongDump(t *testing.T) {
	dir := t.TempDir()
	for _, option := range []string{"-D", "-d"} {
		address, _, _ := start(t, option, filepath.Join(dir, "x"+option+"."))
		c, err := smtp.Dial(address)
		if err != nil {
			t.Fatal(err)
		}
		body := strings.Repeat(strings.Repeat("z", 98)+"\r\n", 5*spill/100)
		if err := c.SendMail("a@example.com", []string{"b@example.com"}, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		files, _ := filepath.Glob(filepath.Join(dir, "x"+option+".*"))
		if len(files) != 1 {
			t.Fatalf("%s: files %q", option, files)
		}
		text, _ := os.ReadFile(files[0])
		if got, want := bytes.Count(text, []byte("z")), strings.Count(body, "z"); got != want {
			t.Errorf("%s: %d bytes of text, want %d", option, got, want)
		}
	}
}

// An aborted message leaves no file.
func TestAborted(t *testing.T) {
	dir := t.TempDir()
	address, _, out := start(t, "-c", "-d", dir+"/x.")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "helo x\r\nmail f\r\nrcpt t\r\ndata\r\nhalf a message\r\n")
	r := bufio.NewReader(c)
	for range 5 {
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	c.(*net.TCPConn).CloseWrite()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if files, _ := os.ReadDir(dir); len(files) == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("left: %v", files)
		}
	}
	if strings.Contains(out.String(), "mesg=1") {
		t.Errorf("half a message was counted: %q", out)
	}
}

// A dump that cannot be written ends the program; no client is told that its
// message was taken.
func TestDumpFails(t *testing.T) {
	address, ended, _ := start(t, "-D", "/proc/nosuch/dump")
	c, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendMail("a@x", []string{"b@x"}, strings.NewReader("x\r\n")); err == nil {
		t.Error("the message was taken")
	}
	<-ended
}

func TestParse(t *testing.T) {
	for _, x := range []struct{ line, want string }{
		{":25 10", ""}, {":25", "usage"}, {":25 x", "usage"}, {"-A x :25 10", "usage"},
		{"-m 0 :25 10", "bad concurrency limit: 0"}, {"-f foo :25 10", "unknown command: foo"},
		{"-r mail,RCPT -q . :25 10", ""}, {"-W data :25 10", "invalid command delay argument: data"},
		{"-W data:0 :25 10", "non-positive 'data' delay"}, {"-W data:1:100 :25 10", "delay odds for 'data' out of range"},
		{"-W data:1:99 :25 10", ""}, {"-b 250 :25 10", "bad soft error reply: 250"}, {"-B 5xx :25 10", "bad hard error reply: 5xx"},
		{"-d a -D b :25 10", "use only one of -d or -D, but not both"}, {"-d a -d b :25 10", ""},
	} {
		_, err := parse(strings.Fields(x.line))
		got := ""
		if err != nil {
			if got = err.Error(); got == "" {
				got = "usage"
			}
		}
		if got != x.want {
			t.Errorf("%s: %q, want %q", x.line, got, x.want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`a\n\t\\`: "a\n\t\\", `\101\60x\0`: "A0x\x00", `\q\`: `q\`, "": ""} {
		if got := conf.Unescape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestStrftime(t *testing.T) {
	when := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for in, want := range map[string]string{"%Y%m%d%H/%M.": "2026020304/05.", "%%%q%": "%%q%", "%s": "1770091506"} {
		if got := strftime(in, when); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Whatever a client sends, there is an end, and no recipient without MAIL.
func FuzzSession(f *testing.F) {
	f.Add("helo x\r\nmail f\r\nrcpt t\r\ndata\r\n..x\r\n.\r\nquit\r\n", false)
	f.Add("lhlo x\r\nmail f\r\nrcpt t\r\nrcpt u\r\ndata\n\n.\n.\r\n.\r\nrset", true)
	f.Add("\r\n \x00\xff\r\nDATA\r\nRCPT\r\n.", false)
	f.Fuzz(func(t *testing.T, text string, lmtp bool) {
		s := newSettings()
		s.lmtp, s.timeout = lmtp, time.Second
		env := command.Env{Stdout: io.Discard, Stderr: io.Discard}
		k := &sink{settings: s, log: load.Logger([]string{"smtp-sink"}, env, 0), env: env, done: make(chan struct{}), conns: map[net.Conn]bool{}}
		near, far := net.Pipe()
		done := make(chan struct{})
		ses := newSession(k, far)
		go func() { defer close(done); ses.run() }()
		go func() { _, _ = io.WriteString(near, text); near.Close() }()
		_, _ = io.Copy(io.Discard, near)
		<-done
		if ses.rcpts > 0 && !ses.mail {
			t.Errorf("%d recipients without MAIL", ses.rcpts)
		}
	})
}
