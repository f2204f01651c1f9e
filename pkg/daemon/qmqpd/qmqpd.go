// Package qmqpd takes mail by the Quick Mail Queueing Protocol from clients
// listed in qmqpd_authorized_clients (spec ipc.md §3.7, delivery.md §6): a
// netstring around the netstrings of message, sender and recipients, answered
// by one that says K (queued), Z (try again) or D (refused).
//
// K is sent when cleanup has the message on stable storage. What a client does
// wrong is a reply and a log line.
package qmqpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/header"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
)

// Main runs the daemon.
func Main(args []string) int {
	var s *server
	return service.Run(service.Service{
		Name: "qmqpd", Kind: service.Single,
		Setup: func(rt *service.Runtime) (err error) {
			s, err = newServer(rt)
			return err
		},
		Serve: func(ctx context.Context, conn *service.Conn) error {
			conn.SetTimeout(s.timeout)
			return s.serve(ctx, conn, conn.Attrs)
		},
		TableChanged: func() (string, bool) { return s.clients.Changed() },
	}, args, os.Environ())
}

// sink is cleanup, taking one message.
type sink interface {
	Rec(t record.Type, data []byte) error
	Finish() (cleanup.Result, error)
	Abort()
}

// server holds the settings.
type server struct {
	log         *maillog.Logger
	clients     *table.MatchList
	native      dns.Native
	open        func(ctx context.Context) (to sink, id string, err error)
	now         func() time.Time
	timeout     time.Duration // of each read and write
	errorDelay  time.Duration
	portLogging bool
	softBounce  bool
	hostname    string
	mailName    string
	filter      string // content_filter
	verpFilter  string // verp_delimiter_filter
	sizeLimit   int64  // message_size_limit
	lineLimit   int
}

func newServer(rt *service.Runtime) (*server, error) {
	c := rt.Config
	clients, err := table.NewMatchList(table.Env{Config: c, Log: rt.Log, Daemon: true}, "qmqpd_authorized_clients",
		c.String("qmqpd_authorized_clients"), table.MatchHostAddr, 0)
	if err != nil {
		return nil, err
	}
	options := cleanup.FromConfig(c)
	options.Dialer.Log = rt.Log
	flags := cleanup.FlagsExternal.Override(c.List("receive_override_options")) | cleanup.AutoUTF8(c, cleanup.ClassQMQPD)
	s := &server{
		log: rt.Log, clients: clients, native: dns.System{}, now: time.Now,
		timeout: c.Duration("qmqpd_timeout"), errorDelay: c.Duration("qmqpd_error_delay"),
		portLogging: c.Bool("qmqpd_client_port_logging"), softBounce: c.Bool("soft_bounce"),
		hostname: c.String("myhostname"), mailName: c.String("mail_name"), filter: c.String("content_filter"),
		verpFilter: c.String("verp_delimiter_filter"), sizeLimit: c.Int64("message_size_limit"), lineLimit: c.Int("line_length_limit"),
	}
	s.open = func(ctx context.Context) (sink, string, error) {
		session, err := options.Open(ctx)
		if err != nil {
			return nil, "", err
		}
		return session, session.QueueID, session.SetFlags(flags)
	}
	return s, nil
}

// session is one client.
type session struct {
	*server
	conn    io.Writer
	in      netstrings
	peer    peer
	id      string // queue id
	to      sink
	where   string // what is being received
	arrival time.Time
	content *holder
	rcpts   int
	first   string // first recipient
}

// What a session is doing, for the log.
const (
	inHeader    = "receiving QMQP packet header"
	inContent   = "receiving message content"
	inSender    = "receiving sender address"
	inRecipient = "receiving recipient address"
	inReply     = "sending completion status"
)

// serve handles one client.
func (srv *server) serve(ctx context.Context, conn net.Conn, attrs map[string]string) error {
	p, err := srv.findPeer(ctx, conn, attrs)
	if err != nil {
		return err
	}
	s := &session{server: srv, conn: conn, in: netstrings{bufio.NewReader(conn)}, peer: p}
	s.log.Info("connect from %s", p.namaddr)
	defer s.log.Info("disconnect from %s", p.namaddr)
	permitted, err := srv.clients.Match(ctx, p.name, p.addr)
	switch {
	case err != nil:
		s.reply('Z', "Error: server configuration error")
	case !permitted:
		s.reply('D', fmt.Sprintf("Error: %s is not authorized to use this service", p.namaddr))
	default:
		return s.message(ctx)
	}
	return nil
}

// message receives one message.
func (s *session) message(ctx context.Context) (err error) {
	if s.to, s.id, err = s.open(ctx); err != nil {
		if s.to != nil {
			s.to.Abort()
		}
		s.log.Warn("unable to connect to the %s %s service: %s", dial.Public, "cleanup", dial.Reason(err))
		s.reply('Z', "Error: queue file write error")
		return nil
	}
	s.arrival, s.content = s.now(), newHolder()
	defer s.content.close()
	s.put(record.TypeTime, fmt.Sprintf("%d %d", s.arrival.Unix(), s.arrival.Nanosecond()/1000))
	if s.filter != "" {
		s.put(record.TypeFilter, s.filter)
	}
	s.log.Info("%s: client=%s", s.id, s.peer.namaddr)
	if err := s.receive(); err != nil {
		s.to.Abort()
		s.refuse(err)
		return nil
	}
	s.finish()
	return nil
}

// put sends a record; errors of the connection come with the verdict.
func (s *session) put(t record.Type, text string) { s.to.Rec(t, []byte(text)) }

// refusal is an error that is the client's reply.
type refusal struct{ text string }

func (r refusal) Error() string { return r.text }

// receive reads everything and hands it to cleanup but for the end.
func (s *session) receive() error {
	s.where = inHeader
	if _, err := s.in.length(); err != nil {
		return err
	}
	s.where = inContent
	if err := s.in.copyTo(s.content, s.sizeLimit); err != nil {
		return err
	}
	s.where = inSender
	sender, err := s.in.text(s.lineLimit)
	if err != nil {
		return err
	}
	if err := s.envelope(sender); err != nil {
		return err
	}
	s.where = inRecipient
	for {
		more, err := s.in.more()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		rcpt, err := s.in.text(s.lineLimit)
		if err != nil {
			return err
		}
		if s.rcpts++; s.rcpts == 1 {
			s.first = rcpt
		}
		s.put(record.TypeRcpt, rcpt)
	}
	s.where = inContent
	return s.sendContent()
}

// envelope sends what comes before the recipients.
func (s *session) envelope(sender string) error {
	verp := ""
	if from, delimiter, ok := splitVERP(sender); ok {
		sender, verp = from, string(delimiter)+"="
		if strings.IndexByte(s.verpFilter, delimiter) < 0 || strings.IndexByte(s.verpFilter, '=') < 0 {
			return refusal{fmt.Sprintf("Error: Invalid VERP delimiters: \"%s\". Need two characters from \"%s\"", verp, s.verpFilter)}
		}
	}
	s.put(record.TypeFrom, sender)
	if verp != "" {
		s.put(record.TypeVERP, verp)
	}
	p := &s.peer
	for _, a := range [...][2]string{
		{"log_client_name", p.name}, {"log_client_address", p.rfcAddr()}, {"log_client_port", p.port},
		{"log_message_origin", p.namaddr}, {"log_protocol_name", "QMQP"},
		{"client_name", p.name}, {"client_address", p.addr}, {"client_port", p.port},
		{"client_address_type", fmt.Sprint(p.family)}, {"protocol_name", "QMQP"},
	} {
		s.put(record.TypeAttr, a[0]+"="+a[1])
	}
	return nil
}

// splitVERP takes "prefix-@origin-@[]" apart: each recipient is to have a
// sender of its own, made of prefix and the delimiter.
func splitVERP(sender string) (from string, delimiter byte, ok bool) {
	base, ok := strings.CutSuffix(sender, "-@[]")
	at := strings.IndexByte(base, '@')
	if !ok || at < 2 {
		return sender, 0, false
	}
	return base[:at-1] + base[at:], base[at-1], true
}

// sendContent sends the trace header and the message.
func (s *session) sendContent() error {
	s.put(record.TypeMessage, "")
	p := &s.peer
	date := header.MailDate(s.arrival)
	lines := []string{fmt.Sprintf("Received: from %s (%s [%s])", p.name, p.name, p.rfcAddr())}
	by := fmt.Sprintf("\tby %s (%s) with QMQP", s.hostname, s.mailName)
	if s.rcpts == 1 {
		lines = append(lines, by+" id "+s.id, fmt.Sprintf("\tfor <%s>; %s", address.Quote(s.first), date))
	} else {
		lines = append(lines, by, fmt.Sprintf("\tid %s; %s", s.id, date))
	}
	for _, line := range lines {
		s.put(record.TypeNormal, line)
	}
	r, err := s.content.reader()
	if err != nil {
		return err
	}
	if err := copyContent(s.to, r, s.lineLimit); errors.Is(err, errSpool) {
		return err
	}
	s.put(record.TypeExtracted, "")
	s.put(record.TypeEnd, "")
	return nil // trouble with the connection to cleanup shows in its verdict
}

// refuse ends a session that did not come to its end.
func (s *session) refuse(err error) {
	var r refusal
	switch {
	case errors.As(err, &r):
		s.log.Warn("%s: %s: %s", s.id, s.peer.namaddr, r.text)
		s.reply('D', r.text)
	case err == errLost || err == errTimeout:
		s.log.Info("%s: %s: %v while %s", s.id, s.peer.namaddr, err, s.where)
	case err == errFormat || err == errLong:
		s.log.Info("%s: %s: %v while %s", s.id, s.peer.namaddr, err, s.where)
		s.reply('D', fmt.Sprintf("%v while %s", err, s.where))
	default:
		s.log.Warn("%s: %s: %v", s.id, s.peer.namaddr, err)
		s.reply('Z', "Error: queue file write error")
	}
}

// finish asks for cleanup's verdict and passes it on.
func (s *session) finish() {
	r, err := s.to.Finish()
	if err != nil {
		r.Status |= cleanup.StatusWrite
	}
	code, text := verdict(r, s.id)
	if code != 'K' {
		s.log.Warn("%s: %s: %s", s.id, s.peer.namaddr, text)
	}
	s.where = inReply
	s.reply(code, text)
}

// verdict is the reply to a message, by the first status bit of the table.
func verdict(r cleanup.Result, id string) (code byte, text string) {
	if r.Status == cleanup.OK {
		return 'K', "Ok: queued as " + id
	}
	content := byte('D')
	if strings.HasPrefix(r.Reason, "4") {
		content = 'Z'
	}
	for _, v := range [...]struct {
		bit  cleanup.Status
		code byte
		text string
	}{
		{cleanup.StatusDefer, 'Z', r.Reason},
		{cleanup.StatusBad, 'Z', fmt.Sprintf("internal error %d", r.Status)},
		{cleanup.StatusSize, 'D', "message too large"},
		{cleanup.StatusHops, 'D', "too many hops"},
		{cleanup.StatusContent, content, r.Reason},
		{cleanup.StatusWrite, 'Z', "queue file write error"},
		{cleanup.StatusRcpt, 'D', "no recipients specified"},
	} {
		if r.Status&v.bit != 0 {
			return v.code, "Error: " + v.text
		}
	}
	return 'Z', fmt.Sprintf("Error: internal error %d", r.Status)
}

// reply sends the answer; one that is not welcome comes late.
func (s *session) reply(code byte, text string) {
	if code == 'D' && s.softBounce {
		code = 'Z'
	}
	if code != 'K' {
		time.Sleep(s.errorDelay)
	}
	if _, err := io.WriteString(s.conn, netstring(string(code)+text)); err != nil {
		id := s.id
		if id == "" {
			id = "NOQUEUE"
		}
		s.log.Info("%s: %s: %v while %s", id, s.peer.namaddr, failed(err), inReply)
	}
}
