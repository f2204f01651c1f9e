package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/smtp"
)

// proxyTrouble is what the client is told when the filter cannot be used.
const proxyTrouble = "451 4.3.0 Error: queue file write error"

// proxySink takes one message to the before-queue content filter
// (smtpd_proxy_filter; spec smtpd.md §6.3): an SMTP client that passes the
// client's own commands and content on, and the filter's replies back. The
// message is the filter's business: nothing is queued here, and 2xx is
// answered to the end of data only when the filter did.
//
// With smtpd_proxy_options = speed_adjust everything from MAIL on goes to a
// replay file first and to the filter after the end of data, so that a slow
// client does not occupy one of few filters.
type proxySink struct {
	srv    *Server
	log    *maillog.Logger
	greet  []string   // XFORWARD values by the filter's names, in order: name, value, ...
	conn   *smtp.Conn // nil: not connected (any more)
	reply  string     // the last reply, lines separated by CR LF; "" before the first
	broken bool       // the filter cannot be used any more; reply says what to tell
	stuff  bool       // dots at line beginnings have to be doubled
	middle bool       // the last record did not end its line
	replay *replayLog // not nil: record instead of sending
}

// openProxy begins a transaction with the filter: everything up to the reply
// to the client's MAIL command. When it fails it has answered the client.
func (s *session) openProxy() bool {
	tx := s.tx
	p := &proxySink{srv: s.srv, log: s.log, greet: s.forwardValues(), stuff: true}
	ok := true
	if s.srv.set.speedAdjust {
		if s.replay == nil {
			s.replay = newReplayLog(filepath.Join(s.srv.queueDir, "incoming"))
		}
		p.replay = s.replay
		ok = p.recorded(s.replay.reset())
	} else {
		ok = p.connect(s.ctx)
	}
	if !ok || !p.command(tx.mailLine, '2') {
		p.Abort()
		s.classes |= classSoftware
		s.reply("%s", p.reply)
		return false
	}
	tx.sink, tx.proxy = p, p
	s.logClient()
	return true
}

// proxyCommand passes a command of the client on. When the filter does not
// take it the client has been answered with the filter's reply.
func (s *session) proxyCommand(line string, want byte) bool {
	p := s.tx.proxy
	if p.command(line, want) {
		return true
	}
	s.classes |= classSoftware
	s.reply("%s", p.reply)
	return false
}

// endOfProxied is endOfMessage with a filter: its verdict is ours.
func (s *session) endOfProxied() bool {
	tx := s.tx
	c, p := tx.content, tx.proxy
	if c.bare {
		s.rejectBareNewline()
		s.logProxied("proxy-reject")
		return false
	}
	if c.status&errSize != 0 {
		s.logProxied("proxy-reject")
		class, text := statusReply(cleanup.Result{Status: c.status})
		s.classes |= class
		s.reply("%s", text)
		return false
	}
	result, _ := p.Finish()
	tx.sink = nil
	if result.Status != cleanup.OK {
		s.classes |= classSoftware
		s.logProxied("proxy-reject")
		s.reply("%s", p.reply)
		return false
	}
	s.errors, s.classes, s.junk = 0, 0, 0
	s.logProxied("proxy-accept")
	s.reply("%s", p.reply)
	return true
}

func (s *session) logProxied(action string) {
	user := ""
	if s.sasl.user != "" {
		user = " sasl_username=<" + s.sasl.user + ">"
	}
	s.log.Info("%s: %s: %s;%s%s", action, s.where, smtp.Printable(s.tx.proxy.reply, '?'), s.logContext(), user)
}

// forwardValues are the XFORWARD attributes of this client, or of the one an
// upstream named, in the order in which they are sent.
func (s *session) forwardValues() []string {
	id := s.logIdentity()
	ident, source := "", s.tx.rewriting
	if f := s.forward; f != nil {
		ident = f.ident
		if f.source != "" {
			source = f.source
		}
	}
	return []string{"NAME", id.name, "ADDR", id.addr, "PORT", id.port, "HELO", id.helo, "IDENT", ident, "PROTO", id.proto, "SOURCE", strings.ToUpper(source)}
}

// connect reaches the filter and says who we and the client are.
func (p *proxySink) connect(ctx context.Context) bool {
	set := p.srv.set
	ctx, cancel := context.WithTimeout(ctx, set.proxyTimeout)
	defer cancel()
	network, address := p.srv.proxyAddress()
	nc, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		p.log.Warn("connect to proxy filter %s: %v", set.proxyFilter, dialError(err))
		return p.fail()
	}
	p.attach(nc)
	return p.greeting()
}

func (p *proxySink) attach(nc net.Conn) { p.conn = smtp.NewConn(nc, p.srv.set.proxyTimeout) }

// greeting is what comes before the transaction. Why it fails is the filter's
// and the administrator's affair; the client hears of trouble.
func (p *proxySink) greeting() bool {
	return p.exchange("", '2') && p.exchange("EHLO "+p.srv.set.proxyEhlo, '2') && p.forward() || p.fail()
}

// proxyAddress understands "[inet:]host:port", "[inet:]port" and "unix:path",
// the path below the queue directory.
func (srv *Server) proxyAddress() (network, address string) {
	text := srv.set.proxyFilter
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !filepath.IsAbs(path) {
			path = filepath.Join(srv.queueDir, path)
		}
		return "unix", path
	}
	text = strings.TrimPrefix(text, "inet:")
	if !strings.Contains(text, ":") {
		text = "localhost:" + text
	} else if text[0] == ':' {
		text = "localhost" + text
	}
	switch {
	case !srv.set.ipv6:
		return "tcp4", text
	case !srv.set.ipv4:
		return "tcp6", text
	}
	return "tcp", text
}

// dialError is the reason of a failed connect in libc's words.
func dialError(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return errors.New("Connection timed out")
	}
	return maillog.Errno(err)
}

// maxForward is how long one XFORWARD command gets, without its line end: what
// the original makes of the 512 bytes of RFC 5321 §4.5.3.1.4.
const maxForward = 506

// forward sends the attributes that the filter announced, in as few commands
// as fit.
func (p *proxySink) forward() bool {
	offered := map[string]bool{}
	for _, line := range strings.Split(p.reply, "\r\n") {
		words := strings.Fields(line[min(4, len(line)):])
		if len(words) > 0 && strings.EqualFold(words[0], "XFORWARD") {
			for _, w := range words[1:] {
				offered[strings.ToUpper(w)] = true
			}
		}
	}
	const verb = "XFORWARD"
	line := verb
	for i := 0; i < len(p.greet); i += 2 {
		name, value := p.greet[i], p.greet[i+1]
		if !offered[name] {
			continue
		}
		if value == "" || value == unknown {
			value = unavailable
		} else {
			value = dsn.XtextEncode(value, "")
		}
		word := " " + name + "=" + value
		if len(line)+len(word) > maxForward && line != verb {
			if !p.exchange(line, '2') {
				return false
			}
			line = verb
		}
		if len(line)+len(word) > maxForward {
			p.log.Warn("XFORWARD command payload %s=%.10s... exceeds SMTP protocol limit", name, p.greet[i+1])
		}
		line += word
	}
	return line == verb || p.exchange(line, '2')
}

// command sends a command that belongs to the transaction, or records it. It
// is true when the reply begins with the wanted digit; else reply is what the
// client is to be told.
func (p *proxySink) command(line string, want byte) bool {
	switch {
	case p.broken:
		return false
	case p.replay != nil:
		return p.recorded(p.replay.put(want, []byte(line)))
	}
	return p.exchange(line, want)
}

// recorded looks at the outcome of writing to the replay file.
func (p *proxySink) recorded(err error) bool {
	if err != nil && !p.broken {
		p.log.Warn("proxy speed-adjust log I/O error: %v", maillog.Errno(err))
		return p.fail()
	}
	return err == nil
}

// exchange sends a line, unless it is empty, and reads a reply. Any class of
// reply is good when want is 0.
func (p *proxySink) exchange(line string, want byte) bool {
	if line != "" {
		p.conn.WriteString(line)
		p.conn.WriteString("\r\n")
	}
	r, err := p.conn.ReadReply(p.srv.set.lineLimit, nil)
	name := p.srv.set.proxyFilter
	for _, g := range r.Garbage {
		p.log.Warn("received garbage from proxy %s: %.100s", name, g)
	}
	if r.LongLine != "" {
		p.log.Warn("%s: response longer than %d: %.30s...", name, p.srv.set.lineLimit, r.LongLine)
	}
	var syntax *smtp.LineError
	switch {
	case err == smtp.ErrTimeout:
		p.log.Warn("timeout talking to proxy %s", name)
		return p.lost()
	case errors.As(err, &syntax):
		p.log.Warn("proxy %s: %v", name, err)
		return p.lost()
	case err != nil:
		p.log.Warn("lost connection with proxy %s", name)
		return p.lost()
	}
	p.reply = strings.ReplaceAll(r.Text, "\n", "\r\n")
	got := p.reply[0]
	if want == 0 || got == want {
		return true
	}
	if line == "" {
		line = "connection request"
	}
	p.log.Warn("proxy %s rejected \"%s\": \"%s\"", name, smtp.Printable(line, '?'), smtp.Printable(p.reply, '?'))
	if got != '4' && got != '5' { // who knows what the filter thinks it was told
		return p.fail()
	}
	return false
}

// fail makes the filter unusable for this transaction.
func (p *proxySink) fail() bool {
	p.broken, p.reply = true, proxyTrouble
	return false
}

// lost is fail when there is nobody to say QUIT to.
func (p *proxySink) lost() bool {
	p.hangUp()
	return p.fail()
}

func (p *proxySink) hangUp() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

// ID is empty: nothing is queued by us.
func (p *proxySink) ID() string { return "" }

// errProxy says that the filter takes nothing more; why was logged.
var errProxy = errors.New("content filter failed")

// Rec takes the records of the content; envelope and attributes travel as
// commands.
func (p *proxySink) Rec(t record.Type, data []byte) error {
	if t != record.TypeNormal && t != record.TypeContinued {
		return nil
	}
	if p.broken {
		return errProxy
	}
	if p.stuff && !p.middle && len(data) > 0 && data[0] == '.' {
		data = append([]byte{'.'}, data...)
	}
	p.middle = t == record.TypeContinued
	if p.replay != nil {
		if !p.recorded(p.replay.put(byte(t), data)) {
			return errProxy
		}
		return nil
	}
	_, err := p.conn.Write(data)
	if err == nil && !p.middle {
		_, err = p.conn.WriteString("\r\n")
	}
	if err != nil {
		p.writeFailed(err)
		return errProxy
	}
	return nil
}

func (p *proxySink) writeFailed(err error) {
	what := "lost connection with"
	if err == smtp.ErrTimeout {
		what = "timeout talking to"
	}
	p.log.Warn("%s proxy %s", what, p.srv.set.proxyFilter)
	p.lost()
}

// Finish sends the end of the content and takes the filter's verdict, which
// stays in reply. Status is OK only if the filter answered 2xx.
func (p *proxySink) Finish() (cleanup.Result, error) {
	defer p.Abort()
	ok := !p.broken
	if ok && p.replay != nil {
		ok = p.play()
	}
	if ok {
		if p.middle {
			p.conn.WriteString("\r\n")
		}
		ok = p.exchange(".", 0)
	}
	if !ok || p.reply[0] != '2' {
		return cleanup.Result{Status: cleanup.StatusProxy, Reason: p.reply}, nil
	}
	return cleanup.Result{Reason: p.reply}, nil
}

// play sends what was recorded, up to the first command that is refused.
func (p *proxySink) play() bool {
	log, middle := p.replay, p.middle
	p.replay, p.stuff, p.middle = nil, false, false
	if !p.recorded(log.rewind()) || !p.connect(context.Background()) {
		return false
	}
	for {
		kind, data, err := log.next()
		switch {
		case err == errReplayEnd:
			p.middle = middle
			return true
		case err != nil:
			return p.recorded(err)
		case kind == '2' || kind == '3':
			if !p.exchange(string(data), kind) {
				return false
			}
		case p.Rec(record.Type(kind), data) != nil:
			return false
		}
	}
}

// quitTimeout bounds the one write of a farewell.
const quitTimeout = 10 * time.Second

// Abort says good-bye without waiting for an answer. A message without its
// end mark is none (RFC 5321 §4.1.1.4).
func (p *proxySink) Abort() {
	if p.conn != nil {
		p.conn.Timeout = min(p.conn.Timeout, quitTimeout)
		p.conn.WriteString("QUIT\r\n")
		p.conn.Flush()
	}
	p.hangUp()
}

// proxyOptions understands smtpd_proxy_options.
func proxyOptions(words []string, text string) (speedAdjust bool, err error) {
	for _, w := range words {
		if !strings.EqualFold(w, "speed_adjust") {
			return false, fmt.Errorf("unknown smtpd_proxy_options value \"%s\" in \"%s\"", w, text)
		}
		speedAdjust = true
	}
	return speedAdjust, nil
}
