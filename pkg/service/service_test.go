package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/fdpass"
	"posthaste/pkg/sys/filelock"
)

// TestMain is also the daemon that the tests run: the variable names it.
func TestMain(m *testing.M) {
	if kind := os.Getenv("SERVICE_TEST_DAEMON"); kind != "" {
		os.Exit(Run(testDaemons[kind], os.Args, os.Environ()))
	}
	os.Exit(m.Run())
}

// testDaemons echo lines; "panic" and "slow" are special.
var testDaemons = map[string]Service{
	"single":  {Name: "single", Kind: Single, Serve: echo},
	"multi":   {Name: "multi", Kind: Multi, Serve: echoMany},
	"event":   {Name: "event", Kind: Event, Serve: echo},
	"one":     {Name: "one", Kind: Multi, Requires: One, Serve: echoMany},
	"trigger": {Name: "trigger", Kind: Trigger, Requires: One, Trigger: note, NoMaxUse: true},
	"dgram":   {Name: "dgram", Kind: Dgram, Requires: One, Datagram: note},
}

func echo(_ context.Context, conn *Conn) error {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		switch line {
		case "panic\n":
			panic("as told")
		case "attrs\n":
			line = fmt.Sprintln(conn.Attrs["client_address"], conn.Transport)
		case "places\n":
			line = fmt.Sprintln(conn.Runtime.Places)
		}
		if _, err := io.WriteString(conn, line); err != nil {
			return err
		}
	}
}

func echoMany(_ context.Context, conn *Conn) error {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		conn.Taken()
		_, err = io.WriteString(conn, line)
		conn.Available()
		if err != nil {
			return err
		}
	}
}

func note(_ context.Context, rt *Runtime, data []byte) {
	rt.Log.Info("got %q", data)
}

// world is a fake master with one child.
type world struct {
	t      *testing.T
	dir    string
	status int
	listen string
	cmd    *exec.Cmd
	stderr string
	ended  chan error
}

// start runs a test daemon. args follow the program name.
func start(t *testing.T, kind, network string, env []string, args ...string) *world {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	w := &world{t: t, dir: dir, stderr: filepath.Join(dir, "stderr"), ended: make(chan error, 1)}
	for _, d := range []string{"etc", "spool/pid", "spool/public", "spool/private", "lib"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	writeConfig(t, dir)
	must(t, os.WriteFile(filepath.Join(dir, "etc/master.cf"), []byte("limited unix - - n - 2 single\n"), 0o644))

	w.listen = filepath.Join(dir, "spool/private/s")
	kindOf := unix.SOCK_STREAM
	if network == "unixgram" {
		kindOf = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_UNIX, kindOf|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: w.listen}))
	must(t, os.Chmod(w.listen, 0o666))
	if kindOf == unix.SOCK_STREAM {
		must(t, unix.Listen(fd, 10))
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	w.status = pair[0]
	flowRead, flowWrite, err := os.Pipe()
	must(t, err)
	stderr, err := os.Create(w.stderr)
	must(t, err)
	w.cmd = exec.Command(os.Args[0], append([]string{"-V"}, args...)...)
	w.cmd.Args[0] = kind
	w.cmd.Env = append([]string{"SERVICE_TEST_DAEMON=" + kind, "MAIL_CONFIG=" + filepath.Join(dir, "etc"), "GENERATION=17"}, env...)
	w.cmd.Stderr = stderr
	w.cmd.ExtraFiles = []*os.File{flowRead, flowWrite, os.NewFile(uintptr(pair[1]), "status"), os.NewFile(uintptr(fd), "listen")}
	must(t, w.cmd.Start())
	for _, f := range append(w.cmd.ExtraFiles, stderr) {
		f.Close()
	}
	go func() { w.ended <- w.cmd.Wait() }()
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		_ = unix.Close(w.status)
	})
	return w
}

func writeConfig(t *testing.T, dir string) {
	t.Helper()
	owner, group := "daemon", "mail"
	if os.Getuid() != 0 {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		owner = me.Username
	}
	main := fmt.Sprintf("compatibility_level = 3.6\nqueue_directory = %[1]s/spool\ndata_directory = %[1]s/lib\nmail_owner = %[2]s\nsetgid_group = %[3]s\nmyhostname = host.example.com\nmaillog_file = %[1]s/log\nmaillog_file_prefixes = /\ninet_protocols = ipv4\ndefault_process_limit = 7\n", dir, owner, group)
	must(t, os.WriteFile(filepath.Join(dir, "etc/main.cf"), []byte(main), 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects to the daemon.
func (w *world) dial() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("unix", w.listen)
	must(w.t, err)
	w.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

// say sends a line and wants an answer.
func (w *world) say(conn net.Conn, line, want string) {
	w.t.Helper()
	_, err := io.WriteString(conn, line+"\n")
	must(w.t, err)
	got, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || got != want+"\n" {
		w.t.Fatalf("%q: got %q, %v; stderr: %s", line, got, err, w.log())
	}
}

// message reads one status message, "" when there is none in time.
func (w *world) message(wait time.Duration) string {
	w.t.Helper()
	fds := []unix.PollFd{{Fd: int32(w.status), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(wait/time.Millisecond))
	for err == unix.EINTR {
		n, err = unix.Poll(fds, int(wait/time.Millisecond))
	}
	if n == 0 {
		return ""
	}
	var m [StatusSize]byte
	if n, err := unix.Read(w.status, m[:]); n != StatusSize {
		return fmt.Sprintf("%d bytes, %v", n, err)
	}
	pid, generation, status := ParseStatus(m)
	if pid != w.cmd.Process.Pid || generation != 0o17 {
		w.t.Errorf("status of pid %d generation %o", pid, generation)
	}
	return fmt.Sprint(status)
}

func (w *world) log() string {
	text, _ := os.ReadFile(w.stderr)
	return string(text)
}

// exit waits for the end and returns the exit status.
func (w *world) exit() int {
	w.t.Helper()
	select {
	case err := <-w.ended:
		w.ended <- err
		var e *exec.ExitError
		if errors.As(err, &e) {
			return e.ExitCode()
		}
		return 0
	case <-time.After(15 * time.Second):
		w.t.Fatalf("daemon does not end; stderr: %s", w.log())
		return -1
	}
}

func TestStatusMessage(t *testing.T) {
	// Golden bytes of spec §1.4, captured from pid 11637.
	for status, want := range map[int]string{
		StatusTaken:     "\x75\x2d\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00",
		StatusAvailable: "\x75\x2d\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00",
	} {
		m := FormatStatus(11637, 1, status)
		if string(m[:]) != want {
			t.Errorf("status %d: % x", status, m)
		}
		if pid, generation, got := ParseStatus(m); pid != 11637 || generation != 1 || got != status {
			t.Errorf("parsed: %d %d %d", pid, generation, got)
		}
	}
}

// Under Debian's master a daemon is available as long as it lives, and says
// once that it has served a client.
func TestSingleUnderDebian(t *testing.T) {
	w := start(t, "single", "unix", nil, "-t", "unix", "-u", "-n", "limited")
	a, b := w.dial(), w.dial()
	w.say(a, "hello", "hello")
	w.say(b, "places", "2") // from master.cf
	c := w.dial()
	_, _ = io.WriteString(c, "late\n")
	if m := w.message(200 * time.Millisecond); m != "" {
		t.Errorf("full: status %s", m)
	}
	a.Close()
	if got, err := bufio.NewReader(c).ReadString('\n'); got != "late\n" {
		t.Errorf("third client: %q, %v", got, err)
	}
	if m := w.message(time.Second) + w.message(time.Second); m != "01" {
		t.Errorf("after a client: status %s", m)
	}
	b.Close()
	if m := w.message(200 * time.Millisecond); m != "" {
		t.Errorf("second client: status %s", m)
	}
	if !strings.Contains(w.log(), "has reached its process limit \"2\"") {
		t.Errorf("no warning: %s", w.log())
	}
	// A client that is being served survives the end of master.
	unix.Close(w.status)
	time.Sleep(300 * time.Millisecond)
	w.say(c, "still here", "still here")
	c.Close()
	if code := w.exit(); code != 0 {
		t.Errorf("exit status %d: %s", code, w.log())
	}
}

// Under our own master it announces itself and says when it is full.
func TestSingleUnderOurs(t *testing.T) {
	w := start(t, "single", "unix", []string{EnvLimit + "=2"}, "-t", "unix", "-u")
	if m := w.message(5 * time.Second); m != "2" {
		t.Fatalf("announcement: %q: %s", m, w.log())
	}
	a, b := w.dial(), w.dial()
	w.say(a, "x", "x")
	w.say(b, "places", "2")
	if m := w.message(time.Second); m != "0" {
		t.Errorf("full: status %q", m)
	}
	a.Close()
	if m := w.message(time.Second); m != "1" {
		t.Errorf("free again: status %q", m)
	}
}

func TestPanicCostsOneClient(t *testing.T) {
	w := start(t, "single", "unix", nil, "-t", "unix", "-u")
	a, b := w.dial(), w.dial()
	w.say(b, "x", "x")
	_, _ = io.WriteString(a, "panic\n")
	if n, err := a.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("session goes on after a panic")
	}
	w.say(b, "y", "y")
	w.say(w.dial(), "z", "z")
	if !strings.Contains(w.log(), "panic: as told; at") || !strings.Contains(w.log(), "service.echo:") {
		t.Errorf("log: %s", w.log())
	}
}

// Debian's children of the same service take turns with us.
func TestAcceptLock(t *testing.T) {
	w := start(t, "single", "unix", nil, "-t", "unix", "-u", "-n", "limited")
	a := w.dial()
	w.say(a, "x", "x")
	f, err := os.OpenFile(filepath.Join(w.dir, "spool/pid/unix.limited"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	if err := filelock.Lock(f, filelock.Exclusive, filelock.Flock, false); !filelock.IsBusy(err) {
		t.Fatalf("an idle daemon does not hold the lock: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- filelock.Lock(f, filelock.Exclusive, filelock.Flock, true) }()
	time.Sleep(100 * time.Millisecond)
	b := w.dial() // fills the second place, so that the lock is released
	w.say(b, "y", "y")
	must(t, <-got)
	a.Close()
	c := w.dial()
	_, _ = io.WriteString(c, "z\n")
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, _ := c.Read(make([]byte, 1)); n != 0 {
		t.Error("accepted without the lock")
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	must(t, filelock.Lock(f, filelock.Unlock, filelock.Flock, true))
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "z\n" {
		t.Errorf("after unlock: %q %v", line, err)
	}
}

func TestMaxUseAndIdle(t *testing.T) {
	w := start(t, "single", "unix", []string{EnvLimit + "=1"}, "-t", "unix", "-u", "-m", "2")
	if m := w.message(5 * time.Second); m != "2" {
		t.Fatalf("announcement %q: %s", m, w.log())
	}
	for range 2 {
		c := w.dial()
		w.say(c, "x", "x")
		c.Close()
	}
	if code := w.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	w = start(t, "multi", "unix", nil, "-t", "unix", "-u", "-i", "1")
	c := w.dial()
	w.say(c, "x", "x")
	time.Sleep(1500 * time.Millisecond)
	w.say(c, "not idle", "not idle")
	c.Close()
	if code := w.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// A Multi daemon closes connections that are between two requests.
func TestMultiDrain(t *testing.T) {
	w := start(t, "multi", "unix", nil, "-t", "unix", "-u")
	c := w.dial()
	w.say(c, "x", "x")
	unix.Close(w.status)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read: %d %v", n, err)
	}
	if code := w.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// An Event daemon is gone for master at once and serves its clients on.
func TestEventDrain(t *testing.T) {
	w := start(t, "event", "unix", nil, "-t", "unix", "-u")
	c := w.dial()
	w.say(c, "x", "x")
	unix.Close(w.status)
	if code := w.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	w.say(c, "y", "y")
	c.Close()
}

func TestTriggerAndDatagram(t *testing.T) {
	w := start(t, "trigger", "unix", nil, "-t", "unix", "-u", "-l")
	c := w.dial()
	_, _ = c.Write([]byte("WF\x00"))
	_, _ = io.Copy(io.Discard, c)
	if !strings.Contains(w.log(), `got "WF\x00"`) {
		t.Errorf("log: %s", w.log())
	}
	if m := w.message(time.Second) + w.message(time.Second); m != "01" {
		t.Errorf("status %q", m)
	}
	w = start(t, "dgram", "unixgram", nil, "-t", "unix-dgram", "-u", "-l")
	d, err := net.Dial("unixgram", w.listen)
	must(t, err)
	defer d.Close()
	_, _ = d.Write([]byte("one"))
	_, _ = d.Write([]byte("two"))
	for range 50 {
		if strings.Contains(w.log(), `got "two"`) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("log: %s", w.log())
}

func TestPass(t *testing.T) {
	w := start(t, "single", "unix", nil, "-t", "pass", "-u")
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	carrier := w.dial()
	must(t, fdpass.Send(carrier.(*net.UnixConn), pair[1]))
	unix.Close(pair[1])
	_, _ = io.WriteString(carrier, "client_address\x00192.0.2.1\x00client_port\x0025\x00\x00")
	if n, err := carrier.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("carrier: %d %v", n, err)
	}
	f := os.NewFile(uintptr(pair[0]), "client")
	c, err := net.FileConn(f)
	must(t, err)
	f.Close()
	defer c.Close()
	w.say(c, "attrs", "192.0.2.1 pass")
	// Half a message must not disturb the others.
	bad := w.dial()
	_, _ = bad.Write([]byte{0})
	bad.Close()
	w.say(c, "x", "x")
}

func TestRefusals(t *testing.T) {
	for _, x := range []struct {
		kind string
		args []string
		want string
	}{
		{"single", nil, "fatal: no transport type specified"},
		{"single", []string{"-t", "fifo"}, "fatal: unsupported transport type: fifo"},
		{"one", []string{"-t", "unix"}, "fatal: service one requires a process limit of 1"},
		{"single", []string{"-o", "=x"}, `fatal: invalid "-o =x" option value: missing attribute name`},
		{"single", []string{"-o", "x"}, `fatal: invalid "-o x" option value: missing '=' after attribute name`},
		{"single", []string{"-s", "x"}, "fatal: invalid socket_count: x"},
		{"single", []string{"-Q"}, "fatal: invalid option: Q"},
		{"single", []string{"-t", "unix", "word"}, "fatal: unexpected command-line argument: word"},
	} {
		t.Run(x.want, func(t *testing.T) {
			t.Parallel()
			w := start(t, x.kind, "unix", nil, x.args...)
			if code := w.exit(); code != 1 || !strings.Contains(w.log(), x.want) {
				t.Errorf("exit status %d, stderr: %s", code, w.log())
			}
		})
	}
}

func TestStandAlone(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "spool"), 0o755))
	writeConfig(t, dir)
	cmd := exec.Command(os.Args[0], "-S")
	cmd.Env = []string{"SERVICE_TEST_DAEMON=single", "MAIL_CONFIG=" + filepath.Join(dir, "etc")}
	cmd.Stdin = strings.NewReader("a\nplaces\n")
	out, err := cmd.Output()
	if err != nil || string(out) != "a\n1\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestKilledBySignal(t *testing.T) {
	w := start(t, "single", "unix", nil, "-t", "unix", "-u")
	w.say(w.dial(), "x", "x")
	must(t, w.cmd.Process.Signal(syscall.SIGTERM))
	<-w.ended
	status := w.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v", w.cmd.ProcessState)
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("-lzt\x00unix\x00-o\x00a=b\x00-i5\x00--\x00x")
	f.Add("-o\x00{ a = b }")
	f.Fuzz(func(t *testing.T, text string) {
		argv := append([]string{"x"}, strings.Split(text, "\x00")...)
		o, err := parseOptions(&Service{Options: "x:y"}, argv)
		if err == nil && len(o.args) > len(argv) {
			t.Error("more arguments than words")
		}
	})
}
