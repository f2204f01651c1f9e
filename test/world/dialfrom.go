package world

import (
	"net"
	"time"
)

// DialFrom is Dial from a numeric address of the client's: 127.0.0.0/8 has as
// many clients as a test wants.
func (w *World) DialFrom(from, network, address string) (conn net.Conn, err error) {
	local, err := net.ResolveTCPAddr(network, net.JoinHostPort(from, "0"))
	if err != nil {
		return nil, err
	}
	err = w.inside(func() (err error) {
		d := net.Dialer{LocalAddr: local, Timeout: 10 * time.Second}
		conn, err = d.Dial(network, address)
		return
	})
	return
}
