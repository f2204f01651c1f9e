// Package cleanup is the protocol of the cleanup service (ipc.md §2.1): how
// smtpd, pickup, bounce and others hand a message in, and how the mail system
// posts mail of its own.
//
// A client opens a Session, which tells the queue ID at once, sets flags, sends
// queue file records and finishes; the Result says whether the message is on
// stable storage. A Session is for one message and one goroutine.
//
// Errors returned are those of the socket and of attr; a message that the
// service refuses is no error but a Result with a Status.
package cleanup

import "fmt"

// Protocol is the announcement of the service.
const Protocol = "cleanup_protocol"

// Flags say what cleanup is to do with a message.
type Flags int

// The client flags (ipc.md §2.1).
const (
	FlagBounce    Flags = 1   // cleanup itself returns rejected mail to the sender
	FlagFilter    Flags = 2   // header and body checks
	FlagHold      Flags = 4   // put on hold
	FlagDiscard   Flags = 8   // accept, then drop
	FlagBCC       Flags = 16  // always_bcc and the bcc maps
	FlagMap       Flags = 32  // canonical, masquerade, virtual alias
	FlagMilter    Flags = 64  // Milters
	FlagSMTPReply Flags = 128 // Result.Reason may be a whole SMTP reply
	FlagUTF8      Flags = 256 // the client asked for SMTPUTF8
	FlagAutoUTF8  Flags = 512 // detect the need for SMTPUTF8

	// FlagsExternal is what smtpd, qmqpd and pickup start from,
	// FlagsInternal what internal mail starts from.
	FlagsExternal = FlagFilter | FlagBCC | FlagMap | FlagMilter
	FlagsInternal = FlagMap
	// FlagsExtra may be added in the record stream (record type f).
	FlagsExtra = FlagHold | FlagDiscard
)

// Override clears what receive_override_options takes away (routing.md §1.1).
func (f Flags) Override(options []string) Flags {
	for _, o := range options {
		switch o {
		case "no_address_mappings":
			f &^= FlagBCC | FlagMap
		case "no_header_body_checks":
			f &^= FlagFilter
		case "no_milters":
			f &^= FlagMilter
		}
	}
	return f
}

// Status is the outcome: 0, or a set of bits.
type Status int

// The status bits (ipc.md §2.1).
const (
	OK             Status = 0
	StatusBad      Status = 1     // the record stream broke the protocol
	StatusWrite    Status = 2     // queue file or table trouble
	StatusSize     Status = 4     // message_size_limit
	StatusContent  Status = 8     // rejected for its content
	StatusHops     Status = 16    // hopcount_limit
	StatusRcpt     Status = 64    // no recipient
	StatusProxy    Status = 128   // smtpd's own: before-queue filter
	StatusDefer    Status = 256   // temporarily rejected
	StatusNoPerm   Status = 512   // postdrop's own: not authorised
	StatusBareLF   Status = 65536 // smtpd's own
	StatusNoBounce        = StatusBad | StatusWrite | StatusDefer | StatusRcpt
	StatusBroken          = StatusBad | StatusWrite | StatusSize | StatusDefer
)

// Detail is what a Status means to an SMTP client.
type Detail struct {
	Status Status
	SMTP   int    // reply code
	DSN    string // enhanced status code
	Text   string
}

// details is in order of priority.
var details = [...]Detail{
	{StatusDefer, 451, "4.7.1", "service unavailable"},
	{StatusProxy, 451, "4.3.0", "queue file write error"},
	{StatusBad, 451, "4.3.0", "internal protocol error"},
	{StatusRcpt, 550, "5.1.0", "no recipients specified"},
	{StatusHops, 554, "5.4.0", "too many hops"},
	{StatusSize, 552, "5.3.4", "message file too big"},
	{StatusContent, 550, "5.7.1", "message content rejected"},
	{StatusWrite, 451, "4.3.0", "queue file write error"},
	{StatusNoPerm, 550, "5.7.1", "service denied"},
	{StatusBareLF, 521, "5.5.2", "bare <LF> received"},
}

// Detail returns the first row of the table that matches; 250 2.0.0 Success for
// OK.
func (s Status) Detail() Detail {
	if s == OK {
		return Detail{OK, 250, "2.0.0", "Success"}
	}
	for _, d := range details {
		if s&d.Status != 0 {
			return d
		}
	}
	return Detail{s, 451, "4.3.0", fmt.Sprintf("unknown error %d", int(s))}
}

// Text is the words of Detail.
func (s Status) Text() string { return s.Detail().Text }

// Result is cleanup's answer. Reason is empty, an enhanced status code and
// text, or (only with FlagSMTPReply) a whole SMTP reply.
type Result struct {
	Status Status
	Reason string
}
