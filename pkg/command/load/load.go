// Package load is what the four load tools share (smtp-source, smtp-sink,
// qmqp-source, qmqp-sink): addresses, connections, the count of what is still
// to be sent, and pauses.
//
// The tools take the original's command lines and say the same to their peer;
// they are for tests and measurements, read no main.cf and log to standard
// error.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/command"
	"posthaste/pkg/sys/maillog"
)

// Logger logs to standard error under the name that the program was called by.
func Logger(args []string, env command.Env, verbose int) *maillog.Logger {
	return maillog.New(maillog.Config{
		Tag: args[0], StderrTag: args[0], Stderr: true, StderrOnly: true, ErrorOutput: env.Stderr,
		Verbose: verbose, ManyErrors: true, Exit: command.Exit,
	})
}

// Address is "[inet:]host:port" or "unix:path".
type Address struct {
	Text    string // as it was given
	network string
	address string
}

// Parse reads an address. Without a port it is defaultPort; an empty
// defaultPort demands one. family is 0, 4 or 6.
func Parse(text, defaultPort string, family int) (Address, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return Address{text, "unix", path}, nil
	}
	rest := strings.TrimPrefix(text, "inet:")
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		host, port = strings.Trim(rest, "[]"), defaultPort
		if i := strings.LastIndexByte(rest, ':'); i >= 0 && strings.Count(rest, ":") == 1 || port == "" {
			return Address{}, fmt.Errorf("bad address: %s", text[max(i, 0):])
		}
	}
	network := "tcp"
	if family != 0 {
		network += strconv.Itoa(family)
	}
	return Address{text, network, net.JoinHostPort(host, port)}, nil
}

// Resolve looks up host and port, once for all connections.
func (a *Address) Resolve() error {
	if a.network == "unix" {
		return nil
	}
	host, port, _ := net.SplitHostPort(a.address)
	number, err := net.LookupPort(a.network, port)
	if err != nil {
		return fmt.Errorf("%s: Servname not supported for ai_socktype", a.Text)
	}
	if host != "" && net.ParseIP(host) == nil {
		addrs, err := net.LookupHost(host)
		if err != nil {
			return fmt.Errorf("%s: %s", a.Text, lookupText(err))
		}
		if len(addrs) == 1 {
			host = addrs[0]
		}
	}
	a.address = net.JoinHostPort(host, strconv.Itoa(number))
	return nil
}

func lookupText(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return "Name or service not known"
	}
	return "Temporary failure in name resolution"
}

// Listen opens the address; the socket file of a "unix:" address replaces an
// old one and is for everyone. window, if not 0, is the size of the receive
// buffer in bytes.
func (a Address) Listen(backlog, window int) (net.Listener, error) {
	network := a.network
	if host, _, _ := net.SplitHostPort(a.address); network == "tcp" && host == "" {
		network = "tcp4" // as the original does without a host
	}
	if network == "unix" {
		if st, err := os.Lstat(a.address); err == nil && st.Mode()&os.ModeSocket != 0 {
			_ = os.Remove(a.address)
		}
	}
	config := net.ListenConfig{Control: control(window)}
	l, err := config.Listen(context.Background(), network, a.address)
	if err != nil {
		return nil, fmt.Errorf("bind: %s: %w", strings.TrimPrefix(a.Text, "unix:"), Reason(err))
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
		if err := os.Chmod(a.address, 0o666); err != nil {
			l.Close()
			return nil, err
		}
	}
	if raw, ok := l.(syscall.Conn); ok {
		setBacklog(raw, backlog)
	}
	return l, nil
}

// setBacklog calls listen(2) again, because the net package knows only the
// system's maximum.
func setBacklog(l syscall.Conn, backlog int) {
	if c, err := l.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Listen(int(fd), backlog) })
	}
}

func control(window int) func(network, address string, c syscall.RawConn) error {
	if window == 0 {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, window),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, window))
		})
		return errors.Join(cerr, err)
	}
}

// refusedPause is how long Dial waits before it tries a refusing host again.
const refusedPause = 10 * time.Millisecond

// Dial connects; a host that refuses is tried so many times. The error is
// what the original says.
func (a Address) Dial(tries, window int, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, Control: control(window), KeepAlive: -1}
	for {
		c, err := d.Dial(a.network, a.address)
		if err == nil {
			return c, nil
		}
		if tries--; tries < 1 || !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			return nil, fmt.Errorf("connect: %w", Reason(err))
		}
		time.Sleep(refusedPause)
	}
}

// Reason is the system's error alone, in the C library's words.
func Reason(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return maillog.Errno(no)
	}
	return err
}

// Counter hands out messages, and counts what is done. Many sessions use it.
type Counter struct {
	left, done atomic.Int64
}

// NewCounter has n messages to hand out.
func NewCounter(n int) *Counter {
	c := &Counter{}
	c.left.Store(int64(n))
	return c
}

// Take reports whether there is one more message; rest are left after it.
func (c *Counter) Take() (rest int, ok bool) {
	n := c.left.Add(-1)
	return int(n), n >= 0
}

// Done counts a finished message.
func (c *Counter) Done() int { return int(c.done.Add(1)) }

// Pause is the wait between two messages of a session: Fixed, or up to Random.
type Pause struct{ Fixed, Random int } // seconds

// Wait waits.
func (p Pause) Wait() {
	seconds := p.Fixed
	if p.Random > 0 {
		seconds = rand.IntN(p.Random + 1)
	}
	time.Sleep(time.Duration(seconds) * time.Second)
}

// Number reads a decimal number of at least least.
func Number(text string, least int) (n int, ok bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= least
}
