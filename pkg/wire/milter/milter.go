// Package milter is the mail server's side of the Milter protocol, in which
// programs beside the mail system look at SMTP events and at message content,
// and decide (spec ipc.md §3.6; the protocol is Sendmail's, versions 2, 3, 4
// and 6).
//
// Filters is the list of Milters of one session. smtpd makes it with New and
// reports Connect, Helo, Mail, Rcpt, Data, Unknown; it passes the open filters
// to cleanup with Send. cleanup takes them with Receive, or makes its own with
// New, and shows them the message with Message. Each report gives a Result:
// what the first filter with an opinion decided.
//
// Trouble with a filter is a Result too: it is logged, and milter_default_action
// decides. Everything is bounded: by the three timeouts, and packets by
// MaxPacket.
//
// A Filters belongs to one goroutine.
package milter

import (
	"context"
	"time"

	"posthaste/pkg/ipc/attr"
)

// Limits of this implementation.
const (
	MaxPacket = 1<<20 + 1 // bytes of a filter's packet, as libmilter's largest
	MaxChunk  = 65535     // bytes of body shown at once
	MaxCount  = 100       // filters handed over at once
)

// Stage is a point of a session that has a list of macros of its own. The
// first seven values are those by which a filter overrides that list.
type Stage int

// The stages.
const (
	StageConnect Stage = iota
	StageHelo
	StageMail
	StageRcpt
	StageData
	StageEndOfMessage
	StageEndOfHeader
	StageUnknown
	stages
)

// MacroNames are the names of the macros sent at each stage, separated by
// blanks or commas, as they are configured: "i {mail_addr}".
type MacroNames [stages]string

// Logger is the part of a *maillog.Logger that is used here.
type Logger interface {
	Warn(format string, a ...any)
	Info(format string, a ...any)
	Verbose() int
}

// Config is what all filters of a process have in common.
type Config struct {
	ConnectTimeout time.Duration // milter_connect_timeout
	CommandTimeout time.Duration // milter_command_timeout: one command, or the negotiation
	ContentTimeout time.Duration // milter_content_timeout: the content of a message
	Protocol       string        // milter_protocol: a version, and perhaps no_header_reply
	DefaultAction  string        // milter_default_action
	Macros         MacroNames    // milter_*_macros
	Defaults       []attr.Attr   // milter_macro_defaults
	SoftBounce     bool          // soft_bounce: a filter's own 5xx replies become 4xx
	Log            Logger
}

// Verdict is what a filter decided.
type Verdict int

// The verdicts.
const (
	Continue Verdict = iota // nothing: accepted, or no opinion
	Reject                  // Result.Reply is the SMTP reply
	Discard                 // accept the message and throw it away
	Hold                    // accept the message and put it on hold
	Shutdown                // end the session; Result.Reply is the 421 reply
	Failed                  // Result.Err, of the content's source or of the Editor
)

// Result is the outcome of an event.
type Result struct {
	Verdict Verdict
	// Reply is the whole SMTP reply of a Reject or Shutdown, "550 5.7.1 Command
	// rejected"; it may have several lines, each with its code, separated by
	// CR LF.
	Reply string
	Err   error
}

// Family is the kind of a client's address, as it is sent to filters.
type Family byte

// The families.
const (
	FamilyUnknown Family = 'U'
	FamilyUnix    Family = 'L'
	FamilyIPv4    Family = '4'
	FamilyIPv6    Family = '6'
)

// Lookup gives the value of a macro, whose name is as configured: "i",
// "{mail_addr}". Without a value the configured default is sent, or nothing.
type Lookup func(name string) (value string, ok bool)

// Filters are the Milters of a session, in the order in which they are asked.
// The zero value has none, and all its Results are Continue.
type Filters struct {
	// Lookup gives the values of macros; nil knows none.
	Lookup Lookup
	cfg    Config
	list   []*filter
}

// Len is the number of filters, whatever their state.
func (f *Filters) Len() int { return len(f.list) }

// each asks the filters in turn until one has an opinion.
func (f *Filters) each(ask func(m *filter) Result) Result {
	for _, m := range f.list {
		if r := ask(m); r.Verdict != Continue {
			return r
		}
	}
	return Result{}
}

// Connect connects to the filters one by one, negotiates, and reports the
// client: its name ("[ADDR]" is sent for an unknown one when the caller gives
// that), address and port ("0" if unknown).
func (f *Filters) Connect(ctx context.Context, name, addr, port string, family Family) Result {
	data := connectData(name, addr, port, family)
	return f.each(func(m *filter) Result {
		m.open(ctx)
		return f.event(m, &eventConnect, data)
	})
}

// Helo reports HELO or EHLO.
func (f *Filters) Helo(name string) Result {
	return f.each(func(m *filter) Result { return f.event(m, &eventHelo, cstrings(name)) })
}

// Mail reports MAIL: the address in angle brackets and the ESMTP parameters.
func (f *Filters) Mail(args ...string) Result {
	return f.each(func(m *filter) Result { return f.event(m, &eventMail, cstrings(args...)) })
}

// Rcpt reports RCPT: the address in angle brackets and the ESMTP parameters.
func (f *Filters) Rcpt(args ...string) Result {
	return f.each(func(m *filter) Result { return f.event(m, &eventRcpt, cstrings(args...)) })
}

// RejectedRcpt reports a recipient that the server itself refused, to the
// filters that want to know; what they say does not matter.
func (f *Filters) RejectedRcpt(args ...string) {
	for _, m := range f.list {
		if m.events&wantRejected != 0 {
			f.event(m, &eventRcpt, cstrings(args...))
		}
	}
}

// Data reports DATA, or the first BDAT.
func (f *Filters) Data() Result {
	return f.each(func(m *filter) Result { return f.event(m, &eventData, nil) })
}

// Unknown reports a command that the server does not know.
func (f *Filters) Unknown(command string) Result {
	return f.each(func(m *filter) Result { return f.event(m, &eventUnknown, cstrings(command)) })
}

// Other is for commands that have no event: only what was decided for the
// whole session counts.
func (f *Filters) Other() Result {
	return f.each(func(m *filter) Result { return m.persistent() })
}

// Abort ends the message, if there is one, and makes the filters ready for the
// next.
func (f *Filters) Abort() {
	for _, m := range f.list {
		m.abort()
	}
}

// Close ends the session with the filters: they are told so (smtpd).
func (f *Filters) Close() {
	for _, m := range f.list {
		m.quit()
	}
}

// Release closes this process's end of the connections without a word
// (cleanup, of filters that smtpd passed to it).
func (f *Filters) Release() {
	for _, m := range f.list {
		m.disconnect()
	}
}
