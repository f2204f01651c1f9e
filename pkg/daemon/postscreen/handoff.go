package postscreen

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/sys/fdpass"
)

// Limits of a hand-off (spec §8.4).
const (
	connectLimit = time.Second
	passLimit    = 100 * time.Second
)

// handOff gives the client to smtpd. If that fails the client is told to come
// again: at once, or, when it has heard half a greeting, after its next command.
func (s *session) handOff() {
	sh := &s.d.shared
	sh.handOver(1)
	counted := true
	done := func() {
		if counted {
			counted = false
			sh.handOver(-1)
		}
	}
	defer done()
	service := "private/" + s.d.set.smtpdService
	conn, err := dial.Dialer{Timeout: connectLimit}.Dial(s.ctx, "private", s.d.set.smtpdService)
	if err != nil {
		s.d.log.Warn("cannot connect to service %s: %s", service, dial.Reason(err))
		done()
		s.notHanded(serversBusy)
		return
	}
	defer conn.Close()
	if err := s.passTo(conn.Conn); err != nil {
		s.d.log.Warn("cannot pass connection to service %s: %s", service, dial.Reason(err))
		done()
		s.notHanded(noResources)
		return
	}
	s.uncount()
	_ = conn.SetDeadline(time.Now().Add(passLimit))
	if _, err := io.Copy(io.Discard, io.LimitReader(conn.Conn, 1)); timedOut(err) {
		s.d.log.Warn("timeout sending connection to service %s", service)
	}
}

// passTo sends descriptor and endpoints.
func (s *session) passTo(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(passLimit))
	if err := sendDescriptor(conn, s.nc); err != nil {
		return err
	}
	return attr.NewWriter(conn, attr.Null).Str("client_address", s.addr).Str("client_port", s.port).
		Str("server_address", s.serverAddr).Str("server_port", s.serverPort).Send()
}

// sendDescriptor passes the socket of a connection.
func sendDescriptor(to, which net.Conn) error {
	carrier, ok := to.(syscall.Conn)
	client, ok2 := which.(syscall.Conn)
	if !ok || !ok2 {
		return errors.ErrUnsupported
	}
	return fdpass.SendConn(carrier, client)
}

// notHanded tells the client that there is no server.
func (s *session) notHanded(text string) {
	if !s.teased {
		s.write(text)
		return
	}
	s.last = noResources
	s.engine()
}

func timedOut(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
