// Package mime is a streaming MIME machine. It is fed the lines of a message as
// they are stored in a queue file and tells its Handler about complete logical
// headers and body lines (routing.md §1.8). On request it converts 8-bit parts
// to quoted-printable (for an SMTP server without 8BITMIME).
//
// It holds one header at a time and the boundary strings of the open multiparts,
// both bounded by its Options, and never fails: what is wrong with a message is
// told to the Handler as a Problem.
package mime

import (
	"posthaste/pkg/message/header"
)

// Class says to which kind of block a header belongs.
type Class uint8

// The header classes.
const (
	Primary   Class = iota + 1 // the message's own headers
	Multipart                  // after a boundary
	Nested                     // of an attached message
)

// Problem is one thing wrong with a message's structure.
type Problem uint8

// The problems, in order of severity (routing.md §1.8).
const (
	Nesting         Problem = 1 << iota // more nested multiparts than NestingLimit
	LongHeader                          // header text beyond HeaderSizeLimit was lost
	EightBitHeader                      // 8-bit data in a header
	EightBitBody                        // 8-bit data in a 7-bit part
	EncodingDomain                      // message/* or multipart/* in a forbidden encoding
	allProblems     = Nesting | LongHeader | EightBitHeader | EightBitBody | EncodingDomain
	NumberOfProblem = 5
)

var problemTexts = [NumberOfProblem]string{
	"MIME nesting exceeds safety limit",
	"message header length exceeds safety limit",
	"improper use of 8-bit data in message header",
	"improper use of 8-bit data in message body",
	"invalid message/* or multipart/* encoding domain",
}

// ProblemStatus is the enhanced status code that goes with every Problem.
const ProblemStatus = "5.6.0"

// Text returns the words for the most severe problem in p, "" for none.
func (p Problem) Text() string {
	for i, text := range problemTexts {
		if p&(1<<i) != 0 {
			return text
		}
	}
	return ""
}

// Handler is told what the machine finds. The slices are valid during the call.
type Handler interface {
	// Header is called with one logical header: name and colon with nothing
	// in between, physical lines joined by \n. nameLen is the length of the
	// name; known is nil if the header is not in the table of package header.
	Header(class Class, known *header.Known, text []byte, nameLen int)
	// HeaderEnd is called once, after the primary headers.
	HeaderEnd()
	// Body is called with one body record: full says that it ends a line.
	// offset is its distance from the start of the current body section.
	Body(full bool, data []byte, offset int64)
	// Problem is called once for each kind named in Options.Report.
	Problem(p Problem, text []byte)
}

// Options bound and direct a Machine.
type Options struct {
	Parse           bool // look at Content-* headers; else all after the headers is body
	HeaderSizeLimit int  // bytes of one logical header; the last record may overshoot
	BoundaryLimit   int  // bytes of a boundary string that count
	NestingLimit    int  // mime_nesting_limit
	Report          Problem
	Downgrade       bool // convert 8-bit parts to quoted-printable
}

type ctype uint8

const (
	typeOther ctype = iota
	typeText
	typeMessage
	typeMultipart
)

type subtype uint8

const (
	subOther subtype = iota
	subPlain
	subRFC822
	subPartial
	subExternal
	subGlobal
	subDigest
)

type domain uint8

const (
	domain7bit domain = iota
	domain8bit
	domainBinary
)

// level is one open multipart.
type level struct {
	boundary string
	deflt    subtype // default subtype of its parts: subPlain or subRFC822
	deftype  ctype
}

type state uint8

const (
	inPrimary state = iota
	inMultipart
	inNested
	inBody
)

// Machine is the state of one message.
type Machine struct {
	h     Handler
	opt   Options
	state state
	full  bool // the record before ended a line
	found Problem

	head    []byte // the logical header being collected
	nameLen int
	known   *header.Known
	lost    bool // no more is appended to head

	ctype    ctype
	subtype  subtype
	domain   domain
	encoding encoding
	stack    []level
	offset   int64
	qp       qpEncoder
	scratch  []byte
}

// New returns a Machine for one message.
func New(h Handler, o Options) *Machine {
	m := &Machine{h: h, opt: o, head: make([]byte, 0, 512)}
	m.Reset()
	return m
}

// Reset prepares m for another message with the same handler and options.
func (m *Machine) Reset() {
	m.state, m.full, m.found, m.head, m.stack, m.offset = inPrimary, true, 0, m.head[:0], m.stack[:0], 0
	m.lost = false
	m.setType(typeText, subPlain)
}

func (m *Machine) setType(t ctype, s subtype) {
	m.ctype, m.subtype, m.domain, m.encoding = t, s, domain7bit, encodings[0]
}

// Found returns the problems seen so far, of the kinds in Options.Report.
func (m *Machine) Found() Problem { return m.found }

// Record takes one text record; full says that it ends a line (type N, not L).
func (m *Machine) Record(full bool, data []byte) {
	if m.state == inBody {
		m.body(full, data)
	} else {
		m.header(full, data)
	}
	m.full = full
}

// End tells the machine that the content is complete.
func (m *Machine) End() {
	if m.state == inBody {
		if !m.full {
			m.bodyOut(true, nil)
		}
	} else {
		m.flushHeader()
		m.endHeaders(false)
		m.state = inBody
	}
	if m.opt.Downgrade {
		m.qp.end(m)
	}
}

// header handles a record while a header block is open.
func (m *Machine) header(full bool, data []byte) {
	raw := data
	data = cutNUL(data)
	if len(m.head) > 0 {
		switch {
		case !m.full:
			m.appendHead(data, false)
			return
		case len(data) > 0 && (data[0] == ' ' || data[0] == '\t'):
			m.appendHead(data, true)
			return
		}
		m.flushHeader()
	}
	if n, colon := header.NameLen(data); n > 0 {
		m.nameLen = n
		m.known = header.Lookup(data[:n])
		m.head = append(append(m.head[:0], data[:n]...), data[colon:]...)
		m.lost = false
		return
	}
	m.endHeaders(len(raw) > 0)
	switch {
	case len(raw) == 0:
		m.bodyOut(full, raw)
	case m.state == inBody:
		m.body(full, raw)
	default:
		m.header(full, raw)
	}
}

func cutNUL(data []byte) []byte {
	for i, c := range data {
		if c == 0 {
			return data[:i]
		}
	}
	return data
}

func (m *Machine) appendHead(data []byte, newline bool) {
	if m.lost || len(m.head) >= m.opt.HeaderSizeLimit {
		if !m.lost {
			m.lost = true
			m.problem(LongHeader, m.head)
		}
		return
	}
	if newline {
		m.head = append(m.head, '\n')
	}
	m.head = append(m.head, data...)
}

// flushHeader hands the collected header on.
func (m *Machine) flushHeader() {
	if len(m.head) == 0 {
		return
	}
	if m.opt.Parse {
		m.parseContent()
	}
	if m.opt.Report&EightBitHeader != 0 && has8bit(m.head) {
		m.problem(EightBitHeader, m.head)
	}
	if !(m.opt.Downgrade && m.known != nil && m.known.ID == header.ContentTransferEncoding) {
		m.h.Header(m.class(), m.known, m.head, m.nameLen)
	}
	m.head = m.head[:0]
}

func (m *Machine) class() Class {
	switch m.state {
	case inMultipart:
		return Multipart
	case inNested:
		return Nested
	}
	return Primary
}

func has8bit(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

func (m *Machine) problem(p Problem, text []byte) {
	if m.opt.Report&p == 0 || m.found&p != 0 {
		return
	}
	m.found |= p
	m.h.Problem(p, text)
}

// endHeaders closes a header block and decides what follows. insert says that
// no empty line came.
func (m *Machine) endHeaders(insert bool) {
	primary := m.state == inPrimary
	if m.opt.Downgrade {
		m.writeEncoding()
	}
	if primary {
		m.h.HeaderEnd()
	}
	m.offset = 0
	m.state = inBody
	if primary && insert {
		m.bodyOut(true, nil)
	}
	if !m.opt.Parse {
		return
	}
	switch m.ctype {
	case typeMessage:
		m.checkDomain()
		if m.subtype == subRFC822 || m.subtype == subGlobal {
			m.state = inNested
			m.setType(typeText, subPlain)
		}
	case typeMultipart:
		m.checkDomain()
	}
}

func (m *Machine) checkDomain() {
	e := m.encoding
	bad := false
	switch {
	case m.ctype == typeMultipart || m.subtype == subRFC822:
		bad = e.name != e.domainName()
	case m.subtype == subPartial || m.subtype == subExternal:
		bad = e.domain != domain7bit
	}
	if bad {
		m.problem(EncodingDomain, []byte(e.name))
	}
}

// body handles a record of a body section: it may be a boundary.
func (m *Machine) body(full bool, data []byte) {
	if len(m.stack) > 0 && m.full && len(data) > 2 && data[0] == '-' && data[1] == '-' {
		if i, closing := m.boundary(data[2:]); i >= 0 {
			m.bodyBoundary(full, data, i, closing)
			return
		}
	}
	m.bodyOut(full, data)
}

func (m *Machine) boundary(data []byte) (i int, closing bool) {
	for i := len(m.stack) - 1; i >= 0; i-- {
		b := m.stack[i].boundary
		if len(data) >= len(b) && string(data[:len(b)]) == b {
			rest := data[len(b):]
			return i, len(rest) >= 2 && rest[0] == '-' && rest[1] == '-'
		}
	}
	return -1, false
}

func (m *Machine) bodyBoundary(full bool, data []byte, i int, closing bool) {
	if m.opt.Downgrade {
		m.qp.end(m)
	}
	if closing {
		m.stack = m.stack[:i]
		m.setType(typeOther, subOther)
		m.offset = 0 // the epilogue's section starts with this line
	} else {
		m.stack = m.stack[:i+1]
		m.setType(m.stack[i].deftype, m.stack[i].deflt)
		m.state = inMultipart
	}
	m.plainOut(full, data)
}

// bodyOut hands on a record that is no boundary.
func (m *Machine) bodyOut(full bool, data []byte) {
	if m.opt.Report&EightBitBody != 0 && m.found&EightBitBody == 0 &&
		m.encoding.name == encodings[0].name && has8bit(data) {
		m.problem(EightBitBody, data)
	}
	if m.opt.Downgrade && m.encoding.domain != domain7bit && m.ctype != typeMultipart && m.ctype != typeMessage {
		m.qp.record(m, full, data)
		return
	}
	m.plainOut(full, data)
}

func (m *Machine) plainOut(full bool, data []byte) {
	m.h.Body(full, data, m.offset)
	m.offset += int64(len(data)) + 1
}
