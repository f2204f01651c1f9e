package dial

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"posthaste/pkg/sys/sock"
)

// Kept is a connection that can wait for its next use.
type Kept interface {
	io.Closer
	// Stale reports whether the idle connection is good for nothing.
	Stale() bool
}

// Keeper holds idle connections until somebody wants one again: not longer
// than Idle without use, nor longer than TTL in all. It is safe for concurrent
// use.
type Keeper[C Kept] struct {
	Idle, TTL time.Duration

	mu     sync.Mutex
	idle   []kept[C] // the one used last is the last
	timer  *time.Timer
	closed bool
}

type kept[C Kept] struct {
	conn       C
	born, used time.Time
}

// Take removes the connection used last that is still good, so that the others
// can grow old. born is when it was made.
func (k *Keeper[C]) Take() (conn C, born time.Time, ok bool) {
	for {
		c, ok := k.pop()
		if !ok {
			return conn, born, false
		}
		if now := time.Now(); now.Sub(c.used) < k.Idle && now.Sub(c.born) < k.TTL && !c.conn.Stale() {
			return c.conn, c.born, true
		}
		c.conn.Close()
	}
}

func (k *Keeper[C]) pop() (c kept[C], ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.idle) == 0 {
		return c, false
	}
	c = k.idle[len(k.idle)-1]
	k.idle = k.idle[:len(k.idle)-1]
	return c, true
}

// Put keeps a connection that was made at born.
func (k *Keeper[C]) Put(conn C, born time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.Idle <= 0 {
		conn.Close()
		return
	}
	k.idle = append(k.idle, kept[C]{conn, born, time.Now()})
	if k.timer == nil {
		k.timer = time.AfterFunc(k.Idle, k.sweep)
	}
}

// sweep closes what nobody used for a while, and looks again later if anything
// is left.
func (k *Keeper[C]) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	rest := k.idle[:0]
	for _, c := range k.idle {
		if now.Sub(c.used) >= k.Idle || now.Sub(c.born) >= k.TTL {
			c.conn.Close()
		} else {
			rest = append(rest, c)
		}
	}
	k.idle, k.timer = rest, nil
	if len(rest) > 0 && !k.closed {
		k.timer = time.AfterFunc(max(k.Idle-now.Sub(rest[0].used), time.Millisecond), k.sweep)
	}
}

// Close closes the idle connections; those in use are closed when they come
// back.
func (k *Keeper[C]) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for _, c := range k.idle {
		c.conn.Close()
	}
	k.idle = nil
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
	return nil
}

// Readable reports whether an idle connection has become readable: the peer
// closed it or sent what nobody asked for (ipc.md §1.3).
func Readable(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	readable := true
	err = raw.Read(func(fd uintptr) bool {
		readable = sock.Readable(fd)
		return true
	})
	return err != nil || readable
}
