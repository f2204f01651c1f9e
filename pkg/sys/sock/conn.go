package sock

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// conn is a stream socket. Its system calls never block, and so the Go
// scheduler is not told about them (RawSyscall): that would wake the runtime's
// monitor thread at each request of a process that has been idle.
type conn struct {
	network       string
	local, remote net.Addr

	mu      sync.Mutex // held during a system call: the descriptor stays ours
	fd      int
	closed  bool
	id      uint64   // in the watcher; 0 is not there
	watcher *watcher // nil until the first wait
	output  bool     // watched for room, too
	in, out direction
}

// direction is one half of a connection.
type direction struct {
	ready    bool // something has happened since the last attempt
	deadline time.Time
	wake     chan struct{} // of one element, made at the first wait
	waiting  int
	timer    *time.Timer
}

func newConn(fd int, network string) *conn {
	return &conn{fd: fd, network: network}
}

// Read is that of net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n := 0
	err := c.try(&c.in, func(fd int) (err error) {
		n, err = call(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT)
		return err
	})
	if err != nil {
		return 0, c.error("read", err)
	}
	acquired()
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write is that of net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	released()
	done := 0
	for {
		err := c.try(&c.out, func(fd int) error {
			n, err := call(unix.SYS_SENDTO, fd, b[done:], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			done += n
			return err
		})
		if err != nil {
			return done, c.error("write", err)
		}
		if done >= len(b) {
			return done, nil
		}
	}
}

// Peek copies what has arrived and was not read yet, without waiting; 0 is
// nothing, or the end.
func (c *conn) Peek(b []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0
	}
	n, _ := call(unix.SYS_RECVFROM, c.fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n
}

// call is recvfrom or sendto without an address.
func call(trap uintptr, fd int, b []byte, flags uintptr) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// try makes a system call again and again until it does not say EAGAIN.
func (c *conn) try(d *direction, f func(fd int) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.closed {
			return net.ErrClosed
		}
		if d.expired() {
			return os.ErrDeadlineExceeded
		}
		d.ready = false
		switch err := f(c.fd); err {
		case unix.EINTR:
		case unix.EAGAIN:
			if err := c.wait(d); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (d *direction) expired() bool { return !d.deadline.IsZero() && !time.Now().Before(d.deadline) }

// wait returns when the direction may be ready, its deadline has come or
// changed, or the connection was closed. c.mu is held, but not meanwhile.
func (c *conn) wait(d *direction) error {
	if d.wake == nil {
		d.wake = make(chan struct{}, 1)
	}
	fresh, err := c.watch(d)
	if err != nil || fresh {
		return err // what came before we watched is not reported: look again
	}
	if d.ready {
		return nil
	}
	d.waiting++
	d.arm()
	c.mu.Unlock()
	<-d.wake
	c.mu.Lock()
	d.waiting--
	if d.waiting > 0 {
		d.signal() // whoever else waits looks for himself
	} else if d.timer != nil {
		d.timer.Stop()
	}
	return nil
}

// watch has the socket watched; fresh tells that it was not before.
func (c *conn) watch(d *direction) (fresh bool, err error) {
	if c.watcher == nil {
		w, err := input()
		if err != nil {
			return false, err
		}
		if err := w.add(c); err != nil {
			return false, err
		}
		c.watcher, fresh = w, true
	}
	if d == &c.out && !c.output {
		if err := c.watcher.output(c); err != nil {
			return false, err
		}
		c.output, fresh = true, true
	}
	return fresh, nil
}

// arm sets the timer that ends a wait.
func (d *direction) arm() {
	switch {
	case d.deadline.IsZero():
		if d.timer != nil {
			d.timer.Stop()
		}
	case d.timer == nil:
		d.timer = time.AfterFunc(time.Until(d.deadline), d.signal)
	default:
		d.timer.Reset(time.Until(d.deadline))
	}
}

func (d *direction) signal() {
	select {
	case d.wake <- struct{}{}:
	default: // has been told
	}
}

// wake is called by the watcher.
func (c *conn) wake(events uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	const failed = unix.EPOLLERR | unix.EPOLLHUP
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|failed) != 0 {
		c.in.happened()
	}
	if events&(unix.EPOLLOUT|failed) != 0 {
		c.out.happened()
	}
}

func (d *direction) happened() {
	d.ready = true
	if d.waiting > 0 {
		d.signal()
	}
}

// Close closes the connection; who reads or writes gets net.ErrClosed.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.error("close", net.ErrClosed)
	}
	c.closed = true
	if c.watcher != nil {
		c.watcher.remove(c)
	}
	c.in.happened()
	c.out.happened()
	if errno := CloseNow(c.fd); errno != 0 && errno != unix.EINTR {
		return c.error("close", errno)
	}
	return nil
}

// ReadNow reads from a socket that does not block, behind the Go scheduler's
// back.
func ReadNow(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// CloseNow closes a socket as ReadNow reads.
func CloseNow(fd int) syscall.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return errno
}

// CloseWrite ends the stream to the peer.
func (c *conn) CloseWrite() error {
	return c.error("close", c.try(&c.out, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }))
}

// LocalAddr is that of net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is that of net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline is that of net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.setDeadline(t, &c.in, &c.out) }

// SetReadDeadline is that of net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.setDeadline(t, &c.in) }

// SetWriteDeadline is that of net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(t, &c.out) }

func (c *conn) setDeadline(t time.Time, directions ...*direction) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.error("set", net.ErrClosed)
	}
	for _, d := range directions {
		d.deadline = t
		if d.waiting > 0 {
			d.signal() // it looks at the new deadline
		}
	}
	return nil
}

// SyscallConn gives access to the descriptor, as package net does.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return rawConn{c}, nil }

type rawConn struct{ c *conn }

func (r rawConn) Control(f func(fd uintptr)) error {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.closed {
		return net.ErrClosed
	}
	f(uintptr(r.c.fd))
	return nil
}

func (r rawConn) Read(f func(fd uintptr) bool) error  { return r.until(&r.c.in, f) }
func (r rawConn) Write(f func(fd uintptr) bool) error { return r.until(&r.c.out, f) }

func (r rawConn) until(d *direction, f func(fd uintptr) bool) error {
	return r.c.try(d, func(fd int) error {
		if f(uintptr(fd)) {
			return nil
		}
		return unix.EAGAIN
	})
}

// Readable tells whether a read of the socket fd would return at once: there
// is data, the end, or an error.
func Readable(fd uintptr) bool {
	var b [1]byte
	_, err := call(unix.SYS_RECVFROM, int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err != unix.EAGAIN
}
