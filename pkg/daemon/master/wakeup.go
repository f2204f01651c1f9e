package master

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/fdpass"
	"posthaste/pkg/sys/maillog"
)

const (
	wakeupTimeout = time.Second                     // connect, write
	wakeupHold    = wakeupTimeout + 100*time.Second // then until the server closes
)

// startWakeup starts the timer of a service, unless it waits for the first
// child.
func (m *master) startWakeup(s *serv) {
	m.timers.stop(s.wakeTimer)
	s.wakeTimer = nil
	if s.wakeup > 0 && !s.onUse {
		m.scheduleWakeup(s)
	}
}

// scheduleWakeup sends a wakeup at once and then in every period.
func (m *master) scheduleWakeup(s *serv) {
	s.woken = true
	m.timers.stop(s.wakeTimer)
	var wake func()
	wake = func() {
		if !s.isThrottled(m.now()) {
			m.trigger(s)
		}
		s.wakeTimer = m.timers.start(m.now().Add(s.wakeup), wake)
	}
	s.wakeTimer = m.timers.start(m.now(), wake)
}

// sendWakeup sends one, beside the loop.
func (m *master) sendWakeup(s *serv) {
	kind, name, id := s.kind, s.name, s.id()
	go func() {
		if err := m.wakeService(kind, name); err != nil {
			m.log.Warn("master_wakeup_timer_event: service %s: %v", id, errno(err))
		}
	}()
}

func (m *master) wakeService(kind, name string) error {
	switch kind {
	case "fifo":
		return m.asOwner(func() error { return wakeFIFO(name) })
	case "unix":
		return wakeStream(m.log, "unix", name, "unix_trigger_event", writeTrigger)
	case "inet":
		if name[0] != '[' {
			name = "localhost:" + name
		}
		return wakeStream(m.log, "tcp", name, "inet_trigger_event", writeTrigger)
	case "pass":
		return wakeStream(m.log, "unix", name, "pass_trigger_event", passTrigger)
	}
	return unix.EOPNOTSUPP
}

func wakeFIFO(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO || st.Nlink != 1 {
		return errors.New("not a fifo of our own")
	}
	_, err = unix.Write(fd, []byte("W"))
	return err
}

// wakeStream connects, sends, and holds the connection until the server
// closes it: a request must not be lost because its sender is gone.
func wakeStream(log *maillog.Logger, network, addr, event string, send func(net.Conn) error) error {
	conn, err := net.DialTimeout(network, addr, wakeupTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(wakeupTimeout))
	if err := send(conn); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(wakeupHold))
	_, err = io.Copy(io.Discard, io.LimitReader(conn, 1<<16))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		log.Warn("%s: read timeout for service %s", event, addr)
	}
	return nil
}

func writeTrigger(conn net.Conn) error {
	if _, err := conn.Write([]byte("W")); err != nil {
		return err
	}
	_, err := conn.Write([]byte{0})
	return err
}

// passTrigger sends the read end of a pipe that holds the request.
func passTrigger(conn net.Conn) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	if _, err := unix.Write(p[1], []byte("W\x00")); err != nil {
		return err
	}
	carrier, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%s: not a UNIX-domain socket", conn.RemoteAddr())
	}
	return fdpass.Send(carrier, p[0])
}
