package posttlsfinger

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/smtp"
	mailtls "posthaste/pkg/wire/tls"
)

// session is a connection to a host, one after the other with -r.
type session struct {
	host
	want    mailtls.Server
	conn    *smtp.Conn
	chain   []*x509.Certificate // what the host sent
	again   bool                // not the first connection: less is told
	name    string              // what the host calls itself
	tls     bool                // TLS is on
	greeted bool                // the host has told its name on this connection
}

// connect opens the connection.
func (f *finger) connect(h host, want mailtls.Server) (*session, error) {
	network, addr := "tcp", net.JoinHostPort(h.addr.String(), fmt.Sprint(h.port))
	if h.path != "" {
		network, addr = "unix", h.path
	}
	var nc net.Conn
	err := f.as(func() (err error) {
		nc, err = (&net.Dialer{Timeout: f.connTime, KeepAlive: -1}).DialContext(f.ctx, network, addr)
		return err
	})
	var slow net.Error
	switch {
	case errors.As(err, &slow) && slow.Timeout():
		return nil, errors.New("connect to " + h.peer() + ": Connection timed out")
	case err != nil:
		return nil, fmt.Errorf("connect to %s: %w", h.peer(), maillog.Errno(err))
	}
	return &session{host: h, want: want, conn: smtp.NewConn(nc, f.cmdTime)}, nil
}

// talk has the conversation, and others after it with -r.
func (f *finger) talk(s *session) {
	if !f.quiet {
		f.log.Info("Connected to %s", s.peer())
	}
	f.once(s)
	if f.delay > 0 {
		f.reconnect(s)
	}
	if f.chain && len(s.chain) > 0 {
		f.printChain(s.chain)
	}
}

// reconnect looks whether the host resumes sessions. Behind one address there
// may be several hosts, which know nothing of each other's.
func (f *finger) reconnect(s *session) {
	if f.sessions == nil || !f.sessions.any() {
		f.log.Info("Server declined session caching. Done reconnecting.")
		return
	}
	seen := map[string]bool{s.name: true}
	f.sessions.tell = true
	f.engine.Mask = f.mask&^(mailtls.LogPeerCert|mailtls.LogCertMatch|mailtls.LogVerbose) | mailtls.LogCache | mailtls.LogSummary
	for range max(f.reconnects, 1) {
		f.log.Info("Reconnecting after %d seconds", int(f.delay/time.Second))
		time.Sleep(f.delay)
		next, err := f.connect(s.host, s.want)
		if err != nil {
			f.log.Info("%v", err)
			return
		}
		next.again, next.name = true, s.name
		f.once(next)
		if seen[next.name] {
			f.log.Info("Found a previously used server.  Done reconnecting.")
			return
		}
		seen[next.name] = true
	}
	f.log.Info("Maximum reconnect count reached.")
}

// chat tells a line of the conversation.
func (f *finger) chat(tell bool, mark, line string) {
	if tell && !f.quiet {
		f.log.Info("%s %s", mark, line)
	}
}

// ask sends a command, "" for none, and waits for the reply.
func (f *finger) ask(s *session, tell bool, command string, limit time.Duration) (smtp.Reply, error) {
	s.conn.Timeout = limit
	s.conn.StartRequest()
	if command != "" {
		f.chat(tell, ">", command)
		s.conn.WriteString(command + "\r\n")
		if err := s.conn.Flush(); err != nil {
			return smtp.Reply{}, err
		}
	}
	reply, err := s.conn.ReadReply(f.conf.Int("line_length_limit"), nil)
	if err == nil {
		for _, line := range reply.Lines() {
			f.chat(tell, "<", line)
		}
	}
	return reply, err
}

// broken tells that the connection broke; while is what was going on.
func (f *finger) broken(err error, while string) {
	what := "lost connection"
	if errors.Is(err, smtp.ErrTimeout) {
		what = "timeout"
	}
	f.log.Info("%s while %s", what, while)
}

// once is one conversation: greeting, EHLO, STARTTLS, EHLO, QUIT.
func (f *finger) once(s *session) {
	defer func() { s.conn.Close() }()
	if f.wrapper && !f.startTLS(s) {
		return
	}
	if !f.greeting(s) {
		return
	}
	offered, ok := true, true
	if !s.again || !s.tls {
		offered, ok = f.hello(s, !s.again)
	}
	switch {
	case !ok:
		if !s.tls {
			return
		}
	case s.tls || !offered || s.want.Level == mailtls.LevelNone || f.engine == nil && !f.proxy:
	default:
		if !f.askForTLS(s) {
			return
		}
		if !s.again {
			f.hello(s, true)
		}
	}
	if _, err := f.ask(s, true, "QUIT", f.cmdTime); err != nil {
		f.log.Warn("lost connection while sending QUIT command")
	}
}

func (f *finger) greeting(s *session) bool {
	reply, err := f.ask(s, true, "", f.connTime)
	switch {
	case err != nil:
		f.broken(err, "reading server greeting")
	case reply.Class() != 2:
		f.log.Info("%s service not available: %s", f.protocol(), reply.OneLine())
	default:
		return true
	}
	return false
}

func (f *finger) protocol() string {
	if f.lmtp {
		return "LMTP"
	}
	return "SMTP"
}

// hello says EHLO, and notes the name of the host and whether it offers
// STARTTLS.
func (f *finger) hello(s *session, tell bool) (offered, ok bool) {
	verb := "EHLO"
	if f.lmtp {
		verb = "LHLO"
	}
	reply, err := f.ask(s, tell, verb+" "+f.conf.String("myhostname"), f.cmdTime)
	if err != nil {
		f.broken(err, "sending "+verb)
		return false, false
	}
	if reply.Class() != 2 {
		f.log.Info("%s rejected: %s", verb, reply.OneLine())
		return false, false
	}
	for i, line := range reply.Lines() {
		words := strings.Fields(line[min(4, len(line)):])
		switch {
		case len(words) == 0:
		case i == 0:
			s.name, s.greeted = strings.ToLower(words[0]), true
		case strings.EqualFold(words[0], "STARTTLS"):
			offered = true
		}
	}
	return offered, true
}

func (f *finger) askForTLS(s *session) bool {
	reply, err := f.ask(s, !s.again, "STARTTLS", f.cmdTime)
	switch {
	case err != nil:
		f.broken(err, "sending STARTTLS")
		return false
	case reply.Class() != 2:
		f.log.Info("STARTTLS rejected: %s", reply.OneLine())
		return false
	}
	return f.startTLS(s)
}

// startTLS makes the handshake, here or in tlsproxy.
func (f *finger) startTLS(s *session) bool {
	if f.proxy {
		return f.viaProxy(s)
	}
	if f.engine == nil {
		return false
	}
	if f.sessions != nil {
		s.want.Cache = f.sessions.of(fmt.Sprintf("[%s]:%d", s.addr, s.port), s.known(), s.want)
	}
	c, ok := f.engine.Connect(f.ctx, s.conn.NetConn(), s.want, f.cmdTime)
	if !ok {
		return false
	}
	if f.sessions != nil {
		f.sessions.resuming = false
	}
	s.conn.Replace(c.Conn)
	s.tls, s.chain = true, c.State.PeerCertificates
	return true
}

// known is the name of the host as far as it was told before TLS.
func (s *session) known() string {
	if s.greeted {
		return s.name
	}
	return ""
}

// printChain prints the certificates as the host sent them.
func (f *finger) printChain(chain []*x509.Certificate) {
	d, err := mailtls.ParseDigest(f.digestName())
	if err != nil {
		return
	}
	fmt.Fprint(f.env.Stdout, "\n---\nCertificate chain\n")
	for i, c := range chain {
		fmt.Fprintf(f.env.Stdout, "%2d subject: %s\n    issuer: %s\n   cert digest=%s\n   pkey digest=%s\n", i,
			mailtls.DistinguishedName(c.Subject), mailtls.DistinguishedName(c.Issuer), d.Cert(c), d.PublicKey(c))
		pem.Encode(f.env.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
}

// sessions are those that hosts let us resume.
type sessions struct {
	log      *maillog.Logger
	tell     bool
	resuming bool // in a handshake with one of them
	list     map[string]*tls.ClientSessionState
}

func (s *sessions) any() bool { return len(s.list) > 0 }

// of is the cache for one host, endpoint and policy.
func (s *sessions) of(endpoint, name string, want mailtls.Server) tls.ClientSessionCache {
	digest, _ := mailtls.ParseDigest("sha256")
	policy := fmt.Sprintf("%s\n%d\n%s\n%s\n%s\n%s\n%q\n%q", name, want.Level, want.Protocols, want.Grade, want.Exclude, want.SNI, want.Match, want.TLSA)
	return sessionsOf{s, endpoint + "&" + strings.ReplaceAll(digest.Fingerprint([]byte(policy)), ":", "")}
}

type sessionsOf struct {
	*sessions
	key string
}

// Get implements tls.ClientSessionCache.
func (s sessionsOf) Get(string) (*tls.ClientSessionState, bool) {
	state, ok := s.list[s.key]
	if s.tell {
		s.log.Info("looking for session %s in memory cache", s.key)
		if s.resuming = ok; ok {
			s.log.Info("reloaded session %s from memory cache", s.key)
		}
	}
	return state, ok
}

// Put implements tls.ClientSessionCache.
func (s sessionsOf) Put(_ string, state *tls.ClientSessionState) {
	if state == nil {
		delete(s.list, s.key)
		return
	}
	if s.list == nil {
		s.list = map[string]*tls.ClientSessionState{}
	}
	if s.tell && !s.resuming {
		s.log.Info("save session %s to memory cache", s.key)
	}
	s.list[s.key] = state
}
