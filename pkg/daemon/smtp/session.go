package smtp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/sock"
	"posthaste/pkg/wire/smtp"
	mailtls "posthaste/pkg/wire/tls"
)

// session is a connection to one server.
type session struct {
	d      *daemon
	server server
	conn   *smtp.Conn
	queue  string // queue id, for the log

	features  features
	sizeLimit int64
	policy    *tlsPolicy
	tls       *mailtls.Connection // nil: plaintext
	sent      []string            // XFORWARD attributes that the server takes

	mechanisms []string // SASL mechanisms that the server offers and the filter passes
	login      *login   // as which we are authenticated

	established bool // the handshake is complete
	retryPlain  bool // try again without TLS
	dead        bool // the connection is unusable
	forbidCache bool
	willCache   bool // to be stored after this transaction
	bestMX      bool
	delayDot    bool // PIX workaround

	reuse    int
	expires  time.Time
	keys     []string // in the cache
	timer    *time.Timer
	protocol bool // the server broke the protocol: tell the postmaster
	history  []string
}

// connect opens a connection and shakes hands. It returns nil when there is no
// connection (r.why says why), and a session that is not established when the
// handshake failed, which has been reported then.
func (r *request) connect(srv server, policy *tlsPolicy, bestMX bool) *session {
	r.stats.ConnSetup = time.Time{}
	nc, why := r.dial(srv)
	if nc == nil {
		r.why = why
		if srv.path == "" {
			r.d.log.Info("%s", why.Reason)
		}
		return nil
	}
	s := &session{d: r.d, server: srv, conn: smtp.NewConn(nc, r.d.heloTimeout), queue: r.j.ID, policy: policy,
		bestMX: bestMX, expires: time.Now().Add(r.d.reuseTime)}
	s.conn.PerRequest = r.d.perRequest
	if r.handshake(s) {
		s.established = true
		r.stats.ConnSetup = time.Now()
		return s
	}
	s.notice(r)
	s.close()
	return s
}

// dial connects to one address.
func (r *request) dial(srv server) (net.Conn, dsn.Status) {
	dialer := net.Dialer{Timeout: r.d.connectTimeout, KeepAlive: -1}
	network, addr := "unix", srv.path
	if srv.path == "" {
		network, addr = "tcp", srv.endpoint()
		dialer.LocalAddr = r.d.localAddr(srv.addr)
		if r.d.window > 0 {
			dialer.Control = r.d.setWindow
		}
	}
	nc, err := r.dialPlain(dialer, network, addr)
	var op *net.OpError
	if err != nil && dialer.LocalAddr != nil && isBindError(err) {
		r.d.log.Warn("smtp_connect_addr: bind %s: %v", dialer.LocalAddr.(*net.TCPAddr).IP, maillog.Errno(err))
		if r.d.bindEnforce {
			return nil, local("4.4.0", "server configuration error")
		}
		dialer.LocalAddr = nil
		nc, err = dialer.DialContext(r.ctx, network, addr)
	}
	if err == nil {
		return nc, dsn.Status{}
	}
	reason := maillog.Errno(err).Error()
	if errors.As(err, &op) && op.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		reason = "Connection timed out"
	}
	return nil, status("4.4.1", "connect to %s: %s", srv.relay(), reason)
}

// dialPlain takes the short way to an address that needs nothing special.
func (r *request) dialPlain(dialer net.Dialer, network, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if network != "tcp" || err != nil || to.Addr().Zone() != "" || dialer.LocalAddr != nil || dialer.Control != nil {
		return dialer.DialContext(r.ctx, network, addr)
	}
	return sock.DialTCP(r.ctx, to, dialer.Timeout)
}

func isBindError(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES)
}

// setWindow is tcp_windowsize.
func (s *settings) setWindow(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, s.window)
		syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, s.window)
	})
}

// command writes a command line without sending it.
func (s *session) command(line string) {
	line = oneLine(line)
	if s.recording() {
		s.note("Out: " + line)
	}
	s.conn.WriteString(line)
	s.conn.WriteString("\r\n")
}

// oneLine keeps an address with a line end in it from becoming two commands.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\r\n\x00") {
		return s
	}
	return strings.NewReplacer("\r", "?", "\n", "?", "\x00", "?").Replace(s)
}

// reply waits for a reply.
func (s *session) reply(limit time.Duration) (smtp.Reply, error) {
	s.conn.Timeout = limit
	s.conn.StartRequest()
	var filter func(string) string
	if !s.d.tables.replyFilter.Empty() {
		filter = s.filterLine
	}
	rep, err := s.conn.ReadReply(s.d.replyLimit, filter)
	for _, line := range rep.Garbage {
		s.garbage(line)
	}
	if rep.LongLine != "" {
		s.d.log.Warn("%s: response longer than %d: %.30s...", s.server.relay(), s.d.replyLimit, rep.LongLine)
	}
	if rep.LongReply != "" {
		s.d.log.Warn("%s: multi-line response longer than %d %.30s...", s.server.relay(), s.d.replyLimit, rep.LongReply)
	}
	if err != nil {
		s.dead = true
		return rep, err
	}
	if s.recording() {
		for _, line := range rep.Lines() {
			s.note("In:  " + line)
		}
	}
	if rep.Code < 200 || rep.Code > 599 {
		s.forbidCache = true
	}
	return rep, nil
}

// ask sends a command and waits for the reply.
func (s *session) ask(line string, limit time.Duration) (smtp.Reply, error) {
	s.conn.Timeout = limit
	s.conn.StartRequest()
	s.command(line)
	if err := s.conn.Flush(); err != nil {
		s.dead = true
		return smtp.Reply{}, err
	}
	return s.reply(limit)
}

func (s *session) garbage(line string) {
	s.forbidCache = true
	if s.recording() {
		s.note("In:  " + line)
	}
	if s.features&featPipelining == 0 {
		return
	}
	kind := "ESMTP"
	if s.d.lmtp {
		kind = "LMTP"
	}
	s.d.log.Warn("%s: non-%s response from %s: %.100s", s.queue, kind, s.server.relay(), line)
	if s.d.helpful {
		s.d.log.Warn("to prevent loss of mail, turn off command pipelining for %s with the %sdiscard_ehlo_keyword_address_maps parameter", s.server.addr, s.d.prefix)
	}
}

func (s *session) filterLine(line string) string {
	value, found, err := s.d.tables.replyFilter.Find(context.Background(), line)
	if err != nil || !found {
		return line
	}
	s.d.log.Info("%s: replacing server reply \"%s\" with \"%s\"", s.server.relay(), line, value)
	return value
}

// close ends the connection without a word.
func (s *session) close() {
	s.dead = true
	s.conn.Close()
}

// quit says good-bye, if the connection still works, without waiting longer
// than the configuration wants.
func (s *session) quit() {
	if s.dead {
		return
	}
	s.conn.Timeout = s.d.quitTimeout
	s.conn.StartRequest()
	s.command("QUIT")
	if s.conn.Flush() == nil && !s.d.skipQuit {
		s.reply(s.d.quitTimeout)
	}
	s.dead = true
}

// refused makes a status of a reply that is not what was hoped for. format has
// one %s for the reply text (delivery.md §2.8).
func (s *session) refused(rep smtp.Reply, code, before, after string) dsn.Status {
	if rep.Code < 400 || rep.Code > 599 || rep.Code == 555 || rep.Code >= 500 && rep.Code < 510 {
		s.protocol, s.forbidCache = true, true
	}
	st := dsn.Status{Code: code, Reason: before + rep.OneLine() + after,
		DiagType: "smtp", DiagText: rep.OneLine(), MTAType: "dns", MTAName: s.server.host}
	if code == "" || code[0] != '4' && code[0] != '5' {
		st.Code, st.Reason = "5.5.0", "Protocol error: "+st.Reason
	}
	return st
}

// broken makes a status of a lost or silent connection.
func (s *session) broken(err error, phase string) dsn.Status {
	s.dead = true
	st := dsn.Status{Code: "4.4.2"}
	if errors.Is(err, smtp.ErrTimeout) {
		st.Reason = "conversation with " + s.server.name() + " timed out while " + phase
	} else {
		st.Reason = "lost connection with " + s.server.name() + " while " + phase
	}
	return st
}

// local is a conclusion of our own, not something the server said.
func local(code, reason string) dsn.Status { return dsn.Status{Code: code, Reason: reason} }

// dataError is the status for a failing table or other trouble of our own.
func (s *session) dataError() dsn.Status {
	return local("4.3.0", "local data error while talking to "+s.server.name())
}

// firstWord is what a banner or EHLO reply says before the first blank.
func firstWord(text string) string {
	text = strings.TrimLeft(text, " \t")
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		return text[:i]
	}
	return text
}
