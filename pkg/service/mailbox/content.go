package mailbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"posthaste/pkg/message/address"
	"posthaste/pkg/message/header"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/table"
)

// Format is what a kind of destination wants around the content (delivery.md
// §1.5). Addresses are in internal form.
type Format struct {
	Sender     string // for From and ReturnPath; empty is the null sender
	OriginalTo string // X-Original-To:; empty is none
	Delivered  string // Delivered-To:; empty is none

	From       bool   // From_ line
	ReturnPath bool   // Return-Path:
	Escape     bool   // > before a line that begins with "From "
	Dots       bool   // . before a line that begins with a dot
	Blank      bool   // empty line at the end
	EOL        string // end of each line
}

// Copy writes the message to w. The error is ErrCorrupt (the log has been told
// why), or a *StatusError that says what could not be read or written.
func Copy(w io.Writer, j *agent.Job, f Format) error {
	out := bufio.NewWriterSize(w, 32<<10)
	f.writeHead(out)
	if err := f.writeContent(out, j); err != nil {
		return err
	}
	if f.Blank {
		out.WriteString(f.EOL)
	}
	if err := out.Flush(); err != nil {
		return WriteFailed(err)
	}
	return nil
}

func (f *Format) writeHead(out *bufio.Writer) {
	sender := ""
	if f.Sender != "" { // the quoted form of nothing is ""
		sender = address.Quote(f.Sender)
	}
	if f.From {
		name := sender
		if name == "" {
			name = "MAILER-DAEMON"
		}
		fmt.Fprintf(out, "From %s  %s%s", name, time.Now().Format("Mon Jan _2 15:04:05 2006"), f.EOL)
	}
	if f.ReturnPath {
		fmt.Fprintf(out, "Return-Path: <%s>%s", sender, f.EOL)
	}
	if f.OriginalTo != "" {
		fmt.Fprintf(out, "X-Original-To: %s%s", address.Quote(f.OriginalTo), f.EOL)
	}
	if f.Delivered != "" {
		fmt.Fprintf(out, "Delivered-To: %s%s", address.Quote(f.Delivered), f.EOL)
	}
}

func (f *Format) writeContent(out *bufio.Writer, j *agent.Job) error {
	r, err := j.Content()
	if err != nil {
		return ReadFailed(err)
	}
	atStart := true
	for {
		kind, data, err := NextRecord(j, r)
		if err != nil {
			return err
		}
		if kind == record.TypeExtracted {
			if !atStart {
				out.WriteString(f.EOL)
			}
			return nil
		}
		if atStart && len(data) > 0 {
			switch {
			case f.Escape && strings.HasPrefix(string(data), "From "):
				out.WriteByte('>')
			case f.Dots && data[0] == '.':
				out.WriteByte('.')
			}
		}
		out.Write(data)
		if atStart = kind == record.TypeNormal; atStart {
			out.WriteString(f.EOL)
		}
		// A write error sticks; it is looked at here so that a full disk
		// does not cost reading the rest of the message.
		if _, err := out.Write(nil); err != nil {
			return WriteFailed(err)
		}
	}
}

// NextRecord reads the next record of a message's content: N, L, or X at its
// end. The error is ErrCorrupt (the log has been told why) or a *StatusError.
func NextRecord(j *agent.Job, r *record.Reader) (record.Type, []byte, error) {
	kind, data, err := r.Next()
	if err != nil {
		failed := ReadFailed(err)
		if failed == ErrCorrupt {
			j.Log.Warn("%v", err)
		}
		return 0, nil, failed
	}
	if kind != record.TypeNormal && kind != record.TypeContinued && kind != record.TypeExtracted {
		j.Log.Warn("bad record type: %d in message content", kind)
		return 0, nil, ErrCorrupt
	}
	return kind, data, nil
}

// ReadFailed is the error for a message that could not be read: ErrCorrupt for
// what is damaged, else a *StatusError.
func ReadFailed(err error) error {
	if errors.Is(err, record.ErrMalformed) || err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrCorrupt
	}
	code := "5.3.0"
	if fileCode(err, code)[0] == '4' {
		code = "4.3.0"
	}
	return copyFailed("reading", code, err)
}

// Loops are the Delivered-To: values of a message (delivery.md §1.6).
type Loops struct {
	values map[string]bool
	utf8   bool
}

// FindLoops collects them; utf8 is smtputf8_enable. Damage is no error here: it
// is found by whoever copies the content.
func FindLoops(j *agent.Job, utf8 bool) (Loops, error) {
	const maxValues = 1000
	l := Loops{make(map[string]bool), utf8}
	r, err := j.Content()
	if err != nil {
		return l, err
	}
	continued := false
	for len(l.values) < maxValues {
		kind, data, err := r.Next()
		if err != nil || kind != record.TypeNormal && kind != record.TypeContinued {
			break
		}
		skip := continued
		continued = kind == record.TypeContinued
		if skip || len(data) > 0 && strings.IndexByte(" \t\r\v\f", data[0]) >= 0 {
			continue
		}
		name, colon := header.NameLen(data)
		if name == 0 {
			break
		}
		if strings.EqualFold(string(data[:name]), "delivered-to") {
			l.values[table.Fold(strings.TrimLeft(string(data[colon+1:]), " \t\r\v\f"), utf8)] = true
		}
	}
	return l, nil
}

// Has tells whether the message was delivered to a recipient (internal form)
// before.
func (l Loops) Has(recipient string) bool {
	return l.values[table.Fold(address.Quote(recipient), l.utf8)]
}
