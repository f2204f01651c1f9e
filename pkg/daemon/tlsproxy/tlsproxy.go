// Package tlsproxy is the daemon that speaks TLS for others: a program hands it
// a network connection and talks plaintext to it from then on (spec ipc.md
// §2.12, smtpd.md §8.4). Postscreen has it accept TLS from clients; a delivery
// agent has it make TLS connections, so that one that is done with a
// connection can pass it on to another.
//
// A client of the network costs two buffers and two goroutines. The watchdog
// is for a daemon that hangs; a session is ended when nothing has moved for as
// long as the program that opened it wants.
package tlsproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"posthaste/pkg/ipc/attr"
	protocol "posthaste/pkg/ipc/tlsproxy"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/fdpass"
	"posthaste/pkg/sys/maillog"
)

// setupTimeout is how long a client may take until the socket is passed.
const setupTimeout = 10 * time.Second

// daemon is the state of the service.
type daemon struct {
	log    *maillog.Logger
	server serverRole
	client clientRole
}

// Main runs the daemon.
func Main(args []string) int {
	d := &daemon{}
	return service.Run(service.Service{
		Name: "tlsproxy", Kind: service.Event, Requires: service.Zero, Retire: true, Watchdog: "tlsproxy_watchdog_timeout",
		Setup: func(rt *service.Runtime) error { // as root: certificates and keys
			d.log = rt.Log
			if err := d.server.load(rt.Config, rt.Log); err != nil {
				return err
			}
			return d.client.load(rt.Config, rt.Log)
		},
		Start: func(_ context.Context, rt *service.Runtime) error {
			d.server.shareTickets(rt)
			return nil
		},
		Serve: func(ctx context.Context, conn *service.Conn) error {
			raw, ok := conn.Raw().(stream)
			if !ok {
				return errors.New("client is not on a UNIX-domain socket")
			}
			return d.serve(ctx, raw, conn.Alive)
		},
	}, args, os.Environ())
}

// stream is a client's connection, over which a descriptor can come.
type stream interface {
	net.Conn
	syscall.Conn
}

// session is one connection on which we speak TLS.
type session struct {
	*daemon
	ctx   context.Context
	plain stream
	in    *attr.Reader
	out   *attr.Writer
	alive func() // tells the watchdog that we are well
	protocol.Request
	wanted *protocol.Client // with ClientRole
}

// serve handles one client: one connection.
func (d *daemon) serve(ctx context.Context, plain stream, alive func()) error {
	s := &session{daemon: d, ctx: ctx, plain: plain, alive: alive,
		in: attr.NewReader(plain, attr.Null, "tlsproxy socket"), out: attr.NewWriter(plain, attr.Null)}
	plain.SetDeadline(time.Now().Add(setupTimeout))
	if err := attr.Announce(s.out, protocol.Protocol); err != nil {
		return nil
	}
	start, err := s.prepare()
	var broken *attr.Error
	switch {
	case err == io.EOF || errors.Is(err, syscall.EPIPE):
		return nil
	case errors.As(err, &broken):
		d.log.Warn("%v", err)
		return nil
	case err != nil || start == nil:
		return err
	}
	fd, err := fdpass.Recv(plain)
	if err != nil {
		d.log.Warn("receive remote SMTP peer file descriptor: %v", maillog.Errno(err))
		return nil
	}
	network, err := net.FileConn(fd)
	fd.Close()
	if err != nil {
		d.log.Warn("remote SMTP peer %s: %v", s.Endpoint, maillog.Errno(err))
		return nil
	}
	defer network.Close()
	plain.SetDeadline(time.Time{})
	stop := s.heartbeat()
	defer stop()
	start(network)
	return nil
}

// prepare reads what the client wants and answers whether it can have it; if
// so, start does the rest with the network connection.
func (s *session) prepare() (start func(net.Conn), err error) {
	if s.Request, err = protocol.ReadRequest(s.in); err != nil {
		return nil, err
	}
	ready := false
	switch s.Flags &^ protocol.SendContext {
	case protocol.ServerRole:
		ready, start = s.server.available(s.log), s.accept
	case protocol.ClientRole:
		if s.wanted, err = protocol.ReadClient(s.in); err != nil {
			return nil, err
		}
		var c *connector
		c, ready = s.client.find(s.wanted, s.log)
		start = func(network net.Conn) { s.connect(c, network) }
	default:
		s.log.Warn("unknown role in request flags %d", s.Flags)
	}
	if !ready {
		return nil, s.out.Int("status", protocol.Unavailable).Send()
	}
	return start, s.out.Int("status", protocol.Ready).Send()
}

// accept is a session with ServerRole.
func (s *session) accept(network net.Conn) {
	s.log.Info("CONNECT from %s", s.Endpoint)
	defer s.log.Info("DISCONNECT %s", s.Endpoint)
	conn, _, ok := s.server.acceptor.Accept(s.ctx, network, s.Endpoint, s.limit(s.Handshake))
	if ok {
		s.relay(conn, network)
	}
}

// connect is a session with ClientRole.
func (s *session) connect(c *connector, network net.Conn) {
	s.log.Info("CONNECT to %s", s.Endpoint)
	defer s.log.Info("DISCONNECT %s", s.Endpoint)
	conn, result, ok := c.connect(s.ctx, network, s.wanted, s.limit(s.Handshake))
	if !ok {
		return
	}
	if s.Flags&protocol.SendContext != 0 {
		s.plain.SetWriteDeadline(time.Now().Add(setupTimeout))
		if err := result.Write(s.out); err != nil {
			return
		}
		s.plain.SetWriteDeadline(time.Time{})
	}
	s.relay(conn, network)
}

// maxTimeout bounds what a client can ask for.
const maxTimeout = 24 * time.Hour

func (s *session) limit(d time.Duration) time.Duration {
	return min(max(d, time.Second), maxTimeout)
}

// heartbeat keeps the watchdog quiet while the session lasts: the limits of a
// session are others than its.
func (s *session) heartbeat() (stop func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	go service.Every(ctx, time.Second, s.alive)
	return cancel
}
