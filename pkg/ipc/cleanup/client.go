package cleanup

import (
	"bufio"
	"context"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/spool/record"
)

// Options say how to reach the service.
type Options struct {
	Dialer  dial.Dialer
	Service string // cleanup_service_name
	Once    bool   // one connection attempt only, instead of dial.Patient
}

// FromConfig takes the service name and the timeout from the configuration.
func FromConfig(c *conf.Config) Options {
	return Options{
		Dialer:  dial.Dialer{Timeout: c.Duration("ipc_timeout")},
		Service: c.String("cleanup_service_name"),
	}
}

// Session is the hand-over of one message.
type Session struct {
	QueueID string

	conn *dial.Conn
	buf  *bufio.Writer
	rec  *record.Writer
}

// Open connects to the service that the configuration names, with the patience
// of smtpd, pickup and synchronous notices (ipc.md §1.3).
func Open(ctx context.Context, c *conf.Config) (*Session, error) {
	return FromConfig(c).Open(ctx)
}

// Open connects to the service and reads the announcement.
func (o Options) Open(ctx context.Context) (*Session, error) {
	connect := o.Dialer.Dial
	if !o.Once {
		connect = func(ctx context.Context, class, service string) (*dial.Conn, error) {
			return o.Dialer.Connect(ctx, class, service, dial.Patient())
		}
	}
	conn, err := connect(ctx, dial.Public, o.Service)
	if err != nil {
		return nil, err
	}
	s, err := NewSession(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// NewSession starts a hand-over on a connection.
func NewSession(conn *dial.Conn) (*Session, error) {
	s := &Session{conn: conn, buf: bufio.NewWriterSize(conn, 8192)}
	s.rec = record.NewWriter(s.buf)
	if err := attr.Expect(conn.In, Protocol, attr.Str("queue_id", &s.QueueID)); err != nil {
		return nil, err
	}
	return s, nil
}

// SetFlags writes the flags, which come before the first record; they are sent
// with it.
func (s *Session) SetFlags(f Flags) error {
	return attr.NewWriter(s.buf, attr.Null).Int("flags", int(f)).End().Err()
}

// Rec sends one record. Errors of the socket stick; cleanup's own verdict comes
// with Finish, and a client should go to Finish after an error, too, as the
// service may have answered early.
func (s *Session) Rec(t record.Type, data []byte) error { return s.rec.Put(t, data) }

// RecString is Rec for a string.
func (s *Session) RecString(t record.Type, data string) error { return s.rec.PutString(t, data) }

// Printf sends one record of formatted text.
func (s *Session) Printf(t record.Type, format string, a ...any) error {
	return s.rec.Printf(t, format, a...)
}

// Attr sends an attribute record.
func (s *Session) Attr(name, value string) error { return s.rec.PutAttr(name, value) }

// Text sends one line of content, without its newline, split at limit bytes
// (line_length_limit; 0 = never).
func (s *Session) Text(line []byte, limit int) error { return s.rec.PutText(line, limit) }

// Offset is the number of record bytes sent.
func (s *Session) Offset() int64 { return s.rec.Offset() }

// Flush sends what is buffered, for instance before a pause of the source.
func (s *Session) Flush() error { return s.rec.Flush() }

// Conn is the connection, for the Milter hand-over.
func (s *Session) Conn() *dial.Conn { return s.conn }

// Finish waits for the verdict, after the caller sent the end record, and
// closes the connection.
func (s *Session) Finish() (Result, error) {
	defer s.conn.Close()
	werr := s.rec.Flush()
	var r Result
	var status int
	if err := s.conn.In.Scan(attr.Int("status", &status), attr.Str("reason", &r.Reason)); err != nil {
		if werr != nil {
			err = werr
		}
		return Result{Status: StatusWrite}, err
	}
	r.Status = Status(status)
	return r, nil
}

// Abort gives the message up: cleanup removes what it has.
func (s *Session) Abort() { s.conn.Close() }
