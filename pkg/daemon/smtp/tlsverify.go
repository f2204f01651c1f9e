package smtp

import (
	"crypto/tls"
	"net"
	"strings"
	"syscall"
	"time"
)

// earlyReply reports a reply that came under TLS before it was asked for: an
// attacker may have put commands before ours.
func (r *request) earlyReply(s *session) bool {
	if s.tls == nil || !r.d.tls.blockEarly || s.conn.Buffered() == 0 && !pendingRecord(s.conn.NetConn()) {
		return false
	}
	r.d.log.Warn("server %s violates %stls_block_early_mail_reply policy", s.server.name(), r.d.prefix)
	r.sessionFailed(s, local("4.7.0", "unexpected server message"), true)
	s.dead = true
	return true
}

// pendingRecord reports whether a TLS record with data has arrived that was not
// read yet; the connection is of no more use then. A read whose deadline has
// passed gets only what crypto/tls has in its buffer.
func pendingRecord(nc net.Conn) bool {
	c, ok := nc.(*tls.Conn)
	if !ok {
		return false
	}
	c.SetReadDeadline(time.Unix(1, 0))
	got, _ := c.Read(make([]byte, 1))
	c.SetReadDeadline(time.Time{})
	if got > 0 {
		return true
	}
	sc, ok := c.NetConn().(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	const applicationData = 23
	var first [1]byte
	n := 0
	raw.Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return n == 1 && first[0] == applicationData
}

// logReuse is the log line of a TLS connection that is used again.
func (s *session) logReuse() {
	if s.tls != nil {
		s.d.log.Info("%s", s.tls.Summary.Line(s.tls.Trust, "reused to", strings.ToLower(s.server.relay()), ""))
	}
}
