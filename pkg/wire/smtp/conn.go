// Package smtp is the SMTP line protocol as both sides of it speak it: a
// connection with deadlines and bounded, pooled buffers, lines with their
// kind of ending, replies, dot-stuffed content and the tokenizer of commands
// (RFC 5321; spec smtpd.md §1.6, §1.7, §2.1, §2.7, §3.1).
//
// A Conn holds no large buffer while it waits for its peer. Errors are
// values: ErrTimeout when a deadline passed, io.EOF and the errors of the
// network when the peer went away, *LineError when a reply breaks the
// protocol. Nothing here logs.
package smtp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// ErrTimeout is returned when the peer did not send or take data in time.
var ErrTimeout = errors.New("timeout")

const (
	idleBuffer = 192      // bytes read at once while waiting for a command; part of the Conn
	bulkBuffer = 8 * 1024 // bytes of a pooled buffer, held while there is more to read or write
)

// flushAge is how long written text may stay unsent while the connection is
// busy with something else (spec smtpd.md §1.4).
const flushAge = 10 * time.Second

var bulkPool = sync.Pool{New: func() any { return new([bulkBuffer]byte) }}

// Conn is a buffered connection that speaks in lines. It is used by one
// goroutine.
type Conn struct {
	// Timeout limits each network read and write, or with PerRequest set all
	// of them since StartRequest. Zero means no limit.
	Timeout    time.Duration
	PerRequest bool
	// MinRate, bytes a second, extends a per-request deadline by the time
	// the received data was worth; zero does not extend it.
	MinRate int

	nc       net.Conn
	deadline time.Time // of the request, with PerRequest
	lastIO   time.Time

	r, w    int    // unread input is in[r:w]
	in      []byte // idle or *bulk
	idle    [idleBuffer]byte
	bulk    *[bulkBuffer]byte
	hold    bool // content is being read: keep the bulk buffer
	readErr error

	out      []byte // unsent output, part of outBulk
	outBulk  *[bulkBuffer]byte
	writeErr error
}

// NewConn returns a Conn on nc.
func NewConn(nc net.Conn, timeout time.Duration) *Conn {
	c := &Conn{Timeout: timeout, nc: nc, lastIO: time.Now()}
	c.in = c.idle[:]
	return c
}

// NetConn is the connection below.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Replace goes on with another connection, after STARTTLS say: input that was
// received but not read is thrown away, so that nothing sent in the clear is
// taken for something sent under TLS (CVE-2011-0411).
func (c *Conn) Replace(nc net.Conn) {
	c.r, c.w = 0, 0
	c.readErr, c.writeErr = nil, nil
	c.nc = nc
}

// Close sends nothing, gives the buffers back and closes the connection.
func (c *Conn) Close() error {
	c.Release()
	return c.nc.Close()
}

// Release gives the buffers back and drops what they held. The Conn can be
// used further.
func (c *Conn) Release() {
	c.r, c.w, c.hold = 0, 0, false
	c.releaseInput()
	if c.outBulk != nil {
		bulkPool.Put(c.outBulk)
		c.outBulk, c.out = nil, nil
	}
}

func (c *Conn) releaseInput() {
	if c.bulk != nil {
		bulkPool.Put(c.bulk)
		c.bulk = nil
	}
	c.in = c.idle[:]
}

// StartRequest starts the clock of a per-request deadline.
func (c *Conn) StartRequest() {
	if c.PerRequest && c.Timeout > 0 {
		c.deadline = time.Now().Add(c.Timeout)
	}
}

// SetBulk says that much input is expected: the large buffer is kept until
// it is called with false.
func (c *Conn) SetBulk(on bool) { c.hold = on }

// Buffered is the number of received bytes not yet read.
func (c *Conn) Buffered() int { return c.w - c.r }

// Peek returns up to max bytes that the peer has sent already and that are
// not yet read, without waiting. A TLS connection reports only what was
// decrypted.
func (c *Conn) Peek(max int) []byte {
	if c.w > c.r {
		return c.in[c.r:min(c.w, c.r+max)]
	}
	if p, ok := c.nc.(interface{ Peek(b []byte) int }); ok && c.readErr == nil {
		buf := make([]byte, max)
		return buf[:p.Peek(buf)]
	}
	sc, ok := c.nc.(syscall.Conn)
	if !ok || c.readErr != nil {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	buf := make([]byte, max)
	n := 0
	raw.Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), buf, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return buf[:max0(n)]
}

func max0(n int) int { return max(n, 0) }

// wait returns the deadline of the next read or write.
func (c *Conn) wait() time.Time {
	switch {
	case c.Timeout <= 0:
		return time.Time{}
	case c.PerRequest && !c.deadline.IsZero():
		return c.deadline
	}
	return time.Now().Add(c.Timeout)
}

// fill gets more input; it flushes output first, because the peer may be
// waiting for it.
func (c *Conn) fill() error {
	if err := c.Flush(); err != nil {
		return err
	}
	if c.readErr != nil {
		return c.readErr
	}
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
		if c.hold && c.bulk == nil {
			c.grow()
		} else if !c.hold {
			c.releaseInput()
		}
	case c.w == len(c.in) && c.bulk == nil:
		c.grow()
	case c.w == len(c.in):
		copy(c.in, c.in[c.r:c.w])
		c.r, c.w = 0, c.w-c.r
	}
	c.nc.SetReadDeadline(c.wait())
	n, err := c.nc.Read(c.in[c.w:])
	c.w += n
	if n > 0 {
		c.received(n)
		if err != nil {
			c.readErr = mapError(err) // reported after the data
		}
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	c.readErr = mapError(err)
	return c.readErr
}

func (c *Conn) grow() {
	c.bulk = bulkPool.Get().(*[bulkBuffer]byte)
	c.w = copy(c.bulk[:], c.in[c.r:c.w])
	c.r = 0
	c.in = c.bulk[:]
}

// received moves a per-request deadline for n bytes of data.
func (c *Conn) received(n int) {
	c.lastIO = time.Now()
	if !c.PerRequest || c.MinRate <= 0 || c.deadline.IsZero() {
		return
	}
	c.deadline = c.deadline.Add(time.Duration(n) * time.Second / time.Duration(c.MinRate))
	if limit := c.lastIO.Add(c.Timeout); c.deadline.After(limit) {
		c.deadline = limit
	}
}

func mapError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrTimeout
	}
	return err
}

// Write adds to the output; it is sent when the buffer is full, when input is
// needed, on Flush, or when the connection has been silent for 10 s.
func (c *Conn) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && c.writeErr == nil {
		if c.outBulk == nil {
			c.outBulk = bulkPool.Get().(*[bulkBuffer]byte)
			c.out = c.outBulk[:0]
		}
		n := min(len(p), cap(c.out)-len(c.out))
		c.out = append(c.out, p[:n]...)
		p = p[n:]
		if len(c.out) == cap(c.out) {
			c.Flush()
		}
	}
	if c.writeErr == nil && time.Since(c.lastIO) > flushAge {
		c.Flush()
	}
	return total - len(p), c.writeErr
}

// WriteString is Write for a string.
func (c *Conn) WriteString(s string) (int, error) { return c.Write([]byte(s)) }

// Unsent is the number of bytes written but not yet sent.
func (c *Conn) Unsent() int { return len(c.out) }

// LastIO is when data last moved.
func (c *Conn) LastIO() time.Time { return c.lastIO }

// Flush sends the output.
func (c *Conn) Flush() error {
	if len(c.out) == 0 || c.writeErr != nil {
		return c.writeErr
	}
	c.nc.SetWriteDeadline(c.wait())
	_, err := c.nc.Write(c.out)
	c.lastIO = time.Now()
	bulkPool.Put(c.outBulk)
	c.outBulk, c.out = nil, nil
	if err != nil {
		c.writeErr = mapError(err)
	}
	return c.writeErr
}
