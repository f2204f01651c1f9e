package milter

import "net"

// shutdown ends a connection for all processes that have it: a filter whose
// conversation cleanup has given up must not go on talking to smtpd.
func (m *filter) shutdown() {
	switch c := m.conn.(type) {
	case *net.TCPConn:
		_ = c.CloseRead()
		_ = c.CloseWrite()
	case *net.UnixConn:
		_ = c.CloseRead()
		_ = c.CloseWrite()
	}
}
