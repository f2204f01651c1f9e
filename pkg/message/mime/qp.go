package mime

import "posthaste/pkg/message/header"

// writeEncoding emits the Content-Transfer-Encoding of a block that is about to
// end: what the part is converted to if it was 8-bit, else what it was.
func (m *Machine) writeEncoding() {
	e := m.encoding
	if e.domain != domain7bit {
		e = encodings[4]
		if m.ctype == typeMultipart || m.ctype == typeMessage {
			e = encodings[0]
		}
	} else if e.name == encodings[0].name {
		return
	}
	const name = "Content-Transfer-Encoding"
	m.scratch = append(append(m.scratch[:0], name+": "...), e.name...)
	m.h.Header(m.class(), header.LookupName(name), m.scratch, len(name))
}

// qpLine is the length of a quoted-printable line before its soft break
// (RFC 2045 §6.7: 76 with the =).
const qpLine = 72

// qpEncoder collects one output line.
type qpEncoder struct{ line []byte }

func (q *qpEncoder) record(m *Machine, full bool, data []byte) {
	for i, c := range data {
		if len(q.line) > qpLine {
			q.line = append(q.line, '=')
			q.flush(m)
		}
		last := full && i == len(data)-1
		switch {
		case c == '=' || c > '~' || c < ' ' && c != '\t', last && (c == ' ' || c == '\t'):
			const hex = "0123456789ABCDEF"
			q.line = append(q.line, '=', hex[c>>4], hex[c&15])
		default:
			q.line = append(q.line, c)
		}
	}
	if full {
		q.flush(m)
	}
}

func (q *qpEncoder) flush(m *Machine) {
	m.plainOut(true, q.line)
	q.line = q.line[:0]
}

// end writes what an unterminated last line left, with a soft line break.
func (q *qpEncoder) end(m *Machine) {
	if len(q.line) > 0 {
		q.line = append(q.line, '=')
		q.flush(m)
	}
}
