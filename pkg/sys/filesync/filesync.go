// Package filesync makes files durable without a thread that waits for the
// disk. fsync(2) blocks its thread for a millisecond or more; the Go runtime
// notices late that the thread is gone, wakes its monitor and another thread to
// go on, and parks one of the two afterwards: eight context switches and a
// processor that does nothing meanwhile. Here the kernel's asynchronous
// I/O does the fsync (io_submit(2), IOCB_CMD_FSYNC) and an eventfd tells
// when it is done. Where the kernel does not offer that, it is fsync(2).
//
// The error is that of fsync: an *fs.PathError.
package filesync

import (
	"io/fs"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/aio_abi.h.
const (
	commandFsync = 2
	flagEventFD  = 1
	depth        = 128 // fsyncs under way; more use fsync(2)
)

// control is the kernel's struct iocb; blank fields mean nothing for an fsync.
type control struct {
	data    uint64
	_       uint32 // key
	_       uint32 // rwFlags
	opcode  uint16
	_       int16 // priority
	fd      uint32
	_       uint64 // buf
	_       uint64 // bytes
	_       int64  // offset
	_       uint64
	flags   uint32
	eventFD uint32
}

type event struct {
	data, _   uint64 // with the object
	result, _ int64
}

// queue is the kernel's queue of fsyncs. There is one in a process: the kernel
// makes room for each at a price.
type queue struct {
	context uintptr
	eventFD int

	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan syscall.Errno
}

var shared = sync.OnceValues(open)

func open() (*queue, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "eventfd")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	q := &queue{eventFD: fd, pending: make(map[uint64]chan syscall.Errno)}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, depth, uintptr(unsafe.Pointer(&q.context)), 0); errno != 0 {
		f.Close()
		return nil, errno
	}
	go func() {
		defer f.Close()
		// The counter is never read: each completion is an edge.
		_ = raw.Read(func(uintptr) bool { q.harvest(); return false })
	}()
	return q, nil
}

// Sync is f.Sync.
func Sync(f *os.File) error {
	q, err := shared()
	if err != nil {
		return f.Sync()
	}
	done, submitted := q.submit(f)
	if !submitted {
		return f.Sync()
	}
	errno := <-done
	runtime.KeepAlive(f)
	switch errno {
	case 0:
		return nil
	case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP: // not for this file system
		return f.Sync()
	}
	return &fs.PathError{Op: "sync", Path: f.Name(), Err: errno}
}

func (q *queue) submit(f *os.File) (chan syscall.Errno, bool) {
	done := make(chan syscall.Errno, 1)
	q.mu.Lock()
	q.last++
	id := q.last
	q.pending[id] = done
	q.mu.Unlock()
	c := control{data: id, opcode: commandFsync, fd: uint32(f.Fd()), flags: flagEventFD, eventFD: uint32(q.eventFD)}
	list := [1]*control{&c}
	n, _, errno := unix.RawSyscall(unix.SYS_IO_SUBMIT, q.context, 1, uintptr(unsafe.Pointer(&list)))
	runtime.KeepAlive(f)
	if errno == 0 && n == 1 {
		return done, true
	}
	q.mu.Lock()
	delete(q.pending, id)
	q.mu.Unlock()
	return nil, false
}

// harvest tells those whose fsync is done.
func (q *queue) harvest() {
	var events [16]event
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_IO_GETEVENTS, q.context, 0, uintptr(len(events)), uintptr(unsafe.Pointer(&events)), 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return
		}
		for _, e := range events[:n] {
			q.mu.Lock()
			done := q.pending[e.data]
			delete(q.pending, e.data)
			q.mu.Unlock()
			if done != nil {
				done <- syscall.Errno(-e.result)
			}
		}
		if int(n) < len(events) {
			return
		}
	}
}
