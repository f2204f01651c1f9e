// Package trigger wakes up services: it delivers a string of one-byte requests
// to a socket or FIFO (spec ipc.md §1.6). What the bytes mean is the service's
// business; pickup takes any, qmgr has W, I, D, F and A.
//
// Errors are those of the operating system; ErrKind for a path that is neither a
// socket nor a FIFO.
package trigger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"posthaste/pkg/sys/sock"
)

// Timeout bounds connecting and writing when the context has no deadline.
const Timeout = 10 * time.Second

// ErrKind is returned for a path that cannot be triggered.
var ErrKind = errors.New("neither a socket nor a FIFO")

// Send triggers the service below the working directory, which must be
// queue_directory. class is "public" or "private".
//
// It does not wait for the service to read: Linux keeps what was written to a
// closed UNIX-domain stream, and a service that is still to be started
// would hold up the caller.
func Send(ctx context.Context, class, service, requests string) error {
	return SendPath(ctx, filepath.Join(class, service), requests)
}

// SendPath is Send for the path of a socket or FIFO.
func SendPath(ctx context.Context, path, requests string) error {
	c, dialErr := sock.DialUnix(path)
	if dialErr == nil {
		return deliver(ctx, c, requests)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeNamedPipe:
		return sendFIFO(path, requests)
	case fs.ModeSocket:
		return dialErr
	}
	return fmt.Errorf("trigger %s: %w", path, ErrKind)
}

// SendInet triggers a service that listens on TCP at "host:port".
func SendInet(ctx context.Context, address, requests string) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return deliver(ctx, c, requests)
}

// deliver writes the requests and the NUL that ends them. (The original writes
// the NUL by itself. To a server that is the same: it ignores NULs, and may
// get both with one read, or close after the first.)
func deliver(ctx context.Context, c net.Conn, requests string) error {
	defer c.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(Timeout)
	}
	c.SetDeadline(deadline)
	_, err := c.Write(append([]byte(requests), 0))
	return err
}

// sendFIFO never blocks: without a reader the open fails with ENXIO.
func sendFIFO(path, requests string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if _, err := f.Write([]byte(requests)); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
