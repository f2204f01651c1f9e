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
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeNamedPipe:
		return sendFIFO(path, requests)
	case fs.ModeSocket:
		return sendSocket(ctx, "unix", path, requests)
	}
	return fmt.Errorf("trigger %s: %w", path, ErrKind)
}

// SendInet triggers a service that listens on TCP at "host:port".
func SendInet(ctx context.Context, address, requests string) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return sendSocket(ctx, "tcp", address, requests)
}

// sendSocket ends the requests with a NUL in a write of its own, as the servers
// of the original see it.
func sendSocket(ctx context.Context, network, address, requests string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		c.SetDeadline(deadline)
	}
	if _, err := c.Write([]byte(requests)); err != nil {
		return err
	}
	// A fast server may have read, acted and closed already.
	if _, err := c.Write([]byte{0}); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	return nil
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
