package smtp

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	"posthaste/pkg/message/address"
	"posthaste/pkg/message/header"
	"posthaste/pkg/message/mime"
	"posthaste/pkg/spool/record"
)

// errAbandoned means that the content cannot be sent; the recipients have been
// told.
var errAbandoned = errors.New("content abandoned")

// chunk is how much content is collected for one write.
const chunk = 16 * 1024

var chunks = sync.Pool{New: func() any { b := make([]byte, 0, chunk+4096); return &b }}

// writer puts content on the wire: dots stuffed, long lines broken
// (delivery.md §2.7).
type writer struct {
	x        *transfer
	buf      []byte
	limit    int // smtp_line_length_limit, 0 = none
	col      int // bytes in the current output line
	midLine  bool
	err      error
	deadline time.Time // with per-request deadlines
}

// text writes a line, or a piece of one that the next call goes on with.
func (w *writer) text(full bool, data []byte) {
	if !w.midLine && len(data) > 0 && data[0] == '.' {
		w.buf = append(w.buf, '.')
	}
	for w.limit > 0 && w.col+len(data) > w.limit {
		w.logBroken()
		n := w.limit - w.col
		w.add(data[:n])
		w.buf = append(w.buf, "\r\n "...)
		w.col = 1
		data = data[n:]
	}
	w.add(data)
	w.col += len(data)
	w.midLine = !full
	if full {
		w.buf = append(w.buf, "\r\n"...)
		w.col = 0
		if len(w.buf) >= chunk {
			w.flush()
		}
	}
}

func (w *writer) add(data []byte) {
	for len(data) > chunk {
		w.buf = append(w.buf, data[:chunk]...)
		w.flush()
		data = data[chunk:]
	}
	w.buf = append(w.buf, data...)
	if len(w.buf) >= chunk {
		w.flush()
	}
}

func (w *writer) logBroken() {
	if r := w.x.r; !r.lineBroken {
		r.lineBroken = true
		r.d.log.Info("%s: breaking line > %d bytes with <CR><LF>SPACE", r.j.ID, w.limit)
	}
}

// flush sends what was collected.
func (w *writer) flush() {
	if w.err == nil && len(w.buf) > 0 {
		conn := w.x.s.conn
		if !w.deadline.IsZero() {
			conn.Timeout = max(time.Until(w.deadline), time.Millisecond)
			conn.StartRequest()
		}
		if _, w.err = conn.Write(w.buf); w.err == nil && !w.deadline.IsZero() {
			w.deadline = w.deadline.Add(time.Duration(len(w.buf)) * time.Second / time.Duration(w.x.r.d.minRate))
			if limit := time.Now().Add(w.x.r.d.dataXferTimeout); w.deadline.After(limit) {
				w.deadline = limit
			}
		}
	}
	w.buf = w.buf[:0]
}

// sendContent streams the message from the queue file.
func (x *transfer) sendContent() error {
	buf := chunks.Get().(*[]byte)
	defer chunks.Put(buf)
	w := &writer{x: x, buf: (*buf)[:0], limit: x.r.d.lineLimit}
	x.s.conn.Timeout = x.r.d.dataXferTimeout
	if x.r.d.perRequest {
		w.deadline = time.Now().Add(x.r.d.dataXferTimeout)
	}
	if err := x.prepend(w); err != nil {
		return err
	}
	if x.s.delayDot {
		defer time.Sleep(x.r.d.pixDelay)
		defer x.s.conn.Flush()
	}
	var err error
	if x.needsMIME() {
		err = x.mimeContent(w)
	} else {
		err = x.records(w, w.text)
	}
	if err != nil {
		return err
	}
	if w.midLine {
		w.text(true, nil)
	}
	w.flush()
	return w.err
}

// records hands each text record of the message to put.
func (x *transfer) records(w *writer, put func(full bool, data []byte)) error {
	in, err := x.r.j.Content()
	for err == nil {
		var t record.Type
		var data []byte
		t, data, err = in.Next()
		switch {
		case err != nil:
		case t == record.TypeNormal || t == record.TypeContinued:
			put(t == record.TypeNormal, data)
			if w.err != nil {
				return w.err
			}
		case t == record.TypeExtracted:
			return nil
		default:
			return x.unreadable(int(t))
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, record.ErrMalformed) {
		return x.unreadable(-1)
	}
	x.r.d.log.Warn("%s: read: %v", x.r.j.Path(), err)
	x.r.sessionFailed(x.s, x.s.dataError(), false)
	return errAbandoned
}

func (x *transfer) unreadable(t int) error {
	x.r.d.log.Warn("%s: bad record type: %d in message content", x.r.j.ID, t)
	x.each(func(rc *rcpt) { x.r.recipientFailed(x.s, rc, local("5.3.0", "unreadable mail queue entry")) })
	x.r.j.Corrupt()
	return errAbandoned
}

// prepend writes the headers that flags= asks for.
func (x *transfer) prepend(w *writer) error {
	f := x.r.d.flags
	line := func(name, addr string) {
		w.text(true, []byte(name+address.Quote(addr)))
	}
	if f.returnPath {
		w.text(true, []byte("Return-Path: <"+address.Quote(x.r.sender)+">"))
	}
	if f.origTo {
		orig := x.rcpts[0].Original
		if orig != "" && !x.r.d.tables.generic.Empty() {
			var err error
			if orig, err = x.r.generic(orig); err != nil {
				x.r.sessionFailed(x.s, x.s.dataError(), true)
				return errAbandoned
			}
		}
		line("X-Original-To: ", orig)
	}
	if f.deliveredTo {
		line("Delivered-To: ", x.rcpts[0].mapped)
	}
	return nil
}

func (x *transfer) needsMIME() bool {
	t := &x.r.d.tables
	return x.downgrade || !t.generic.Empty() || !t.headerChecks.Empty() || !t.mimeChecks.Empty() || !t.nestedChecks.Empty() || !t.bodyChecks.Empty()
}

// editor receives the parsed message.
type editor struct {
	x    *transfer
	w    *writer
	fail bool // a table failed
}

func (x *transfer) mimeContent(w *writer) error {
	e := &editor{x: x, w: w}
	lim := x.r.d.mime
	o := mime.Options{Parse: true, HeaderSizeLimit: lim.header, BoundaryLimit: lim.boundary, NestingLimit: lim.nesting, Downgrade: x.downgrade}
	if x.downgrade {
		o.Report = mime.Nesting
	}
	m := mime.New(e, o)
	err := x.records(w, func(full bool, data []byte) {
		m.Record(full, data)
		if e.fail || m.Found() != 0 {
			if w.err == nil {
				w.err = errAbandoned
			}
		}
	})
	if err == nil {
		m.End()
		err = w.err
	}
	switch {
	case e.fail:
		x.r.sessionFailed(x.s, x.s.dataError(), true)
		return errAbandoned
	case m.Found() != 0:
		x.r.sessionFailed(x.s, local(mime.ProblemStatus, m.Found().Text()), false)
		return errAbandoned
	}
	return err
}

// Header writes a header after the checks and the generic maps.
func (e *editor) Header(class mime.Class, known *header.Known, text []byte, nameLen int) {
	if m := e.checksFor(class, known); !m.Empty() {
		var keep bool
		if text, keep = e.check("header", text, m); !keep {
			return
		}
		h, ok := header.Parse(text)
		if !ok {
			e.lines(text)
			return
		}
		known, nameLen = h.Known, len(h.Name)
	}
	if class == mime.Primary && known != nil && known.Flags&(header.Sender|header.Recipient) != 0 && !e.x.r.d.tables.generic.Empty() {
		text = e.rewrite(text, nameLen)
	}
	e.lines(text)
}

// lines writes the physical lines of a header.
func (e *editor) lines(text []byte) {
	for {
		line, rest, more := bytes.Cut(text, []byte{'\n'})
		e.w.text(true, line)
		if !more {
			return
		}
		text = rest
	}
}

// HeaderEnd does nothing: the empty line is part of the body.
func (e *editor) HeaderEnd() {}

// Body writes a line of the body after the checks.
func (e *editor) Body(full bool, data []byte, _ int64) {
	if m := e.x.r.d.tables.bodyChecks; !m.Empty() && len(data) > 0 {
		var keep bool
		if data, keep = e.check("body", data, m); !keep {
			return
		}
	}
	e.w.text(full, data)
}

// Problem is looked at through Machine.Found.
func (e *editor) Problem(mime.Problem, []byte) {}

// deliveredBefore reports whether the message has a Delivered-To header for
// the recipient (delivery.md §1.6).
func (r *request) deliveredBefore(addr string) (bool, error) {
	const most = 1000
	want := foldAddress(address.Quote(addr))
	in, err := r.j.Content()
	if err != nil {
		return false, err
	}
	cont := false
	for seen := 0; seen < most; {
		t, data, err := in.Next()
		if err != nil || t != record.TypeNormal && t != record.TypeContinued {
			return false, nil
		}
		wasCont := cont
		cont = t == record.TypeContinued
		if wasCont || len(data) > 0 && (data[0] == ' ' || data[0] == '\t') {
			continue
		}
		n, colon := header.NameLen(data)
		if n == 0 {
			return false, nil
		}
		if !bytes.EqualFold(data[:n], []byte("Delivered-To")) {
			continue
		}
		seen++
		if foldAddress(string(bytes.TrimLeft(data[colon+1:], " \t"))) == want {
			return true, nil
		}
	}
	return false, nil
}
