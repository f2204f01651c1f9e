// Package dial opens connections to the suite's own services: UNIX-domain
// sockets named "private/NAME" and "public/NAME" below the queue directory,
// which is every daemon's working directory (spec ipc.md, first paragraph).
//
// Dial makes one attempt, Connect repeats it by the rule of ipc.md §1.3. A
// Conn limits each single read and write (parameter ipc_timeout) and can be
// bound to a context. Pool keeps connections to services that answer many
// requests on one, and repeats failed exchanges.
//
// Errors are those of package net, or the context's.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/sys/sock"
)

// Classes of services: the directory a socket is in.
const (
	Public  = "public"
	Private = "private"
)

// Limits of ipc.md §1.3 that are no parameters.
const (
	DefaultTimeout  = 3600 * time.Second // ipc_timeout
	ConnectAttempts = 11
	ConnectDelay    = 10 * time.Second
)

// busyPause is the time between two looks at a full listen queue.
const busyPause = 20 * time.Millisecond

// Logger is the part of a logger that clients of services use; a
// *maillog.Logger is one.
type Logger interface {
	Warn(format string, a ...any)
}

// Dialer says how to reach services. Its zero value works: sockets below the
// working directory, the default timeout, nothing logged.
type Dialer struct {
	Dir     string        // queue_directory; "" is the working directory
	Timeout time.Duration // of each read and write (ipc_timeout); 0 is DefaultTimeout
	Log     Logger        // nil discards
}

func (d Dialer) warn(format string, a ...any) {
	if d.Log != nil {
		d.Log.Warn(format, a...)
	}
}

// Path is the socket of a service.
func (d Dialer) Path(class, service string) string {
	return filepath.Join(d.Dir, class, service)
}

// Dial connects to a service, once. While the service's listen queue is full it
// waits, up to ConnectDelay or the timeout if that is shorter: such a service is
// not dead but busy, or about to start.
func (d Dialer) Dial(ctx context.Context, class, service string) (*Conn, error) {
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := d.Path(class, service)
	c, err := sock.DialUnix(path)
	for left := min(timeout, ConnectDelay); errors.Is(err, syscall.EAGAIN) && left > 0; left -= busyPause {
		if err := Sleep(ctx, busyPause); err != nil {
			return nil, err
		}
		c, err = sock.DialUnix(path)
	}
	if err != nil {
		return nil, err
	}
	return NewConn(c, timeout, class+"/"+service+" socket"), nil
}

// Policy says how often Connect tries. Attempts 0 means until the context ends.
type Policy struct {
	Attempts int
	Delay    time.Duration
}

// Connect is Dial repeated by a policy. Each failure is logged as
// "connect #N to subsystem CLASS/SERVICE: reason"; the last one is returned.
func (d Dialer) Connect(ctx context.Context, class, service string, p Policy) (*Conn, error) {
	for n := 1; ; n++ {
		c, err := d.Dial(ctx, class, service)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		d.warn("connect #%d to subsystem %s/%s: %s", n, class, service, Reason(err))
		if n == p.Attempts {
			return nil, err
		}
		if err := Sleep(ctx, p.Delay); err != nil {
			return nil, err
		}
	}
}

// Patient is the policy of callers that cannot go on without the service:
// eleven attempts, ten seconds apart.
func Patient() Policy { return Policy{Attempts: ConnectAttempts, Delay: ConnectDelay} }

// Dial connects once to a service below the working directory.
func Dial(ctx context.Context, class, service string) (*Conn, error) {
	return Dialer{}.Dial(ctx, class, service)
}

// Connect is Dialer.Connect for a service below the working directory.
func Connect(ctx context.Context, class, service string, p Policy) (*Conn, error) {
	return Dialer{}.Connect(ctx, class, service, p)
}

// Reason is the text of an error as %m shows it: that of the errno if there is
// one ("Connection refused"), else the whole.
func Reason(err error) string {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errnoText(errno)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "Connection timed out"
	}
	return err.Error()
}

// errnoText has libc's capital letter.
func errnoText(e syscall.Errno) string {
	s := e.Error()
	if s != "" && s[0] >= 'a' && s[0] <= 'z' {
		s = string(s[0]-'a'+'A') + s[1:]
	}
	return s
}

// Sleep waits, or returns the reason why ctx ended before.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Conn is a connection to a service (or, on the service's side, to a client)
// with its attribute streams. Each Read and Write has the connection's timeout.
type Conn struct {
	net.Conn
	In      *attr.Reader // null-coded lists from the peer
	Out     *attr.Writer // null-coded lists to the peer
	timeout time.Duration
	aborted atomic.Bool
}

// NewConn wraps a connection; name is how its errors call it ("private/bounce
// socket"). A timeout of 0 is none.
func NewConn(c net.Conn, timeout time.Duration, name string) *Conn {
	conn := &Conn{Conn: c, timeout: timeout}
	conn.In = attr.NewReader(conn, attr.Null, name)
	conn.Out = attr.NewWriter(conn, attr.Null)
	return conn
}

// Bind ends all waiting on c when ctx ends. The returned function undoes that;
// it reports false when ctx ended first, and c is then of no more use.
func (c *Conn) Bind(ctx context.Context) (release func() bool) {
	return context.AfterFunc(ctx, func() {
		c.aborted.Store(true)
		c.Conn.SetDeadline(time.Unix(1, 0))
	})
}

// arm sets one deadline; an abort that comes meanwhile wins.
func (c *Conn) arm(set func(time.Time) error) {
	if c.timeout > 0 && !c.aborted.Load() {
		set(time.Now().Add(c.timeout))
	}
	if c.aborted.Load() {
		set(time.Unix(1, 0))
	}
}

// Read is net.Conn's with the timeout.
func (c *Conn) Read(p []byte) (int, error) {
	c.arm(c.Conn.SetReadDeadline)
	return c.Conn.Read(p)
}

// Write is net.Conn's with the timeout.
func (c *Conn) Write(p []byte) (int, error) {
	c.arm(c.Conn.SetWriteDeadline)
	return c.Conn.Write(p)
}

// Expect reads and verifies the service's announcement.
func (c *Conn) Expect(protocol string) error { return attr.Expect(c.In, protocol) }

// Stale reports whether an idle connection has become readable.
func (c *Conn) Stale() bool { return c.In.Buffered().Buffered() > 0 || Readable(c.Conn) }

// ErrStatus is wrapped by StatusError.
var ErrStatus = errors.New("request not done")

// StatusError is a reply whose status says that the request was not done.
type StatusError struct {
	Service string
	Status  int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("service %s: status %d", e.Service, e.Status)
}

func (e *StatusError) Unwrap() error { return ErrStatus }
