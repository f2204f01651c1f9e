package postscreen

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/wire/smtp"
)

// maxPeek is how much of what came too early is looked at, and maxShown how much
// of it is logged, in bytes.
const (
	maxPeek  = 1023
	maxShown = 100
)

// heard is what came from a client that was to be silent.
type heard byte

const (
	nothing heard = iota
	words
	goodbye
)

// early does the tests before the greeting: the client hears half of one and is
// to wait, while the DNS lists are asked (spec §8.2). It reports whether the
// session goes on.
func (s *session) early() bool {
	s.began = s.d.now()
	deadline := time.Now().Add(s.d.pace().greetWait)
	if s.due.has(dnsbl) {
		score := s.d.lists.ask(s.ctx, s)
		defer s.d.lists.release(s, score)
		return s.watch(deadline, score)
	}
	return s.watch(deadline, nil)
}

// watch waits until all that is due is known, at most until the deadline.
func (s *session) watch(deadline time.Time, score *score) bool {
	if s.due.has(pregreet) {
		s.teased = true
		_ = s.nc.SetWriteDeadline(time.Now().Add(writeLimit))
		_, _ = s.nc.Write([]byte("220-" + s.d.set.teaser + "\r\n"))
		switch s.listen(deadline, score) {
		case goodbye:
			s.hangup("before")
			s.d.log.Info("DISCONNECT %s", s.name)
			return false
		case words:
			if !s.tooEarly() {
				return false
			}
			s.await(deadline, score)
		case nothing:
			s.pass(pregreet, s.d.set.ttl[pregreet])
		}
	} else {
		s.await(deadline, score)
	}
	return score == nil || s.judge(score)
}

// await waits for the DNS lists, at most until the deadline.
func (s *session) await(deadline time.Time, score *score) {
	if score == nil {
		return
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-score.done:
	case <-timer.C:
	}
}

// listen waits for the client to speak, until the deadline, or until the DNS
// lists have said that it is a friend.
func (s *session) listen(deadline time.Time, score *score) heard {
	for {
		_ = s.nc.SetReadDeadline(deadline)
		if score != nil {
			select {
			case <-score.done: // after this, nobody shortens the deadline
				if s.allowed(score) {
					return nothing
				}
				score = nil
			default:
			}
		}
		n, err := peek(s.nc, make([]byte, 1), syscall.RawConn.Read)
		switch {
		case n > 0:
			return words
		case err == nil:
			return goodbye
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return goodbye
		case !time.Now().Before(deadline):
			return nothing
		}
	}
}

// wake ends a listen early. It is called with the lists' lock held.
func (s *session) wake() { _ = s.nc.SetReadDeadline(time.Unix(1, 0)) }

// atOnce is a read that does not wait, to which no deadline applies.
func atOnce(raw syscall.RawConn, f func(fd uintptr) bool) error {
	return raw.Control(func(fd uintptr) { f(fd) })
}

// peek copies what has arrived, without taking it; how says whether it waits for
// something to come. No bytes and no error is the end of input.
func peek(nc net.Conn, buf []byte, how func(raw syscall.RawConn, f func(fd uintptr) bool) error) (n int, err error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = how(raw, func(fd uintptr) bool {
		n, _, failed = unix.Recvfrom(int(fd), buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	if err == nil {
		err = failed
	}
	return max(n, 0), err
}

// tooEarly deals with a client that did not wait; it reports whether the session
// goes on.
func (s *session) tooEarly() bool {
	buf := make([]byte, maxPeek)
	n, _ := peek(s.nc, buf, atOnce) // the deadline may have come, or wake
	s.d.log.Info("PREGREET %d after %s from %s: %s", n, s.since(), s.name, smtp.Escape(buf[:min(n, maxShown)]))
	s.talked = true
	switch s.d.set.actions[pregreet] {
	case drop:
		return s.refuse("521 " + protocolError)
	case enforce:
		s.failed |= 1 << pregreet
		s.spoke = true
		s.rcptReply = "550 " + protocolError
	}
	return true
}

// allowed reports whether the DNS lists say that the client needs no test.
func (s *session) allowed(score *score) bool {
	total, _, _ := s.d.lists.read(score)
	return s.d.set.allowThreshold < 0 && total <= s.d.set.allowThreshold && s.failed == 0 && !s.talked
}

// judge is the result of the DNS lists; it reports whether the session goes on.
func (s *session) judge(score *score) bool {
	set := s.d.set
	total, ttl, domain := s.d.lists.read(score)
	life := min(max(time.Duration(ttl)*time.Second, set.ttl[dnsbl]), set.dnsblMaxTTL)
	if total < set.threshold {
		s.pass(dnsbl, life)
		if s.allowed(score) {
			s.passAll(stamp(s.d.now().Add(life).Unix()))
		}
		return true
	}
	s.d.log.Info("DNSBL rank %d for %s", total, s.name)
	switch set.actions[dnsbl] {
	case drop:
		return s.refuse(s.blocked(521, domain))
	case enforce:
		s.failed |= 1 << dnsbl
		s.rcptReply = s.blocked(550, domain)
	}
	return true
}

// passAll counts all tests as passed, at least for some time.
func (s *session) passAll(until stamp) {
	for test := range s.before {
		s.passUntil(test, max(s.before[test], until))
	}
	s.due &^= deepTests // nothing more is to be done
}
