package mime

import (
	"bytes"
	"strings"

	"posthaste/pkg/message/header"
)

// encoding is a Content-Transfer-Encoding and what it means.
type encoding struct {
	name   string
	domain domain
}

// encodings are the known ones; the first is the default. An encoding turns
// 8-bit data into 7-bit lines if its domain is 7bit.
var encodings = [...]encoding{
	{"7bit", domain7bit}, {"8bit", domain8bit}, {"binary", domainBinary},
	{"base64", domain7bit}, {"quoted-printable", domain7bit},
}

func (e encoding) domainName() string {
	return [...]string{domain7bit: "7bit", domain8bit: "8bit", domainBinary: "binary"}[e.domain]
}

// parseContent looks into the MIME header that m.head holds.
func (m *Machine) parseContent() {
	if m.known == nil || m.known.Flags&header.MIME == 0 {
		return
	}
	value := m.head[m.nameLen+1:]
	switch m.known.ID {
	case header.ContentType:
		m.contentType(value)
	case header.ContentTransferEncoding:
		t := tokens{rest: value}
		if word, ok := t.next(); ok && !word.quoted {
			for _, e := range encodings {
				if strings.EqualFold(e.name, word.text) {
					m.encoding = e
					m.domain = e.domain
				}
			}
		}
	}
}

var types = map[string]ctype{"text": typeText, "message": typeMessage, "multipart": typeMultipart}

var subtypes = map[string]subtype{
	"plain": subPlain, "rfc822": subRFC822, "partial": subPartial, "external-body": subExternal, "global": subGlobal, "digest": subDigest,
}

func (m *Machine) contentType(value []byte) {
	t := tokens{rest: value}
	major, _ := t.next()
	m.ctype, m.subtype = typeOther, subOther
	if !major.quoted {
		m.ctype = types[strings.ToLower(major.text)]
	}
	if t.op('/') {
		if minor, _ := t.next(); !minor.quoted {
			m.subtype = subtypes[strings.ToLower(minor.text)]
		}
	}
	if m.ctype != typeMultipart {
		return
	}
	for !t.done() {
		if word, ok := t.next(); !ok || word.text != ";" || word.quoted {
			continue
		}
		name, _ := t.next()
		if !strings.EqualFold(name.text, "boundary") {
			continue
		}
		if eq, _ := t.next(); eq.text != "=" || eq.quoted {
			continue
		}
		if b, ok := t.next(); ok {
			m.push(b.text)
		}
	}
}

func (m *Machine) push(boundary string) {
	if len(m.stack)-1 > m.opt.NestingLimit {
		m.problem(Nesting, m.head)
		return
	}
	if len(boundary) > m.opt.BoundaryLimit {
		boundary = boundary[:m.opt.BoundaryLimit]
	}
	l := level{boundary: boundary, deflt: subPlain, deftype: typeText}
	if m.subtype == subDigest {
		l.deflt, l.deftype = subRFC822, typeMessage
	}
	m.stack = append(m.stack, l)
}

// tokens reads the words of a structured MIME header (RFC 2045 §5.1), skipping
// blanks and comments.
type tokens struct{ rest []byte }

type word struct {
	text   string
	quoted bool
}

const tspecials = "()<>@,;:\\\"/[]?="

func (t *tokens) skip() {
	depth := 0
	for i := 0; i < len(t.rest); i++ {
		switch c := t.rest[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			i++
		case depth > 0, c == ' ', c >= '\t' && c <= '\r':
		default:
			t.rest = t.rest[i:]
			return
		}
	}
	t.rest = nil
}

func (t *tokens) done() bool { t.skip(); return len(t.rest) == 0 }

// op takes the operator c, if it is next.
func (t *tokens) op(c byte) bool {
	if t.done() || t.rest[0] != c {
		return false
	}
	t.rest = t.rest[1:]
	return true
}

func (t *tokens) next() (word, bool) {
	if t.done() {
		return word{}, false
	}
	c := t.rest[0]
	if c == '"' {
		var b []byte
		i := 1
		for ; i < len(t.rest) && t.rest[i] != '"'; i++ {
			if t.rest[i] == '\n' {
				continue
			}
			if t.rest[i] == '\\' && i+1 < len(t.rest) {
				i++
			}
			b = append(b, t.rest[i])
		}
		t.rest = t.rest[min(i+1, len(t.rest)):]
		return word{string(b), true}, true
	}
	if bytes.IndexByte([]byte(tspecials), c) >= 0 {
		t.rest = t.rest[1:]
		return word{text: string(c)}, true
	}
	i := 0
	for i < len(t.rest) && t.rest[i] > ' ' && strings.IndexByte(tspecials, t.rest[i]) < 0 && t.rest[i] != 0x7f {
		i++
	}
	i = max(i, 1)
	w := word{text: string(t.rest[:i])}
	t.rest = t.rest[i:]
	return w, true
}
