package sock

import (
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watcher tells connections that their sockets have become ready. The
// runtime's poller could do that, too, but it always asks for both
// directions, and the kernel tells the writer of a UNIX-domain stream that
// there is room each time the reader takes something: a process that has sent
// a request would be woken when its peer reads it, for nothing. So the
// sockets are in an epoll set of our own, for input only, edge-triggered; the
// set is registered with the runtime's poller.
type watcher struct {
	fd  int
	raw syscall.RawConn

	mu    sync.Mutex
	next  uint64
	conns map[uint64]*conn
}

// input is the one of this process: as the runtime's poller it exists once.
var input = sync.OnceValues(newWatcher)

func newWatcher() (*watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	w := &watcher{fd: fd, raw: raw, conns: map[uint64]*conn{}}
	go w.run(f)
	return w, nil
}

const interest = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff

// add begins to watch a connection's socket for input.
func (w *watcher) add(c *conn) error {
	w.mu.Lock()
	w.next++
	c.id = w.next
	w.conns[c.id] = c
	w.mu.Unlock()
	err := w.control(unix.EPOLL_CTL_ADD, c, interest)
	if err != nil {
		w.remove(c)
	}
	return err
}

// output has it watched for room as well, from now on.
func (w *watcher) output(c *conn) error {
	return w.control(unix.EPOLL_CTL_MOD, c, interest|unix.EPOLLOUT)
}

// remove forgets a connection. Its socket leaves the set, which closing it
// would bring about only if no other process had it, as one to which it was
// passed: we would be woken by all that comes for that one.
func (w *watcher) remove(c *conn) {
	_ = w.control(unix.EPOLL_CTL_DEL, c, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c.id)
}

func (w *watcher) control(op int, c *conn, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(c.id), Pad: int32(c.id >> 32)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(w.fd), uintptr(op), uintptr(c.fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// run passes on what the kernel reports, for ever. All is done inside of Read:
// what happens while we look is kept for its next wait.
func (w *watcher) run(f *os.File) {
	defer f.Close()
	var events [64]unix.EpollEvent
	_ = w.raw.Read(func(fd uintptr) bool {
		for {
			n := Ready(int(fd), events[:])
			for _, e := range events[:n] {
				w.mu.Lock()
				c := w.conns[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
				w.mu.Unlock()
				if c != nil {
					c.wake(e.Events)
				}
			}
			if n < len(events) {
				return false
			}
		}
	})
}

// Ready tells what is ready in an epoll set, without waiting; nothing on
// errors.
func Ready(fd int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}
