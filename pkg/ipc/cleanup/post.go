package cleanup

import (
	"context"
	"fmt"
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/message/header"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

// Classes of internal mail, as named in internal_mail_filter_classes and
// smtputf8_autodetect_classes.
const (
	ClassBounce   = "bounce"
	ClassNotify   = "notify"
	ClassVerify   = "verify"
	ClassForward  = "forward"
	ClassSendmail = "sendmail"
	ClassSMTPD    = "smtpd"
	ClassQMQPD    = "qmqpd"
	ClassAll      = "all"
)

// AutoUTF8 returns FlagAutoUTF8 if the class is in smtputf8_autodetect_classes.
func AutoUTF8(c *conf.Config, class string) Flags {
	if listed(c.List("smtputf8_autodetect_classes"), class) {
		return FlagAutoUTF8
	}
	return 0
}

func listed(classes []string, class string) bool {
	for _, c := range classes {
		if strings.EqualFold(c, class) || strings.EqualFold(c, ClassAll) {
			return true
		}
	}
	return false
}

// InternalFlags are the flags of internal mail of a class; utf8 says that
// SMTPUTF8 is needed.
func InternalFlags(c *conf.Config, class string, utf8 bool) Flags {
	f := FlagsInternal
	if listed(c.List("internal_mail_filter_classes"), class) {
		f |= FlagFilter | FlagMilter
	}
	if utf8 {
		return f | FlagUTF8
	}
	return f | AutoUTF8(c, class)
}

// PostOptions describe an internal message.
type PostOptions struct {
	Sender     string // internal form; empty = null sender
	Recipient  string // internal form
	Class      string // ClassBounce ...
	TraceFlags int    // trace_flags attribute: 256 probe, 512, 1024
	UTF8       bool   // needs SMTPUTF8
	NoWait     bool   // one connection attempt only
	Log        *maillog.Logger
	Now        time.Time // zero = the current time
}

// Post is an internal message being written.
type Post struct {
	QueueID string
	s       *Session
	limit   int
	err     error
}

// NewPost opens the service and sends the envelope and the first headers
// (Received: and Date:). Headers, an empty line and the body follow with
// Printf.
func NewPost(ctx context.Context, c *conf.Config, o PostOptions) (*Post, error) {
	opt := FromConfig(c)
	opt.Once = o.NoWait
	if o.Log != nil {
		opt.Dialer.Log = o.Log
	}
	s, err := opt.Open(ctx)
	if err != nil {
		return nil, err
	}
	p := &Post{QueueID: s.QueueID, s: s, limit: c.Int("line_length_limit")}
	p.start(c, o)
	if p.err != nil {
		s.Abort()
		return nil, p.err
	}
	return p, nil
}

func (p *Post) start(c *conf.Config, o PostOptions) {
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	date := header.MailDate(now)
	s := p.s
	p.keep(s.SetFlags(InternalFlags(c, o.Class, o.UTF8)))
	p.keep(s.Printf(record.TypeTime, "%d %d", now.Unix(), now.Nanosecond()/1000))
	p.keep(s.Attr("log_message_origin", "local"))
	p.keep(s.Printf(record.TypeAttr, "trace_flags=%d", o.TraceFlags))
	p.keep(s.RecString(record.TypeFrom, o.Sender))
	p.keep(s.RecString(record.TypeRcpt, o.Recipient))
	p.keep(s.Rec(record.TypeMessage, nil))
	p.Printf("Received: by %s (%s)", c.String("myhostname"), c.String("mail_name"))
	p.Printf("\tid %s; %s", s.QueueID, date)
	p.Printf("Date: %s", date)
}

func (p *Post) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

// Printf writes one line (no newline at its end), split as line_length_limit
// wants. Errors stick and come with Close.
func (p *Post) Printf(format string, a ...any) { p.Text(fmt.Appendf(nil, format, a...)) }

// Text writes one line.
func (p *Post) Text(line []byte) { p.keep(p.s.Text(line, p.limit)) }

// Rec passes a content record (N or L) of another message on.
func (p *Post) Rec(t record.Type, data []byte) { p.keep(p.s.Rec(t, data)) }

// Close ends the message and waits until it is stored. The message is in the
// queue only if the Status is OK and there is no error.
func (p *Post) Close() (Result, error) {
	p.keep(p.s.Rec(record.TypeExtracted, nil))
	p.keep(p.s.Rec(record.TypeEnd, nil))
	r, err := p.s.Finish()
	if err == nil {
		err = p.err
	}
	return r, err
}

// Abort gives the message up.
func (p *Post) Abort() { p.s.Abort() }
