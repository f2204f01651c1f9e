package bounce

import (
	"bytes"
	"strings"

	"posthaste/pkg/message/header"
	"posthaste/pkg/spool/record"
)

// message is the part with the original, and the end of the letter.
func (w *writer) message() {
	headersOnly := !w.letter.full || w.orig.readable() && w.d.sizeLimit > 0 && (w.orig.size <= 0 || w.orig.size > w.d.sizeLimit)
	description, contentType := "Message", "message/rfc822"
	if w.utf8 {
		contentType = "message/global"
	}
	if w.template.class == "failure" || w.template.class == "delay" {
		description = "Undelivered Message"
	}
	if headersOnly {
		description += " Headers"
		contentType = "text/rfc822-headers"
		if w.utf8 {
			contentType = "message/global-headers"
		}
	}
	w.part(description, contentType, true)
	w.line("")
	if !w.orig.readable() {
		w.line("\t--- Undelivered message unavailable ---")
		return
	}
	w.line("Return-Path: <%s>", w.senderAddress())
	copyRecord := func(t record.Type, data []byte) bool { w.post.Rec(t, data); return true }
	if headersOnly {
		copyRecord = w.copyHeader()
	}
	if err := w.orig.content(copyRecord); err != nil {
		w.d.log.Warn("%v", err)
	}
	w.line("")
	w.line("--%s--", w.boundary)
}

// copyHeader copies records as long as they are header lines.
func (w *writer) copyHeader() func(t record.Type, data []byte) bool {
	continued := false
	return func(t record.Type, data []byte) bool {
		if !continued && !isHeaderLine(data) {
			return false
		}
		continued = t == record.TypeContinued
		w.post.Rec(t, data)
		return true
	}
}

// isHeaderLine reports whether a line starts or continues a header.
func isHeaderLine(line []byte) bool {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		return true
	}
	name, _ := header.NameLen(line)
	return name > 0
}

// thread makes the letter an answer to the original (enable_threaded_bounces).
func (w *writer) thread() {
	if !w.d.threaded || !w.orig.readable() {
		return
	}
	id, found := w.orig.messageID()
	if !found {
		return
	}
	if !validMessageID(id) {
		w.d.log.Warn("%s: ignoring malformed Message-ID", w.ID)
		return
	}
	w.line("References: %s", id)
	w.line("In-Reply-To: %s", id)
}

// maxMessageID bounds the header looked at; RFC 5322 lines have 998 bytes.
const maxMessageID = 2048

// messageID returns the value of the first Message-ID header, unfolded.
func (o *original) messageID() (id string, found bool) {
	var text []byte
	continued := false
	o.content(func(t record.Type, data []byte) bool {
		start := !continued && (len(data) == 0 || data[0] != ' ' && data[0] != '\t')
		continued = t == record.TypeContinued
		switch {
		case start && (found || !isHeaderLine(data)):
			return false
		case start:
			name, colon := header.NameLen(data)
			if bytes.EqualFold(data[:name], []byte("message-id")) {
				found = true
				text = append(text, data[colon+1:]...)
			}
		case found && len(text) < maxMessageID:
			text = append(text, data...)
		}
		return true
	})
	return strings.Trim(string(text), " \t"), found
}

// validMessageID accepts what looks like <words> and can stand in a header.
func validMessageID(id string) bool {
	return len(id) >= 2 && len(id) <= maxMessageID && id[0] == '<' && id[len(id)-1] == '>' &&
		!strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f })
}
