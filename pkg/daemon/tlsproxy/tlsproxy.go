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
	"net"
	"os"
	"syscall"
	"time"

	"posthaste/pkg/ipc/attr"
	protocol "posthaste/pkg/ipc/tlsproxy"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/fdpass"
	"posthaste/pkg/sys/maillog"
	mailtls "posthaste/pkg/wire/tls"
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
}

// serve handles one client: one connection.
func (d *daemon) serve(ctx context.Context, plain stream, alive func()) error {
	s := &session{daemon: d, ctx: ctx, plain: plain, alive: alive,
		in: attr.NewReader(plain, attr.Null, "plaintext"), out: attr.NewWriter(plain, attr.Null)}
	plain.SetDeadline(time.Now().Add(setupTimeout))
	if err := attr.Announce(s.out, protocol.Protocol); err != nil {
		return nil
	}
	if err := s.request(); err != nil {
		var broken *attr.Error
		if errors.As(err, &broken) {
			d.log.Warn("%v", err)
		}
		return nil
	}
	s.log.Info("CONNECT %s %s", directions[s.Flags&(protocol.ServerRole|protocol.ClientRole)], s.Endpoint)
	if !s.speak() {
		s.log.Info("TLS handshake failed for service=%s peer=%s", s.ServerID, s.Endpoint)
	}
	s.log.Info("DISCONNECT %s", s.Endpoint)
	return nil
}

// directions are the words of the log for the flags of a request.
var directions = map[int]string{protocol.ServerRole: "from", protocol.ServerRole | protocol.ClientRole: "from",
	protocol.ClientRole: "to", 0: "(bogus_direction)"}

// request reads the first list.
func (s *session) request() (err error) {
	s.Request, err = protocol.ReadRequest(s.in)
	return err
}

// speak is the rest of a session: it answers whether the client can have what
// it wants, and if so takes the connection and speaks TLS on it. It reports
// whether there was a handshake that succeeded.
func (s *session) speak() bool {
	var start func(net.Conn) bool
	ready := false
	switch s.Flags &^ protocol.SendContext {
	case protocol.ServerRole:
		ready, start = s.server.acceptor != nil, s.accept
	case protocol.ClientRole:
		wanted, err := protocol.ReadClient(s.in)
		if err != nil {
			s.log.Warn("%v", err)
			return false
		}
		var c *mailtls.Client
		c, ready = s.client.find(wanted)
		start = func(network net.Conn) bool { return s.connect(c, wanted, network) }
	default:
		s.log.Warn("tlsp_get_request_event: bad request flags: 0x%x", s.Flags)
	}
	if !ready {
		_ = s.out.Int("status", protocol.Unavailable).Send()
		return false
	}
	if s.out.Int("status", protocol.Ready).Send() != nil {
		return false
	}
	network, err := s.receive()
	if err != nil {
		s.log.Warn("receive remote SMTP peer file descriptor: %v", maillog.Errno(err))
		return false
	}
	defer network.Close()
	s.plain.SetDeadline(time.Time{})
	stop := s.heartbeat()
	defer stop()
	return start(network)
}

// receive takes the network connection.
func (s *session) receive() (net.Conn, error) {
	fd, err := fdpass.Recv(s.plain)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	return net.FileConn(fd)
}

// accept is a session with ServerRole.
func (s *session) accept(network net.Conn) bool {
	conn, _, ok := s.server.acceptor.Accept(s.ctx, network, s.Endpoint, s.limit(s.Handshake))
	if ok {
		s.relay(conn, network)
	}
	return ok
}

// connect is a session with ClientRole.
func (s *session) connect(c *mailtls.Client, wanted *protocol.Client, network net.Conn) bool {
	conn, result, ok := s.client.connect(s.ctx, c, network, wanted, s.limit(s.Handshake))
	if !ok {
		return false
	}
	if s.Flags&protocol.SendContext != 0 {
		s.plain.SetWriteDeadline(time.Now().Add(setupTimeout))
		if err := result.Write(s.out); err != nil {
			s.log.Warn("cannot send TLS context: %v", maillog.Errno(err))
			return true
		}
		s.plain.SetWriteDeadline(time.Time{})
	}
	s.relay(conn, network)
	return true
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
