package smtpd

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/message/header"
	"posthaste/pkg/spool/record"
)

// messageSink takes one message: a session with cleanup, or postdrop in
// stand-alone mode. After an error Finish may still have a verdict.
type messageSink interface {
	ID() string
	Rec(t record.Type, data []byte) error
	Finish() (cleanup.Result, error)
	Abort()
}

// messageOpener starts a message; flags are for cleanup only.
type messageOpener func(ctx context.Context, flags cleanup.Flags) (messageSink, error)

// text sends a record of text; errors stick in the sink.
func (tx *transaction) text(t record.Type, s string) { tx.sink.Rec(t, []byte(s)) }

func (tx *transaction) attr(name, value string) { tx.text(record.TypeAttr, name+"="+value) }

// openMessage opens the stream to cleanup and sends the envelope up to the
// first recipient (spec §6.1, ipc.md §2.1). It answers the client itself when
// it fails.
func (s *session) openMessage() bool {
	srv, tx := s.srv, s.tx
	if srv.set.proxyFilter != "" && !s.standAlone {
		return s.openProxy()
	}
	flags := cleanup.FlagsExternal.Override(srv.set.overrides) | cleanup.FlagSMTPReply
	if s.milters.filters == nil {
		flags &^= cleanup.FlagMilter
	}
	if tx.utf8 {
		flags |= cleanup.FlagUTF8
	} else {
		flags |= srv.autoUTF8
	}
	sink, err := srv.open(s.ctx, flags)
	if err != nil {
		if !s.standAlone {
			s.log.Error("unable to connect to the %s %s service: %v", "public", "cleanup", err)
		} else {
			s.log.Warn("%v", err)
		}
		s.classes |= classSoftware
		s.reply("451 4.3.0 Error: queue file write error")
		return false
	}
	tx.sink, tx.queueID = sink, sink.ID()
	s.sendEnvelope()
	s.logClient()
	return true
}

func (s *session) sendEnvelope() {
	tx, p := s.tx, &s.peer
	if !s.standAlone {
		if s.milters.filters != nil {
			tx.text(record.TypeMilterCount, "0")
		}
		tx.text(record.TypeTime, fmt.Sprintf("%d %d", tx.arrival.Unix(), tx.arrival.Nanosecond()/1000))
		if s.srv.set.contentFilter != "" {
			tx.text(record.TypeFilter, s.srv.set.contentFilter)
		}
		ident, rewriting := tx.queueID, tx.rewriting
		if f := s.forward; f != nil {
			if f.ident != "" {
				ident = f.ident
			}
			if f.source != "" {
				rewriting = f.source
			}
		}
		tx.attr("log_ident", ident)
		tx.attr("rewrite_context", rewriting)
		for _, a := range [...][2]string{{"sasl_method", s.sasl.method}, {"sasl_username", s.sasl.user}, {"sasl_sender", tx.saslAuth}} {
			if a[1] != "" {
				tx.attr(a[0], a[1])
			}
		}
		if tx.envelope != "" {
			tx.attr("envelope_id", tx.envelope)
		}
		if tx.ret != 0 {
			tx.attr("ret_flags", strconv.Itoa(int(tx.ret)))
		}
	}
	tx.text(record.TypeFrom, tx.sender)
	if tx.encoding != "" {
		tx.attr("encoding", tx.encoding)
	}
	if s.standAlone {
		return
	}
	log := s.logIdentity()
	tx.attr("log_client_name", log.name)
	tx.attr("log_client_address", log.addr)
	tx.attr("log_client_port", log.port)
	tx.attr("log_message_origin", log.origin)
	if log.helo != "" {
		tx.attr("log_helo_name", log.helo)
	}
	tx.attr("log_protocol_name", log.proto)
	tx.attr("client_name", p.name)
	tx.attr("reverse_client_name", p.reverse)
	tx.attr("client_address", p.addr)
	tx.attr("client_port", p.port)
	tx.attr("server_address", p.serverAddr)
	tx.attr("server_port", p.serverPort)
	if s.heloGiven {
		tx.attr("helo_name", s.helo)
	}
	tx.attr("protocol_name", s.proto)
	tx.attr("client_address_type", strconv.Itoa(p.family))
	if tx.verp != "" {
		tx.text(record.TypeVERP, tx.verp)
	}
}

// identity is what the log says about where a message came from.
type identity struct{ name, addr, port, origin, helo, proto string }

// logIdentity is the client's, or what an upstream forwarded.
func (s *session) logIdentity() identity {
	if f := s.forward; f != nil && f.client {
		id := identity{name: f.name, addr: f.addr, port: f.port, helo: f.helo, proto: f.proto}
		id.origin = f.name
		if f.addr != unknown {
			id.origin += "[" + f.addr + "]"
			if s.srv.set.portLogging {
				id.origin += ":" + f.port
			}
		}
		if strings.Contains(f.addr, ":") {
			id.addr = "IPv6:" + f.addr
		}
		return id
	}
	return identity{s.peer.name, s.peer.rfcAddr(), s.peer.port, s.peer.namaddr, s.helo, s.proto}
}

// logClient writes the line that ties the queue id to the client.
func (s *session) logClient() {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: client=%s", s.id(), s.peer.namaddr)
	for _, f := range [...][2]string{{"sasl_method", s.sasl.method}, {"sasl_username", s.sasl.user}, {"sasl_sender", s.tx.saslAuth}} {
		if f[1] != "" {
			fmt.Fprintf(&b, ", %s=%s", f[0], f[1])
		}
	}
	if f := s.forward; f != nil {
		if f.ident != "" {
			fmt.Fprintf(&b, ", orig_queue_id=%s", f.ident)
		}
		if f.client {
			fmt.Fprintf(&b, ", orig_client=%s", s.logIdentity().origin)
		}
	}
	s.log.Info("%s", b.String())
}

// putRecipient hands one recipient over. It is not sent yet: what cleanup has
// to say about it comes with the verdict on the message.
func (s *session) putRecipient(addr string, r recipientOptions) {
	if r.notify != 0 {
		s.tx.attr("notify_flags", strconv.Itoa(int(r.notify)))
	}
	s.tx.attr("dsn_orig_rcpt", r.original)
	s.tx.text(record.TypeRcpt, addr)
}

// startContent sends what comes between the recipients and the content, and
// the headers that are prepended (spec §6.2).
func (s *session) startContent() {
	tx := s.tx
	passed := s.passMilters()
	s.sendFlags()
	tx.text(record.TypeMessage, "")
	for _, text := range tx.prepend {
		tx.text(record.TypeNormal, text)
	}
	if tx.proxy == nil || s.forward == nil { // behind XFORWARD that was the upstream's part
		for _, line := range s.received() {
			tx.text(record.TypeNormal, line)
		}
	}
	tx.content = newContent(tx, s.srv.set.messageSize)
	if passed != nil {
		s.log.Warn("%v", passed)
		tx.content.status |= errWrite
	}
}

func (s *session) sendFlags() {
	flags := cleanup.Flags(0)
	if s.tx.hold {
		flags |= cleanup.FlagHold
	}
	if s.tx.discard {
		flags |= cleanup.FlagDiscard
	}
	if flags != 0 && !s.standAlone {
		s.tx.text(record.TypeFlags, strconv.Itoa(int(flags)))
	}
}

// endContent sends what follows the content.
func (s *session) endContent() {
	tx := s.tx
	tx.text(record.TypeExtracted, "")
	if !s.standAlone {
		if tx.filter != "" {
			tx.text(record.TypeFilter, tx.filter)
		}
		if tx.redirect != "" {
			tx.text(record.TypeRedirect, tx.redirect)
		}
		for _, addr := range tx.bcc {
			tx.text(record.TypeRcpt, addr)
			tx.attr("notify_flags", strconv.Itoa(int(dsn.NotifyNever)))
		}
		s.sendFlags()
	}
	tx.text(record.TypeEnd, "")
}

// received is the trace header (RFC 5321 §4.4), one line an element.
func (s *session) received() []string {
	tx, p, set := s.tx, &s.peer, s.srv.set
	helo := p.name
	if s.heloGiven {
		helo = s.helo
	}
	lines := []string{fmt.Sprintf("Received: from %s (%s [%s])", helo, p.name, p.rfcAddr())}
	with := s.proto
	if tx.utf8 {
		with = "UTF8SMTP"
	}
	if s.tls != nil && s.proto == "ESMTP" {
		with += "S"
	}
	if s.sasl.method != "" && s.proto == "ESMTP" {
		with += "A"
	}
	if set.tls.header && s.tls != nil {
		lines = append(lines, tlsHeaderLines(s.tls, set.tls.asks())...)
	}
	if s.sasl.user != "" && s.srv.saslHeader {
		lines = append(lines, fmt.Sprintf("\t(Authenticated sender: %s)", commentText(s.sasl.user)))
	}
	by := fmt.Sprintf("\tby %s (%s) with %s", set.hostname, set.mailName, with)
	if tx.queueID != "" { // a content filter has no id yet
		by += " id " + tx.queueID
	}
	date := header.MailDate(tx.arrival)
	if tx.rcptCount == 1 {
		return append(lines, by, fmt.Sprintf("\tfor <%s>; %s", address.Quote(tx.firstRcpt), date))
	}
	return append(lines, by+";", "\t"+date)
}

// commentText makes text safe inside a header comment: printable ASCII
// without backslash, parentheses balanced.
func commentText(s string) string {
	b, depth := make([]byte, 0, len(s)+2), 0
	for i := 0; i < len(s); i++ {
		ch := s[i]
		switch {
		case ch < ' ' || ch > '~' || ch == '\\':
			ch = '?'
		case ch == '(':
			depth++
		case ch == ')' && depth > 0:
			depth--
		case ch == ')':
			ch = '?'
		}
		b = append(b, ch)
	}
	return string(b) + strings.Repeat(")", depth)
}
