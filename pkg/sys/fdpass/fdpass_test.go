package fdpass

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *net.UnixConn) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

func TestPass(t *testing.T) {
	a, b := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := Send(a, int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	f, err := Recv(b)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString("x")
	f.Close()
	buffer := make([]byte, 2)
	if n, _ := r.Read(buffer); string(buffer[:n]) != "x" {
		t.Errorf("got %q", buffer[:n])
	}
	_, _ = a.Write([]byte{0})
	if _, err := Recv(b); !errors.Is(err, ErrNoDescriptor) {
		t.Errorf("without a descriptor: %v", err)
	}
	a.Close()
	if _, err := Recv(b); err == nil {
		t.Error("no error at the end")
	}
}
