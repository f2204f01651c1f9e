package postscreen

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/service"
	"posthaste/pkg/wire/haproxy"
	"posthaste/pkg/wire/smtp"
)

// Replies of a server that has no place.
const (
	noResources   = "421 4.3.2 No system resources"
	serversBusy   = "421 4.3.2 All server ports are busy"
	screensBusy   = "421 4.3.2 All screening ports are busy"
	tooMany       = "421 4.7.0 Error: too many connections"
	denied        = "5.3.2 Service currently unavailable"
	protocolError = "5.5.1 Protocol error"
	comeAgain     = "450 4.3.2 Service currently unavailable"
)

// writeLimit bounds each reply outside of the dummy engine.
const writeLimit = 10 * time.Second

// session is one connection.
type session struct {
	d     *daemon
	ctx   context.Context
	nc    net.Conn
	alive func()
	began time.Time // of the part of the session that the log counts from

	addr, port, serverAddr, serverPort string
	name                               string // [addr]:port
	client                             *client
	counted                            bool // in shared.testing

	before stamps  // as they were when the session began
	due    testSet // tests to be done
	failed testSet // with an action other than ignore; failedList too
	passed testSet

	vetoed    bool // can never pass, nor be handed over
	teased    bool // the early half of the greeting was sent
	talked    bool // the client talked early
	spoke     bool // and that counts: what it hears next is the answer
	rcptReply string
	last      string // a reply to the next command that ends the session
}

// failedList is the "test" of the access list.
const failedList testSet = 1 << 7

// serve is a session.
func (d *daemon) serve(ctx context.Context, conn *service.Conn) error {
	s := &session{d: d, ctx: ctx, nc: conn.Raw(), alive: conn.Alive, began: d.now(), rcptReply: comeAgain}
	d.shared.enter(s)
	defer s.end()
	if s.identify() && s.admit() {
		s.screen()
	}
	return nil
}

// end forgets the session.
func (s *session) end() {
	s.uncount()
	s.d.shared.leave(s)
}

// uncount ends the session's being under test.
func (s *session) uncount() {
	if relaxed, left := s.d.shared.uncount(s, s.d.set.preQueue); relaxed {
		s.d.log.Info("leaving STRESS mode with %d connections", left)
	}
}

// identify finds out who the client is.
func (s *session) identify() bool {
	local, ok := s.nc.LocalAddr().(*net.TCPAddr)
	remote, ok2 := s.nc.RemoteAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		s.write(noResources)
		return false
	}
	s.addr, s.port = remote.AddrPort().Addr().Unmap().WithZone("").String(), strconv.Itoa(remote.Port)
	s.serverAddr, s.serverPort = local.AddrPort().Addr().Unmap().WithZone("").String(), strconv.Itoa(local.Port)
	if s.d.set.proxy {
		header, err := haproxy.Read(s.nc, s.d.set.proxyTimeout, s.d.set.ipv4, s.d.set.ipv6)
		if err != nil {
			text := err.Error()
			if err == haproxy.ErrTimeout {
				text = "time limit exceeded"
			}
			s.d.log.Warn("haproxy read: %s", text)
			s.write(noResources)
			return false
		}
		if !header.Local {
			s.addr, s.port = header.Client.Unmap().String(), header.ClientPort
			s.serverAddr, s.serverPort = header.Server.Unmap().String(), header.ServerPort
		}
	}
	s.name = "[" + s.addr + "]:" + s.port
	return true
}

// admit decides by what is known before a word is spoken; it reports whether the
// client is to be tested (spec §8.1 steps 2-8).
func (s *session) admit() bool {
	d, set := s.d, s.d.set
	d.log.Info("CONNECT from %s to [%s]:%s", s.name, s.serverAddr, s.serverPort)
	if strained, n := d.shared.test(s, set.preQueue); strained {
		d.log.Info("entering STRESS mode with %d connections", n)
	}
	concurrent := d.shared.identify(s, set.enabled)
	if set.perClient > 0 && concurrent > set.perClient {
		d.log.Info("NOQUEUE: reject: CONNECT from %s: too many connections", s.name)
		return s.refuse(tooMany)
	}
	if d.handing() >= set.postQueue {
		d.log.Info("NOQUEUE: reject: CONNECT from %s: all server ports busy", s.name)
		return s.refuse(serversBusy)
	}
	switch s.look() {
	case permit:
		s.tell("ALLOWLISTED", "WHITELISTED")
		s.handOff()
		return false
	case reject:
		s.tell("DENYLISTED", "BLACKLISTED")
		switch set.deny {
		case drop:
			return s.refuse("521 " + denied)
		case enforce:
			s.failed |= failedList
			s.rcptReply = "550 " + denied
		}
	}
	if found := s.remember(concurrent == 1); found && s.due == 0 {
		d.log.Info("PASS OLD %s", s.name)
		s.handOff()
		return false
	}
	if !s.allowable() {
		s.tell("ALLOWLIST VETO", "WHITELIST VETO")
		s.vetoed = true
	}
	if d.shared.count() >= set.preQueue {
		d.log.Info("reject: connect from %s: all screening ports busy", s.name)
		return s.refuse(screensBusy)
	}
	return true
}

// lookupLimit bounds a look into tables, which can be far away.
const lookupLimit = 10 * time.Second

// limited is a context for a look into tables.
func (s *session) limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, lookupLimit)
}

// look asks the access list.
func (s *session) look() verdict {
	ctx, cancel := s.limited()
	defer cancel()
	return s.d.tables.look(ctx, s.addr)
}

// allowable reports whether a client may pass at the address that it came to. While
// that is not known it may not.
func (s *session) allowable() bool {
	ctx, cancel := s.limited()
	defer cancel()
	yes, err := s.d.tables.interfaces.Match(ctx, s.serverAddr)
	return yes && err == nil
}

// screen is the rest of the session (spec §8.1 step 9).
func (s *session) screen() {
	if s.due&earlyTests != 0 && !s.early() {
		return
	}
	if s.failed != 0 || s.vetoed {
		s.due |= deepTests
	}
	if s.due&deepTests != 0 {
		s.engine()
		return
	}
	s.conclude()
	s.handOff()
}

// remember finds out which tests are due: from the cache for the first session of
// a client, from the sessions before it for others. It reports whether there was
// an entry in the cache.
func (s *session) remember(first bool) (found bool) {
	sh := &s.d.shared
	var known stamps
	if first && s.failed == 0 {
		sh.withCache(func(c *cache) { known, found = c.lookup(s.ctx, s.addr) })
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if found {
		s.client.expire = known
	}
	s.before = s.client.expire
	s.due = s.before.due(s.d.set.enabled, s.d.now())
	return found
}

// pass notes that a test was passed, for some time.
func (s *session) pass(test int, ttl time.Duration) {
	s.passUntil(test, stamp(s.d.now().Add(ttl).Unix()))
}

// passUntil notes that a test was passed. Other sessions of the client know it at
// once.
func (s *session) passUntil(test int, until stamp) {
	s.d.shared.mu.Lock()
	defer s.d.shared.mu.Unlock()
	s.passed |= 1 << test
	s.client.expire[test] = until
}

// conclude says, and remembers, what was passed. If anything has failed nothing
// was.
func (s *session) conclude() {
	if s.failed != 0 || s.vetoed {
		return
	}
	if s.due != 0 && s.due&^s.passed == 0 {
		s.d.log.Info("PASS %s %s", s.novelty(), s.name)
	}
	if s.passed == 0 {
		return
	}
	s.d.shared.withCache(func(c *cache) { _ = c.update(s.ctx, s.addr, s.entry()) })
}

// novelty is the word for a client that has passed.
func (s *session) novelty() string {
	s.d.shared.mu.Lock()
	defer s.d.shared.mu.Unlock()
	if s.before.known(s.due) || s.client.welcomed {
		return "OLD"
	}
	s.client.welcomed = true
	return "NEW"
}

// entry is what the cache is to have about the client.
func (s *session) entry() string {
	s.d.shared.mu.Lock()
	defer s.d.shared.mu.Unlock()
	return s.client.expire.entry(s.d.set.enabled)
}

// tell logs a word, or what it was before 3.6.
func (s *session) tell(word, old string) {
	if s.d.set.respectful {
		s.d.log.Info("%s %s", word, s.name)
		return
	}
	s.d.log.Info("%s %s", old, s.name)
	if s.d.set.oldWords && s.d.shared.once() {
		s.d.log.Info("using backwards-compatible default setting respectful_logging=no for client %s", s.name)
	}
}

// refuse sends a last reply; it returns false.
func (s *session) refuse(text string) bool {
	s.write(text)
	s.d.log.Info("DISCONNECT %s", s.name)
	return false
}

// write sends a reply; a client that does not take it is about to be left.
func (s *session) write(text string) {
	_ = s.nc.SetWriteDeadline(time.Now().Add(writeLimit))
	_, _ = s.nc.Write([]byte(smtp.FormatReply(s.dress(text))))
}

// since is the time that this part of the session has taken, for the log.
func (s *session) since() string {
	return deliver.FormatDelay(s.d.now().Sub(s.began), s.d.set.delayResolution)
}

// hangup logs that the client has gone.
func (s *session) hangup(where string) {
	s.d.log.Info("HANGUP after %s from %s in tests %s SMTP handshake", s.since(), s.name, where)
}

// blocked is the reply for a client that a DNS list has.
func (s *session) blocked(code int, domain string) string {
	if m := s.d.tables.listReply; m != nil {
		ctx, cancel := s.limited()
		defer cancel()
		if value, found, err := m.Lookup(ctx, domain); err != nil {
			s.d.log.Warn("%s: table lookup error", m.Name())
		} else if found {
			domain = value
		}
	}
	return fmt.Sprintf("%d 5.7.1 Service unavailable; client [%s] blocked using %s", code, s.addr, domain)
}
