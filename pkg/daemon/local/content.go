package local

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/message/header"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/table"
)

// errCorrupt is returned for a queue file whose content does not end as it should.
var errCorrupt = errors.New("corrupt queue file")

// statusError is an error that knows its status.
type statusError struct {
	status dsn.Status
	err    error
}

func (e *statusError) Error() string { return e.status.Reason }
func (e *statusError) Unwrap() error { return e.err }

// fileStatus is the status code for a system error with a mailbox-like file
// (delivery.md §1.4).
func fileStatus(err error, other string) string {
	for _, row := range []struct {
		errno syscall.Errno
		code  string
	}{
		{syscall.EAGAIN, "4.2.0"}, {syscall.ESTALE, "4.2.0"}, {syscall.ENOSPC, "4.3.0"},
		{syscall.EDQUOT, "5.2.2"}, {syscall.EFBIG, "5.2.2"},
	} {
		if errors.Is(err, row.errno) {
			return row.code
		}
	}
	return other
}

func copyFailed(what, code string, err error) error {
	return &statusError{dsn.Status{Code: code, Reason: "error " + what + " message: " + text(err),
		DiagType: "x-unix", DiagText: "input/output error"}, err}
}

func writeFailed(err error) error { return copyFailed("writing", fileStatus(err, "5.3.0"), err) }

func readFailed(err error) error {
	if errors.Is(err, record.ErrMalformed) || err == io.EOF || err == io.ErrUnexpectedEOF {
		return errCorrupt
	}
	code := "5.3.0"
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ESTALE) {
		code = "4.3.0"
	}
	return copyFailed("reading", code, err)
}

// style is what a kind of destination wants around the content (delivery.md §1.5).
type style struct {
	from      bool // From_ line
	escape    bool // >From
	blank     bool // empty line at the end
	delivered bool // Delivered-To:
}

// copyTo writes the message to w, which is flushed. Errors are errCorrupt
// (which has been logged) or have a status.
func (t *task) copyTo(w io.Writer, s *state, how style) error {
	out := bufio.NewWriterSize(w, 32<<10)
	sender := ""
	if s.message.Sender != "" {
		sender = address.Quote(s.message.Sender)
	}
	if how.from {
		name := sender
		if name == "" {
			name = "MAILER-DAEMON"
		}
		fmt.Fprintf(out, "From %s  %s\n", name, time.Now().Format("Mon Jan _2 15:04:05 2006"))
	}
	fmt.Fprintf(out, "Return-Path: <%s>\n", sender)
	if s.rcpt.Original != "" && t.keepOriginal {
		fmt.Fprintf(out, "X-Original-To: %s\n", address.Quote(s.rcpt.Original))
	}
	if how.delivered {
		fmt.Fprintf(out, "Delivered-To: %s\n", address.Quote(s.delivered))
	}
	if err := t.copyContent(out, how.escape); err != nil {
		return err
	}
	if how.blank {
		out.WriteByte('\n')
	}
	if err := out.Flush(); err != nil {
		return writeFailed(err)
	}
	return nil
}

func (t *task) copyContent(out *bufio.Writer, escape bool) error {
	r, err := t.job.Content()
	if err != nil {
		return readFailed(err)
	}
	atStart := true
	for {
		kind, data, err := r.Next()
		if err != nil {
			return t.noteCorrupt(readFailed(err), "%v", err)
		}
		if kind != record.TypeNormal && kind != record.TypeContinued {
			if !atStart {
				out.WriteByte('\n')
			}
			if kind != record.TypeExtracted {
				return t.noteCorrupt(errCorrupt, "bad record type: %d in message content", kind)
			}
			return nil
		}
		if atStart && escape && strings.HasPrefix(string(data), "From ") {
			out.WriteByte('>')
		}
		out.Write(data)
		if atStart = kind == record.TypeNormal; atStart {
			out.WriteByte('\n')
		}
		// A write error sticks; it is looked at here so that a full disk
		// does not cost reading the rest of the message.
		if _, err := out.Write(nil); err != nil {
			return writeFailed(err)
		}
	}
}

func (t *task) noteCorrupt(err error, format string, a ...any) error {
	if err == errCorrupt {
		t.job.Log.Warn(format, a...)
	}
	return err
}

// deliveredTo collects the Delivered-To: values of the message (delivery.md §1.6).
func deliveredTo(j *agent.Job, utf8 bool) (map[string]bool, error) {
	const maxValues = 1000
	found := make(map[string]bool)
	r, err := j.Content()
	if err != nil {
		return nil, err
	}
	continued := false
	for len(found) < maxValues {
		kind, data, err := r.Next()
		if err != nil || kind != record.TypeNormal && kind != record.TypeContinued {
			return found, nil // damage is found by whoever copies the content
		}
		skip := continued
		continued = kind == record.TypeContinued
		if skip || len(data) > 0 && strings.IndexByte(" \t\r\v\f", data[0]) >= 0 {
			continue
		}
		name, colon := header.NameLen(data)
		if name == 0 {
			return found, nil
		}
		if strings.EqualFold(string(data[:name]), "delivered-to") {
			found[table.Fold(strings.TrimLeft(string(data[colon+1:]), " \t\r\v\f"), utf8)] = true
		}
	}
	return found, nil
}
