package service

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// connState is what the accept loop knows about a connection.
type connState struct {
	server  *server // nil stand-alone
	ctx     context.Context
	timeout time.Duration // of a read or write without a deadline of its own
	manual  atomic.Bool   // the daemon sets deadlines itself
	pulse   pulse         // of the connection and of Alive
	busy    atomic.Bool   // between Taken and Available
	leaving atomic.Bool   // to be closed when not busy
	kept    bool          // between Keep and Resume; under server.mu
}

// Raw returns the connection itself, without automatic deadlines.
func (c *Conn) Raw() net.Conn { return c.Conn }

// Alive tells the watchdog that the daemon works for this client though
// nothing moves on the connection.
func (c *Conn) Alive() { c.state.pulse.beat() }

// Read reads from the client.
func (c *Conn) Read(b []byte) (int, error) {
	c.Alive()
	if !c.state.manual.Load() && c.state.timeout > 0 {
		_ = c.Conn.SetReadDeadline(time.Now().Add(c.state.timeout))
	}
	n, err := c.Conn.Read(b)
	c.Alive()
	return n, err
}

// Write writes to the client.
func (c *Conn) Write(b []byte) (int, error) {
	c.Alive()
	if !c.state.manual.Load() && c.state.timeout > 0 {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(c.state.timeout))
	}
	n, err := c.Conn.Write(b)
	c.Alive()
	return n, err
}

// SetDeadline sets a deadline and ends the automatic ones.
func (c *Conn) SetDeadline(t time.Time) error {
	c.state.manual.Store(true)
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline is as SetDeadline, for reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.state.manual.Store(true)
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline is as SetDeadline, for writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.state.manual.Store(true)
	return c.Conn.SetWriteDeadline(t)
}

// SetTimeout changes the automatic deadline of each read and write (which is
// ipc_timeout at first); 0 is none.
func (c *Conn) SetTimeout(d time.Duration) {
	c.state.timeout = d
	c.state.manual.Store(false)
	_ = c.Conn.SetDeadline(time.Time{})
}

// Taken is called by a Multi daemon when a request has begun; it waits when
// as many as the process limit allows are being served. Between Available and
// the next Taken the connection may be closed because the daemon leaves.
func (c *Conn) Taken() {
	c.Alive()
	c.state.busy.Store(true)
	if v := c.state.server; v != nil && v.requests != nil {
		v.requests <- struct{}{}
	}
}

// Available is called by a Multi daemon when the request is done.
func (c *Conn) Available() {
	if v := c.state.server; v != nil && v.requests != nil {
		<-v.requests
	}
	c.state.busy.Store(false)
	if c.state.leaving.Load() {
		_ = c.Conn.Close()
	}
}

// NewConn makes a Conn of a connection, for tests of a daemon's Serve.
func NewConn(conn net.Conn) *Conn {
	return &Conn{Conn: conn, Runtime: &Runtime{}, state: &connState{ctx: context.Background()}}
}
