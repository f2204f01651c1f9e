package smtpd

import (
	"net"

	"posthaste/pkg/wire/haproxy"
)

// proxyHeader reads the header that a load balancer puts before the session
// (smtpd_upstream_proxy_protocol = haproxy). After an error, which has been
// logged, the peer is the socket's.
func (srv *Server) proxyHeader(nc net.Conn) (peer, error) {
	p, err := srv.endpoint(nc, nil)
	var header haproxy.Header
	if err == nil {
		header, err = haproxy.Read(nc, srv.set.upstreamTimeout, srv.set.ipv4, srv.set.ipv6)
	}
	if err != nil {
		srv.log.Warn("haproxy read: %v", err)
		return p, err
	}
	if header.Local {
		return p, nil
	}
	p = peer{name: unknown, reverse: unknown, nameStatus: namePermanent, reverseStat: namePermanent,
		port: header.ClientPort, serverAddr: header.Server.Unmap().String(), serverPort: header.ServerPort}
	p.setAddr(header.Client)
	return p, nil
}
