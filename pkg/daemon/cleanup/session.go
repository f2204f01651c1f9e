package cleanup

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"posthaste/pkg/ipc/attr"
	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/message/header"
	"posthaste/pkg/message/mime"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/milter"
)

// bufferSize is that of the read buffer in front of the client.
const bufferSize = 8192

// maxRecord is the longest record taken from a client. Text comes in pieces of
// line_length_limit, addresses and attributes are far shorter.
const maxRecord = 1 << 20

// session is one message on its way into the queue.
type session struct {
	d   *daemon
	ctx context.Context
	id  string

	file *queue.File
	out  *record.Writer

	flags  proto.Flags
	status proto.Status
	reason string
	ended  bool // the end record was seen
	queued bool // it is in the incoming queue, whole and durable

	// what becomes of the next record; nil once nothing more is wanted
	segment func(s *session, t record.Type, data []byte)

	// envelope
	arrival      time.Time
	haveTime     bool
	warned       bool // a W record is in the file
	haveFullName bool
	fullName     string
	haveSender   bool
	sender       string
	haveRcpt     bool
	recipient    string // what log lines show as to=
	verp         string
	envelopeID   string
	ret          dsn.Ret
	miltersSent  bool // the client announced Milters, or that there are none
	hangUp       bool // the client does not go on before it has an answer
	inRcpts      bool // a record of the recipient class was seen in this segment
	attrs        map[string]string
	remoteRules  bool // rewrite_context=remote
	traceFlags   int

	// the recipient that is being assembled
	origRcpt string
	haveOrig bool
	dsnOrcpt string
	notify   dsn.Notify

	dups map[string]struct{}

	// content
	machine  *mime.Machine
	seen     [header.NumIDs]bool
	resent   bool
	hops     int
	received bool
	line     []byte // work space
	lookup   []byte // key of header checks, work space
	filter   string // of header_checks FILTER
	redirect string
	checkBCC []string

	// Milters
	conn           net.Conn
	in             *attr.Reader // of the same buffer as the records
	filters        *milter.Filters
	ownFilters     bool // non_smtpd_milters, not the client's
	toldMail       bool // own filters know of a sender
	toldRcpt       bool
	inMilterChecks bool
	filterPut      string // what putMeta has written
	redirectPut    string
	bccPut         int

	size   record.SizeRecord
	places places
}

// serve holds one conversation (routing.md §1.1). name is how the client's
// stream is called in log lines. The error is about the conversation only; the
// message's own trouble went to the client and the log.
func (d *daemon) serve(ctx context.Context, conn net.Conn, name string) error {
	file, err := d.spool.CreateWait(ctx, queue.Incoming, 0600)
	if err != nil {
		return err
	}
	s := &session{d: d, ctx: ctx, id: file.ID, file: file, conn: conn}
	defer s.releaseFilters()
	committed := false
	defer func() {
		if !committed {
			file.Remove()
		}
	}()
	if err := d.spurious(s.id); err != nil {
		return err
	}
	s.out = file.Records()
	if err := proto.Announce(conn, s.id); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, bufferSize)
	s.in = attr.NewReader(in, attr.Null, name)
	s.begin(s.in)
	s.read(in, name)
	s.inspect()
	committed = s.finish()
	err = proto.Reply(conn, proto.Result{Status: s.status, Reason: s.reason})
	if s.queued {
		d.trigger()
	}
	return err
}

// begin reads the flags and writes the place of the size record.
func (s *session) begin(in *attr.Reader) {
	flags, err := proto.ReadFlags(in)
	if err != nil {
		if !errors.Is(err, io.EOF) {
			s.d.log.Warn("%v", err)
		}
		s.status |= proto.StatusBad
		return
	}
	s.flags = flags
	if flags&proto.FlagUTF8 != 0 {
		s.size.UTF8Flags |= record.SizeFlagUTF8
	}
	s.segment = (*session).envelope
	s.putString(record.TypeSize, s.size0())
}

func (s *session) size0() string { return record.SizeRecord{}.String() }

// read takes records until the end record, a broken stream, or until nothing
// more is wanted; in the last case it goes on to swallow records up to the end
// record, because clients read no reply before that.
func (s *session) read(in *bufio.Reader, name string) {
	r := record.NewReader(in)
	r.Raw, r.Path, r.Max = true, name, maxRecord
	for !s.ended && !s.hangUp {
		t, data, err := r.Next()
		if err != nil {
			s.readError(err, name)
			return
		}
		switch {
		case !s.going():
			s.ended = t == record.TypeEnd
		case t == record.TypePointer || t == record.TypePadding:
			s.warn("record type %d not allowed - discarding this message", t)
			s.status |= proto.StatusBad
		default:
			s.segment(s, t, data)
		}
	}
}

func (s *session) readError(err error, name string) {
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		s.warn("read timeout on %s", name)
	case errors.Is(err, record.ErrMalformed):
		s.d.log.Warn("%v", err)
	}
	if s.going() {
		s.status |= proto.StatusBad
	}
}

// going reports whether output is still wanted (routing.md §1.2).
func (s *session) going() bool {
	mask := proto.Status(-1)
	if s.flags&proto.FlagBounce != 0 {
		mask = proto.StatusBroken
	}
	return s.status&mask == 0 && s.flags&proto.FlagDiscard == 0 && s.segment != nil
}

// put writes a record into the queue file.
func (s *session) put(t record.Type, data []byte) {
	if s.room(len(data)) {
		s.wrote(s.out.Put(t, data))
	}
}

func (s *session) putString(t record.Type, data string) {
	if s.room(len(data)) {
		s.wrote(s.out.PutString(t, data))
	}
}

func (s *session) putAttr(name, value string) {
	if s.room(len(name) + 1 + len(value)) {
		s.wrote(s.out.PutAttr(name, value))
	}
}

// room enforces message_size_limit on the queue file, headers and envelope
// included.
func (s *session) room(n int) bool {
	if !s.going() {
		return false
	}
	limit := s.d.set.messageLimit
	if limit <= 0 || s.out.Offset()+int64(record.Size(n)) <= limit {
		return true
	}
	s.tooBig()
	return false
}

func (s *session) tooBig() {
	s.warn("queue file size limit exceeded")
	s.status |= proto.StatusSize
}

func (s *session) wrote(err error) {
	if err != nil && s.going() {
		s.writeError(err)
	}
}

func (s *session) writeError(err error) {
	if isTooBig(err) {
		s.tooBig()
		return
	}
	s.warn("write queue file: %s", maillog.Errno(err))
	s.status |= proto.StatusWrite
}

func (s *session) warn(format string, a ...any) {
	s.d.log.Warn("%s: "+format, append([]any{s.id}, a...)...)
}

func (s *session) info(format string, a ...any) {
	s.d.log.Info("%s: "+format, append([]any{s.id}, a...)...)
}

// bad refuses the message for what its client sent.
func (s *session) bad(format string, a ...any) {
	s.warn("message rejected: "+format, a...)
	s.status |= proto.StatusBad
}
