// Package header knows message headers line by line: what starts one, which
// ones the mail system treats specially (routing.md §1.10), how a generated one
// is folded and how dates are written.
//
// It works on single logical headers; package mime finds them in a message.
package header

import (
	"bytes"
	"strings"
	"time"
)

// Flags are the properties of a known header.
type Flags uint16

// Properties (routing.md §1.10).
const (
	Sender    Flags = 1 << iota // holds sender addresses
	Recipient                   // holds recipient addresses
	Extract                     // sendmail -t takes recipients from it
	Resent                      // switches the message into Resent- mode
	MIME                        // belongs to the part, checked with mime_header_checks
)

// ID names a known header; Other is any header not in the table.
type ID uint8

// The known headers.
const (
	Other ID = iota
	ApparentlyTo
	Bcc
	Cc
	ContentDescription
	ContentDisposition
	ContentID
	ContentLength
	ContentTransferEncoding
	ContentType
	Date
	DeliveredTo
	DispositionNotificationTo
	ErrorsTo
	From
	MessageID
	MailFollowupTo
	MIMEVersion
	Received
	ReplyTo
	ResentBcc
	ResentCc
	ResentDate
	ResentFrom
	ResentMessageID
	ResentReplyTo
	ResentSender
	ResentTo
	ReturnPath
	ReturnReceiptTo
	SenderHeader
	To
	numIDs
)

// NumIDs bounds the values of ID, for tables indexed by it.
const NumIDs = int(numIDs)

// Known describes a header the mail system treats specially.
type Known struct {
	ID    ID
	Name  string // as generated
	Flags Flags
}

var table = [...]Known{
	{ApparentlyTo, "Apparently-To", Recipient},
	{Bcc, "Bcc", Recipient | Extract},
	{Cc, "Cc", Recipient | Extract},
	{ContentDescription, "Content-Description", MIME},
	{ContentDisposition, "Content-Disposition", MIME},
	{ContentID, "Content-ID", MIME},
	{ContentLength, "Content-Length", 0},
	{ContentTransferEncoding, "Content-Transfer-Encoding", MIME},
	{ContentType, "Content-Type", MIME},
	{Date, "Date", 0},
	{DeliveredTo, "Delivered-To", 0},
	{DispositionNotificationTo, "Disposition-Notification-To", Sender},
	{ErrorsTo, "Errors-To", Sender},
	{From, "From", Sender},
	{MessageID, "Message-Id", 0},
	{MailFollowupTo, "Mail-Followup-To", Sender},
	{MIMEVersion, "MIME-Version", MIME},
	{Received, "Received", 0},
	{ReplyTo, "Reply-To", Sender},
	{ResentBcc, "Resent-Bcc", Recipient | Extract | Resent},
	{ResentCc, "Resent-Cc", Recipient | Extract | Resent},
	{ResentDate, "Resent-Date", Resent},
	{ResentFrom, "Resent-From", Sender | Resent},
	{ResentMessageID, "Resent-Message-Id", Resent},
	{ResentReplyTo, "Resent-Reply-To", Recipient | Resent},
	{ResentSender, "Resent-Sender", Sender | Resent},
	{ResentTo, "Resent-To", Recipient | Extract | Resent},
	{ReturnPath, "Return-Path", Sender},
	{ReturnReceiptTo, "Return-Receipt-To", Sender},
	{SenderHeader, "Sender", Sender},
	{To, "To", Recipient | Extract},
}

// Lookup finds a known header by its name, in any case; nil if it is not known.
func Lookup(name []byte) *Known {
	for i := range table {
		if k := &table[i]; len(k.Name) == len(name) && k.Name[0]|0x20 == name[0]|0x20 && equalFold(k.Name, name) {
			return k
		}
	}
	return nil
}

// LookupName is Lookup for a string.
func LookupName(name string) *Known { return Lookup([]byte(name)) }

func equalFold(a string, b []byte) bool {
	for i := range b {
		x, y := a[i], b[i]
		if x != y && (lower(x) != lower(y)) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// NameLen returns the length of the header name that line starts with and the
// offset of its colon, or zeros if the line does not start a header: one or
// more bytes 33..126 except the colon, blanks, a colon.
func NameLen(line []byte) (name, colon int) {
	for name < len(line) && line[name] > ' ' && line[name] < 0x7f && line[name] != ':' {
		name++
	}
	if name == 0 {
		return 0, 0
	}
	for colon = name; colon < len(line) && (line[colon] == ' ' || line[colon] == '\t'); {
		colon++
	}
	if colon == len(line) || line[colon] != ':' {
		return 0, 0
	}
	return name, colon
}

// IsHeader reports whether text looks like "name: value" (with or without the
// value), as generated header texts from the configuration must.
func IsHeader(text string) bool {
	n, _ := NameLen([]byte(text))
	return n > 0
}

// Header is one logical header, its physical lines joined by \n.
type Header struct {
	Name  []byte
	Value []byte // after the colon, leading blanks skipped
	Known *Known // nil if it is no known one
}

// Parse splits a logical header; ok is false if it is none.
func Parse(text []byte) (h Header, ok bool) {
	n, colon := NameLen(text)
	if n == 0 {
		return Header{}, false
	}
	return Header{text[:n], bytes.TrimLeft(text[colon+1:], " \t"), Lookup(text[:n])}, true
}

// FoldMark is the byte that AppendFolded takes as a place to break.
const FoldMark = '\n'

// foldColumn is the length a folded line stays under (routing.md §1.10).
const foldColumn = 70

// AppendFolded joins pieces of text that are separated by FoldMark: with a
// space as long as the line stays below 70 bytes, else with a line break and a
// tab. The tab of a continuation line is not counted.
func AppendFolded(b, text []byte) []byte {
	column := -1
	for more := true; more; {
		var piece []byte
		piece, text, more = bytes.Cut(text, []byte{FoldMark})
		switch {
		case column < 0:
			column = len(piece)
		case column+1+len(piece) < foldColumn:
			b = append(b, ' ')
			column += 1 + len(piece)
		default:
			b = append(b, '\n', '\t')
			column = len(piece)
		}
		b = append(b, piece...)
	}
	return b
}

// MailDate formats a time as in Date: and Received: headers:
// "Sun, 22 Nov 2026 06:28:13 +0000 (UTC)"; the day is blank-padded.
func MailDate(t time.Time) string { return t.Format("Mon, _2 Jan 2006 15:04:05 -0700 (MST)") }

// DropSet is the parsed form of message_drop_headers: header names in any case.
type DropSet map[string]bool

// NewDropSet makes a DropSet of names; a trailing colon is ignored.
func NewDropSet(names []string) DropSet {
	set := make(DropSet, len(names))
	for _, n := range names {
		set[strings.ToLower(strings.TrimSuffix(n, ":"))] = true
	}
	return set
}

// Has reports whether a header of that name is to be dropped.
func (s DropSet) Has(name []byte) bool {
	var buf [64]byte
	if len(s) == 0 || len(name) > len(buf) {
		return len(s) > 0 && s[strings.ToLower(string(name))]
	}
	for i, c := range name {
		buf[i] = lower(c)
	}
	return s[string(buf[:len(name)])]
}
