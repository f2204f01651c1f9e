package table

import (
	"bufio"
	"context"
	"net"
	"sync"
	"time"
)

// serverConn is a table's connection to its server. It is made on use, and
// used by one lookup at a time, which holds mu.
type serverConn struct {
	mu   sync.Mutex
	conn net.Conn // nil: none
	r    *bufio.Reader
}

// Close ends the connection.
func (c *serverConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
	return nil
}

func (c *serverConn) drop() {
	if c.conn != nil {
		c.conn.Close()
	}
	c.conn, c.r = nil, nil
}

// limit ends an exchange after a time, or with the context. stop is called
// when the exchange is over.
func (c *serverConn) limit(ctx context.Context, timeout time.Duration) (stop func() bool) {
	conn := c.conn
	conn.SetDeadline(time.Now().Add(timeout))
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}
