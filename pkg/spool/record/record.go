// Package record is the codec of queue file records: what cleanup writes into
// the spool, what the queue manager and the delivery agents read, and what
// travels from smtpd, pickup and others to cleanup over a socket (spec
// queue.md §2).
//
// A record is a type byte, a length (base 128, least significant group first,
// high bit set on all but the last byte) and that many bytes of data, which
// may contain NUL.
//
// The package knows the code, not the meaning: which types may follow each
// other is the reader's business. Nothing here logs. A Reader returns io.EOF
// at a clean end, an *Error (which matches ErrMalformed) for damage, with the
// text Postfix logs as a warning, and the error of the underlying file as it
// is for everything else.
package record

import (
	"encoding/binary"
	"errors"
	"io"
)

// Type says what a record holds (spec queue.md §2.2).
type Type byte

// Types as they stand on disk or cross a socket.
const (
	TypeSize        Type = 'C' // size record, always first in a file of cleanup's
	TypeTime        Type = 'T' // arrival time: seconds, microseconds
	TypeFullName    Type = 'F' // sender's full name
	TypeInspector   Type = 'I' // content inspector; nothing writes it
	TypeFilter      Type = 'L' // content filter "transport:destination" (not in content)
	TypeFrom        Type = 'S' // envelope sender, internal form; empty = null sender
	TypeDone        Type = 'D' // a recipient that needs nothing more
	TypeRcpt        Type = 'R' // recipient, internal form
	TypeOrigRcpt    Type = 'O' // recipient as it was before rewriting and aliasing
	TypeCanceled    Type = '/' // a recipient deleted by a Milter
	TypeWarn        Type = 'W' // time of the delay warning, -1 once it was sent
	TypeAttr        Type = 'A' // name=value
	TypeKilled      Type = 'K' // an attribute that was crossed out
	TypeRedirect    Type = '>' // address to deliver to instead
	TypeVERP        Type = 'V' // two VERP delimiters
	TypeMessage     Type = 'M' // the content follows
	TypeNormal      Type = 'N' // content: a line, or its last part
	TypeContinued   Type = 'L' // content: a part of a line that the next record continues
	TypePadding     Type = 'w' // nothing, keeps room for an edit
	TypeExtracted   Type = 'X' // end of content; extracted records follow
	TypeReturnRcpt  Type = 'r' // legacy return receipt request
	TypeErrorsTo    Type = 'e' // legacy Errors-To
	TypePriority    Type = 'P' // legacy priority
	TypePointer     Type = 'p' // reading goes on at this offset
	TypeFlags       Type = 'f' // to cleanup only: more flags, decimal
	TypeDelay       Type = 'd' // to cleanup only; not used
	TypeMilterCount Type = 'm' // to cleanup only: so many Milters are handed over
	TypeEnd         Type = 'E' // end of message
)

// Pseudo types: in a file these are attributes (see Pseudo).
const (
	TypeCreateTime   Type = 'c' // A create_time=
	TypeDSNRet       Type = '<' // A ret_flags=
	TypeDSNEnvID     Type = 'i' // A envelope_id=
	TypeDSNOrigRcpt  Type = 'o' // A dsn_orig_rcpt=
	TypeDSNNotify    Type = 'n' // A notify_flags=
	unknownTypeName       = "unknown_record_type"
	maxLengthBytes        = 5
	defaultMaxRecord      = 64 << 20
)

// Sets of types that a section may hold; the first character is the type that
// ends the section (spec queue.md §2.2).
const (
	EnvelopeSet          = "MCTcFILSDRO/WVA>K<ion" // cleanup and pickup
	ContentSet           = "XLNw"
	ExtractedSet         = "EDRO/PreAFIL>Kon"
	PostdropEnvelopeSet  = "MFSRVAin" // what postdrop takes from a user
	PostdropContentSet   = "XLN"
	PostdropExtractedSet = "EAR"
	EnvelopeRcptSet      = "MDRO/Kon" // a run of nothing but recipients
	ExtractedRcptSet     = "EDRO/Kon"
)

// In reports whether t is a member of a set of types.
func (t Type) In(set string) bool {
	for i := 0; i < len(set); i++ {
		if set[i] == byte(t) {
			return true
		}
	}
	return false
}

// String is the name that postcat prints. 'L' is content_filter, although in
// content it means unterminated text.
func (t Type) String() string {
	for _, n := range names {
		if n.t == t {
			return n.name
		}
	}
	return unknownTypeName
}

var names = [...]struct {
	t    Type
	name string
}{
	{TypeSize, "message_size"},
	{TypeTime, "message_arrival_time"},
	{TypeCreateTime, "queue_file_create_time"},
	{TypeFullName, "sender_fullname"},
	{TypeInspector, "content_inspector"},
	{TypeFilter, "content_filter"},
	{TypeFrom, "sender"},
	{TypeDone, "done_recipient"},
	{TypeRcpt, "recipient"},
	{TypeOrigRcpt, "original_recipient"},
	{TypeCanceled, "canceled_recipient"},
	{TypeWarn, "warning_message_time"},
	{TypeAttr, "named_attribute"},
	{TypeKilled, "killed_record"},
	{TypeRedirect, "redirect_to"},
	{TypeVERP, "verp_delimiters"},
	{TypeMessage, "message_content"},
	{TypeNormal, "regular_text"},
	{TypePadding, "padding"},
	{TypeExtracted, "extracted_info"},
	{TypeReturnRcpt, "return_receipt"},
	{TypeErrorsTo, "errors_to"},
	{TypePriority, "priority"},
	{TypePointer, "pointer_record"},
	{TypeDSNRet, "dsn_return_flags"},
	{TypeDSNEnvID, "dsn_envelope_id"},
	{TypeDSNOrigRcpt, "dsn_original_recipient"},
	{TypeDSNNotify, "dsn_notify_flags"},
	{TypeFlags, "flags"},
	{TypeEnd, "message_end"},
}

// ErrMalformed is matched by every *Error.
var ErrMalformed = errors.New("malformed record")

// Error is damage in a stream of records. Text is what Postfix logs.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// Is makes every *Error match ErrMalformed.
func (e *Error) Is(target error) bool { return target == ErrMalformed }

// Append appends the code of one record to dst.
func Append(dst []byte, t Type, data []byte) []byte {
	dst = binary.AppendUvarint(append(dst, byte(t)), uint64(len(data)))
	return append(dst, data...)
}

// Size is the number of bytes that a record with n bytes of data takes.
func Size(n int) int {
	size := 2 + n
	for n >>= 7; n > 0; n >>= 7 {
		size++
	}
	return size
}

// PutAt overwrites the bytes at offset with one record. Nothing checks that
// it has the length of what stood there.
func PutAt(w io.WriterAt, offset int64, t Type, data string) error {
	_, err := w.WriteAt(Append(nil, t, []byte(data)), offset)
	return err
}
