package maillog

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var when = time.Date(2026, 11, 2, 6, 48, 27, 0, time.UTC)

func TestLevels(t *testing.T) {
	log, logged := Capture()
	log.Info("hello %s", "info")
	log.Warn("hello")
	log.Error("hello")
	log.Panic("hello")
	func() {
		defer func() {
			if e, ok := recover().(Exit); !ok || e.Code != 1 {
				t.Errorf("Fatal ended with %v", e)
			}
		}()
		log.Fatal("hello")
	}()
	want := []string{"hello info", "warning: hello", "error: hello", "panic: hello", "fatal: hello"}
	if got := logged.Lines(); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", got)
	}
}

func TestTooManyErrors(t *testing.T) {
	log, logged := Capture()
	defer func() {
		lines := logged.Lines()
		if recover() == nil || len(lines) != 14 || lines[13] != "fatal: too many errors - program terminated" {
			t.Errorf("lines: %q", lines)
		}
	}()
	for range 20 {
		log.Error("x")
	}
}

func TestPrintable(t *testing.T) {
	for _, x := range []struct {
		in   string
		utf8 bool
		want string
	}{
		{"plain ~", true, "plain ~"},
		{"a\tb\nc\x00\x7f", true, "a?b?c??"},
		{"grün €", true, "grün €"},
		{"grün", false, "gr??n"},
		{"\xff\xc3(\xe2", true, "??(?"},
	} {
		if got := printable(x.in, x.utf8); got != x.want {
			t.Errorf("%q: got %q", x.in, got)
		}
	}
}

func TestErrno(t *testing.T) {
	for e, want := range map[syscall.Errno]string{
		syscall.ENOENT: "No such file or directory", syscall.EAGAIN: "Resource temporarily unavailable",
		syscall.EHOSTUNREACH: "No route to host", syscall.EIO: "Input/output error", syscall.ECONNREFUSED: "Connection refused",
	} {
		wrapped := Errno(fmt.Errorf("open x: %w", e))
		if wrapped.Error() != want {
			t.Errorf("%d: %q", int(e), wrapped)
		}
	}
	if err := fmt.Errorf("other"); Errno(err) != err {
		t.Error("other errors are changed")
	}
}

// listen makes a datagram socket as /dev/log and postlog are.
func listen(t *testing.T) (path string, next func() string, end func()) {
	path = filepath.Join(t.TempDir(), "log")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	return path, func() string {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		buffer := make([]byte, 5000)
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		return string(buffer[:n])
	}, func() { conn.Close(); os.Remove(path) }
}

func TestSyslog(t *testing.T) {
	path, next, end := listen(t)
	defer end()
	o := &syslog{facility: facilities["mail"], tag: "postfix/postlog[20755]", path: path, fd: -1}
	for level, want := range map[Level]string{
		LevelInfo:    "<22>Nov  2 06:48:27 postfix/postlog[20755]: hello",
		LevelWarning: "<20>Nov  2 06:48:27 postfix/postlog[20755]: hello",
		LevelError:   "<19>Nov  2 06:48:27 postfix/postlog[20755]: hello",
		LevelPanic:   "<18>Nov  2 06:48:27 postfix/postlog[20755]: hello",
	} {
		if err := o.write(level, "hello", when); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != want {
			t.Errorf("got %q", got)
		}
	}
}

// A record is not lost when the log daemon is restarted.
func TestPostlogReconnects(t *testing.T) {
	path, next, end := listen(t)
	cfg := Config{Tag: "postfix/x", PostlogSocket: path, Hostname: "host.example.com", Now: func() time.Time { return when }, FallbackFile: path + ".file"}
	log := New(cfg)
	log.Warn("one")
	want := fmt.Sprintf("Nov 02 06:48:27 host postfix/x[%d]: warning: one", os.Getpid())
	if got := next(); got != want {
		t.Errorf("got %q", got)
	}
	end()
	log.Info("two")
	if text, _ := os.ReadFile(path + ".file"); !strings.HasSuffix(string(text), ": two\n") {
		t.Errorf("fallback: %q", text)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	log.Info("three %s", strings.Repeat("x", 3000))
	buffer := make([]byte, 5000)
	if n, err := conn.Read(buffer); err != nil || n != len(want)-len("warning: one")+maxText {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestStderrAndDivert(t *testing.T) {
	var out, file bytes.Buffer
	log := New(Config{Tag: "postfix/x", StderrOnly: true, ErrorOutput: &out, Now: func() time.Time { return when }})
	log.Warn("text")
	if out.String() != "x: warning: text\n" {
		t.Errorf("%q", out.String())
	}
	log.Divert(&file)
	log.Info("text")
	if want := fmt.Sprintf("Nov 02 06:48:27 amnesiac postfix/x[%d]: text\n", os.Getpid()); file.String() != want {
		t.Errorf("%q", file.String())
	}
}

func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	_ = os.Symlink(path, path+".link")
	if _, err := OpenFile(path + ".link"); err == nil || err.Error() != "file is a symbolic link" {
		t.Errorf("symbolic link: %v", err)
	}
	_ = os.Link(path, path+".hard")
	if _, err := OpenFile(path); err == nil || err.Error() != "file has 2 hard links" {
		t.Errorf("hard link: %v", err)
	}
	if _, err := OpenFile(dir); err == nil || err.Error() != "file is a directory" {
		t.Errorf("directory: %v", err)
	}
}
