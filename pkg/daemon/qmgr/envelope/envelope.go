// Package envelope reads what the queue manager must know from a queue file:
// the message's properties and its recipients, a batch at a time (spec
// routing.md §4.2, queue.md §2 and §9.2).
//
// Read and (*Envelope).More return ErrCorrupt, after the reason was logged, for
// a file that belongs in the corrupt queue, and the error of the file itself for
// everything else.
package envelope

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/record"
)

// ErrCorrupt means that the file is damaged.
var ErrCorrupt = errors.New("corrupt queue file")

// Logger takes warnings.
type Logger interface {
	Warn(format string, a ...any)
}

// Options of a reader.
type Options struct {
	ID         string // queue id, for log texts
	Path       string // as opened, for log texts
	VERPFilter string // verp_delimiter_filter: characters allowed as delimiters

	Log Logger
	// Sender is called once, when the sender record was read, with the number
	// of recipients that follow (those already delivered included).
	Sender func(e *Envelope, recipients int)
	// More reports whether the recipient after the n-th may be read in this
	// batch. nil means yes.
	More func(n int) bool
}

// Client is what is known of the client that sent the message.
type Client struct {
	Name, Address, Port, Protocol, Helo string
}

// Envelope is the properties of a message. It is not changed after Read, but for
// Unread.
type Envelope struct {
	Size           record.SizeRecord // with ContentLength never 0
	Arrival        time.Time
	Created        time.Time // create_time: when expiration and back-off begin
	Sender         string    // internal form
	Ret            dsn.Ret
	Encoding       string // "", "7bit", "8bit"
	Trace          deliver.Flags
	TraceOffset    int64     // of the trace_flags record; -1: none
	Warn           time.Time // when a delay notice is due; zero: never, or sent
	WarnOffset     int64     // of the data of the W record; -1: none
	WarnLen        int       // its length
	Client         Client
	LogIdent       string
	RewriteContext string
	*Rare

	// Unread is the number of recipients after the last batch.
	Unread int

	resume   int64 // where the next batch begins
	extract  bool  // that place is behind the content
	WarnSent bool  // a delay notice was sent
}

// Rare is what most messages do not have. Envelopes without any of it share one.
type Rare struct {
	EnvelopeID   string
	Filter       string // transport:nexthop of a content filter
	Redirect     string // address that replaces all recipients
	VERP         string // two delimiters
	SASLMethod   string
	SASLUsername string
	SASLSender   string
}

// nothing is the Rare of most envelopes. It is never written to.
var nothing = new(Rare)

// rare is a Rare of the envelope's own.
func (e *Envelope) rare() *Rare {
	if e.Rare == nothing {
		e.Rare = new(Rare)
	}
	return e.Rare
}

// common is text; that of the values which most messages have is shared.
func common(text string) string {
	for _, s := range [...]string{"local", "remote", "ESMTP", "SMTP", "7bit", "8bit"} {
		if text == s {
			return s
		}
	}
	return text
}

// Wants reports whether a recipient of the message asked for NOTIFY=n.
func (e *Envelope) Wants(n dsn.Notify) bool { return e.Size.Hints&int64(n<<1) != 0 }

type reader struct {
	Options
	*record.Reader
	e     *Envelope
	rcpts []deliver.Recipient

	first    bool // first batch: everything is looked at
	extract  bool // behind the content
	full     bool // the batch is complete
	sized    bool
	sender   bool
	old, log Client // client_* and log_client_* attributes
	logged   bool   // a log_client_* attribute was seen
	traced   bool
	seen     int // recipients met

	group   int64 // where the current recipient's records begin; -1: nowhere
	orig    string
	dsnOrig string
	notify  dsn.Notify
	hasOrig bool
}

// Read reads the envelope and the first batch of recipients of the file.
func Read(f io.ReadSeeker, o Options) (*Envelope, []deliver.Recipient, error) {
	e := &Envelope{TraceOffset: -1, WarnOffset: -1, Rare: nothing}
	r := newReader(f, o, e)
	r.first = true
	err := r.run()
	if err == nil {
		err = r.finish()
	}
	if err != nil {
		return nil, nil, err
	}
	return e, r.rcpts, nil
}

// More reads the next batch.
func (e *Envelope) More(f io.ReadSeeker, o Options) ([]deliver.Recipient, error) {
	r := newReader(f, o, e)
	r.sized, r.sender = true, true
	r.extract = e.extract
	if err := r.SeekTo(e.resume); err != nil {
		return nil, err
	}
	if err := r.run(); err != nil {
		return nil, err
	}
	return r.rcpts, nil
}

func newReader(f io.ReadSeeker, o Options, e *Envelope) *reader {
	r := &reader{Options: o, Reader: record.NewReader(f), e: e, group: -1}
	r.Reader.Path = o.Path
	return r
}

func (r *reader) warn(format string, a ...any) {
	if r.Log != nil {
		r.Log.Warn(format, a...)
	}
}

func (r *reader) reject(format string, a ...any) error {
	r.warn(format, a...)
	return ErrCorrupt
}

// run reads to the end of the batch or of the message.
func (r *reader) run() error {
	for {
		t, data, err := r.Next()
		if err != nil {
			return r.broken(err)
		}
		if !t.In(record.EnvelopeSet) && !t.In(record.ExtractedSet) {
			return r.unexpected(t)
		}
		if t == record.TypeEnd {
			break
		}
		if t == record.TypeMessage {
			if err := r.skipContent(); err != nil {
				return err
			}
			continue
		}
		if err := r.record(t, data); err != nil {
			return err
		}
		if r.full {
			if done, err := r.skipRecipients(t); done || err != nil {
				return err
			}
		}
	}
	if !r.full && r.e.Unread != 0 {
		r.warn("%s: rcpt count mismatch (%d)", r.ID, r.e.Unread)
		r.e.Unread = 0
	}
	return nil
}

func (r *reader) broken(err error) error {
	if err != io.EOF && !errors.Is(err, record.ErrMalformed) {
		return err
	}
	if err != io.EOF {
		r.warn("%v", err)
	}
	if r.e.Unread != 0 && r.sized {
		defer r.warn("%s: rcpt count mismatch (%d)", r.ID, r.e.Unread)
	}
	return r.reject("%s: message rejected: missing end record", r.ID)
}

func (r *reader) unexpected(t record.Type) error {
	return r.reject("Unexpected record type '%c' at offset %d", rune(t), r.Offset())
}

// skipContent goes from the M record to the extracted segment.
func (r *reader) skipContent() error {
	if r.extract {
		return r.unexpected(record.TypeMessage)
	}
	if !r.sized {
		return r.reject("%s: message rejected: missing size record", r.ID)
	}
	r.extract = true
	if err := r.SeekTo(r.e.Size.DataOffset + r.e.Size.ContentSize); err != nil {
		return r.broken(err)
	}
	t, _, err := r.Next()
	if err != nil {
		return r.broken(err)
	}
	if t != record.TypeExtracted {
		return r.unexpected(t)
	}
	return nil
}

// skipRecipients leaves out what cannot matter once the batch is full. done means
// that nothing else need be read.
func (r *reader) skipRecipients(t record.Type) (done bool, err error) {
	if !r.first {
		return true, nil
	}
	if !r.sized || r.e.Size.Hints&record.HintMixed != 0 {
		return false, nil
	}
	if !r.extract {
		return false, r.skipContent()
	}
	return t.In(record.ExtractedRcptSet), nil
}

// record takes one record in.
func (r *reader) record(t record.Type, data []byte) error {
	offset := r.Offset()
	name, value := "", ""
	if t == record.TypeAttr {
		var err error
		if name, value, err = record.ParseAttr(data); err != nil {
			return r.reject("%s: bad attribute record: %v: %.200s", r.ID, err, data)
		}
		if p, ok := record.Pseudo(name); ok {
			t, data = p, []byte(value)
		}
	}
	if r.recipient(t, data, offset) || !r.first {
		return nil
	}
	e := r.e
	text := string(data)
	switch t {
	case record.TypeSize:
		return r.size(data)
	case record.TypeTime:
		if e.Arrival.IsZero() {
			e.Arrival = stamp(text)
		}
	case record.TypeCreateTime:
		if sec, err := strconv.ParseInt(text, 10, 64); err == nil && e.Created.IsZero() && sec > 0 {
			e.Created = time.Unix(sec, 0)
		}
	case record.TypeFrom:
		if !r.sender {
			r.sender, e.Sender = true, text
			if r.Sender != nil {
				r.Sender(e, e.Unread)
			}
		}
	case record.TypeFilter:
		e.rare().Filter = text
	case record.TypeRedirect:
		e.rare().Redirect = text
	case record.TypeVERP:
		r.verp(text)
	case record.TypeWarn:
		if sec, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil && e.WarnOffset < 0 {
			e.WarnOffset, e.WarnLen = r.Tell()-int64(len(data)), len(data)
			e.WarnSent = sec < 0
			if sec > 0 {
				e.Warn = time.Unix(sec, 0)
			}
		}
	case record.TypeDSNEnvID:
		e.rare().EnvelopeID = text
	case record.TypeDSNRet:
		ret, _ := strconv.Atoi(text)
		e.Ret = dsn.Ret(ret)
	case record.TypeAttr:
		r.attribute(name, value, offset)
	}
	return nil
}

func (r *reader) size(data []byte) error {
	s, n := record.ParseSize(data)
	switch {
	case n < 3:
		return r.reject("%s: message rejected: weird size record", r.ID)
	case s.ContentSize <= 0 || s.DataOffset <= 0 || s.ContentLength < 0 || s.Recipients < 0 || s.ContentSize > 1<<60 || s.DataOffset > 1<<60:
		return r.reject("%s: invalid size record: %.100s", r.ID, data)
	case s.Hints&^record.HintAll != 0:
		return r.reject("%s: invalid flags in size record: %.100s", r.ID, data)
	}
	if s.ContentLength == 0 {
		s.ContentLength = s.ContentSize
	}
	if !r.sized {
		r.sized, r.e.Size = true, s
		r.e.Unread = int(s.Recipients) - r.seen
	}
	return nil
}

// stamp reads the data of a T record; the microseconds may be missing.
func stamp(text string) time.Time {
	a, b, _ := strings.Cut(strings.TrimSpace(text), " ")
	sec, err := strconv.ParseInt(a, 10, 64)
	if err != nil || sec <= 0 {
		return time.Time{}
	}
	usec, err := strconv.ParseInt(strings.TrimSpace(b), 10, 64)
	if err != nil || usec < 0 || usec > 999999 {
		usec = 0
	}
	return time.Unix(sec, usec*1000)
}

func (r *reader) verp(text string) {
	switch {
	case r.e.VERP != "":
	case r.sender && r.e.Sender == "":
		r.warn("%s: ignoring VERP request for null sender", r.ID)
	case len(text) != 2 || !strings.Contains(r.VERPFilter, text[:1]) || !strings.Contains(r.VERPFilter, text[1:]):
		r.warn("%s: ignoring bad VERP request: \"%.100s\"", r.ID, text)
	default:
		r.e.rare().VERP = text
	}
}

// finish checks that the necessary records were there.
func (r *reader) finish() error {
	e := r.e
	switch {
	case e.Arrival.IsZero():
		return r.reject("%s: message rejected: missing arrival time record", r.ID)
	case !r.sender:
		return r.reject("%s: message rejected: missing sender record", r.ID)
	case !r.sized || !r.extract:
		return r.reject("%s: message rejected: missing size record", r.ID)
	}
	if e.Created.IsZero() {
		e.Created = e.Arrival
	}
	e.Client = r.log
	if !r.logged {
		e.Client = r.old
	}
	if e.RewriteContext == "" {
		e.RewriteContext = "local"
	}
	return nil
}
