package sock

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// accept takes one client off a listener, as the accept loop does.
func accept(t *testing.T, l syscall.Conn) net.Conn {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var c net.Conn
	for range 100 {
		err = raw.Control(func(fd uintptr) {
			if nfd, peer, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC); err == nil {
				c = Accepted(nfd, peer)
			}
		})
		if err != nil || c != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if c == nil {
		t.Fatal("accept", err)
	}
	return c
}

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := DialUnix(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := DialUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	server := accept(t, l.(*net.UnixListener))
	conversation(t, client, server)
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server := accept(t, l.(*net.TCPListener))
	if got, want := server.RemoteAddr().String(), client.LocalAddr().String(); got != want {
		t.Errorf("remote %s, want %s", got, want)
	}
	if got, want := server.LocalAddr().String(), client.RemoteAddr().String(); got != want {
		t.Errorf("local %s, want %s", got, want)
	}
	conversation(t, client, server)
}

// conversation tries what users of a net.Conn rely on.
func conversation(t *testing.T, client, server net.Conn) {
	t.Helper()
	server.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	var timeout net.Error
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("deadline: %v", err)
	}
	server.SetReadDeadline(time.Time{})
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	b := make([]byte, 10)
	if n, err := server.Read(b); string(b[:n]) != "hello" || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
	client.Close()
	if _, err := server.Read(b); err != io.EOF {
		t.Errorf("after close: %v", err)
	}
	for range 2 {
		server.Write([]byte("x"))
	}
	if _, err := server.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("write to nobody: %v", err)
	}
	server.Close()
	if _, err := server.Read(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// A socket that another process has, too, is watched no more when ours is
// closed.
func TestPassedOn(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	other, err := unix.Dup(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	c := unixConn(fds[0], "")
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	c.Read(make([]byte, 1))
	w, err := input()
	if err != nil {
		t.Fatal(err)
	}
	watched := func() int {
		info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(w.fd))
		if err != nil {
			t.Skip(err)
		}
		return strings.Count(string(info), "tfd:")
	}
	before := watched()
	c.Close()
	if n := watched(); n != before-1 {
		t.Errorf("%d sockets watched before, %d after", before, n)
	}
}
