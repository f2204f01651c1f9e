// Package address knows how mail addresses are written: the token grammar of
// message headers, the lists built from it, quoting between the external form
// (as in a header or an SMTP command) and the internal form (as in a queue file
// or a lookup table), and address extensions.
//
// Nothing here fails: every byte string is some address list, as routing.md §2
// describes. Callers bound the work with a token limit.
//
// Names used throughout: the *external* form of an address is quoted
// ("joe blow"@example.com), the *internal* form is not (joe blow@example.com).
package address

import "strings"

// Kind says what a Token is.
type Kind uint8

// The kinds of token.
const (
	Atom     Kind = iota + 1 // a bare word
	Quoted                   // "..."; Text is without quotes and escapes
	Literal                  // [...]; Text is without brackets and escapes
	Comment                  // (...); Text includes the parentheses, escapes kept
	Operator                 // one of |%!)<>@,;:.]; Text is that character
	Group                    // the colon that ends a group name; only made by Parse
	Address                  // one address; its words are in Tokens; only made by Parse
)

// A Token is one element of an address list.
type Token struct {
	Kind   Kind
	Text   string
	Tokens List // of an Address
}

// Is reports whether t is the operator op.
func (t Token) Is(op byte) bool { return t.Kind == Operator && t.Text[0] == op }

// A List is a sequence of tokens: flat, as Scan makes it, or with addresses
// grouped, as Parse makes it.
type List []Token

const (
	blanks    = " \t\r\n"
	operators = "|%!)<>@,;:.]"
	specials  = operators + "([\""
)

// class holds what a byte does to an atom: 0 ordinary, 1 ends it.
var atomEnd = func() (t [256]bool) {
	for _, c := range []byte(blanks + specials) {
		t[c] = true
	}
	return t
}()

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// Scan splits external-form text into flat tokens (routing.md §2.1). At most
// limit tokens are made, text beyond is dropped; limit 0 means no limit.
func Scan(text string, limit int) List {
	list := make(List, 0, 8)
	for i := 0; i < len(text) && (limit <= 0 || len(list) < limit); {
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case c == '(':
			n := commentLen(text[i:])
			list = append(list, Token{Kind: Comment, Text: text[i : i+n]})
			i += n
		case c == '"':
			s, n := enclosed(text[i+1:], '"')
			list = append(list, Token{Kind: Quoted, Text: s})
			i += 1 + n
		case c == '[':
			s, n := enclosed(text[i+1:], ']')
			list = append(list, Token{Kind: Literal, Text: s})
			i += 1 + n
		case strings.IndexByte(operators, c) >= 0:
			list = append(list, Token{Kind: Operator, Text: text[i : i+1]})
			i++
		default:
			t, n := atom(text[i:])
			list = append(list, t)
			i += n
		}
	}
	return list
}

// commentLen returns the length of the comment that text starts with.
func commentLen(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

// enclosed reads up to the closing byte and returns the bare text and the
// number of bytes consumed, closing byte included.
func enclosed(text string, closing byte) (string, int) {
	plain := true
	i := 0
	for ; i < len(text) && text[i] != closing; i++ {
		if text[i] == '\\' {
			plain = false
			i++
		} else if text[i] != ' ' && isSpace(text[i]) {
			plain = false
		}
	}
	if plain {
		return text[:i], min(i+1, len(text))
	}
	var b strings.Builder
	for i = 0; i < len(text) && text[i] != closing; i++ {
		c := text[i]
		switch {
		case c == '\\':
			if i++; i < len(text) {
				b.WriteByte(text[i])
			}
		case isSpace(c):
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), min(i+1, len(text))
}

func atom(text string) (Token, int) {
	i := 0
	for i < len(text) && !atomEnd[text[i]] && text[i] != '\\' {
		i++
	}
	if i == len(text) || text[i] != '\\' {
		return Token{Kind: Atom, Text: text[:i]}, i
	}
	var b strings.Builder
	b.WriteString(text[:i])
	kind := Atom
	for ; i < len(text) && !atomEnd[text[i]]; i++ {
		c := text[i]
		if c == '\\' {
			if i++; i == len(text) {
				break
			}
			c = text[i]
		}
		if c < ' ' || c == 0x7f || c == '\\' || atomEnd[c] {
			kind = Quoted
		}
		b.WriteByte(c)
	}
	if b.Len() == 0 {
		kind = Quoted
	}
	return Token{Kind: kind, Text: b.String()}, min(i, len(text))
}

// appendToken writes one flat token in external form.
func appendToken(b []byte, t Token) []byte {
	switch t.Kind {
	case Quoted:
		b = append(b, '"')
		b = escape(b, t.Text, "\"\\\r\n")
		return append(b, '"')
	case Literal:
		b = append(b, '[')
		b = escape(b, t.Text, "\\\r\n")
		return append(b, ']')
	}
	return append(b, t.Text...)
}

func escape(b []byte, text, chars string) []byte {
	if !strings.ContainsAny(text, chars) {
		return append(b, text...)
	}
	for i := 0; i < len(text); i++ {
		if strings.IndexByte(chars, text[i]) >= 0 {
			b = append(b, '\\')
		}
		b = append(b, text[i])
	}
	return b
}

// AppendExternal appends the external form of the list (routing.md §2.2).
// Between pieces after which a header line may be folded (a comma outside any
// address) the byte fold is written; pass ' ' for a single line.
func (l List) AppendExternal(b []byte, fold byte) []byte {
	w := writer{b: b, fold: fold, quote: true}
	w.list(l, fold)
	return w.b
}

// String returns the external form on one line.
func (l List) String() string { return string(l.AppendExternal(nil, ' ')) }

// Internal returns the internal form: quoted strings without their quotes.
// It is meant for the words of one address.
func (l List) Internal() string {
	if len(l) == 1 && l[0].Kind != Literal && l[0].Kind != Address {
		return l[0].Text
	}
	w := writer{}
	w.list(l, ' ')
	return string(w.b)
}

// writer applies the spacing rules: a space (or fold) after a comma, a space
// before <, after the colon of a group and between neighbouring words; an
// address is a word, whatever it ends with.
type writer struct {
	b     []byte
	some  bool // a token was written
	fold  byte
	quote bool
	prev  Kind
}

func isWord(k Kind) bool {
	return k == Atom || k == Quoted || k == Literal || k == Comment || k == Address
}

func (w *writer) list(l List, afterComma byte) {
	for _, t := range l {
		if isWord(w.prev) && isWord(t.Kind) {
			w.space(' ')
		}
		switch t.Kind {
		case Address:
			w.prev = 0
			after := byte(' ')
			if w.quote {
				after = 0
			}
			w.list(t.Tokens, after)
		case Operator:
			if t.Text[0] == '<' {
				w.space(' ')
			}
			w.b = append(w.b, t.Text...)
			if t.Text[0] == ',' && afterComma != 0 {
				w.b = append(w.b, afterComma)
			}
		case Group:
			w.b = append(w.b, ':', ' ')
		default:
			if w.quote {
				w.b = appendToken(w.b, t)
			} else {
				w.b = appendPlain(w.b, t)
			}
		}
		w.prev, w.some = t.Kind, true
	}
}

// space separates, unless there is nothing or a separator already.
func (w *writer) space(c byte) {
	if n := len(w.b); w.some && (n == 0 || w.b[n-1] != c && (w.fold == 0 || w.b[n-1] != w.fold)) {
		w.b = append(w.b, c)
	}
}

// appendPlain writes one flat token in internal form.
func appendPlain(b []byte, t Token) []byte {
	if t.Kind != Literal {
		return append(b, t.Text...)
	}
	b = append(b, '[')
	b = append(b, t.Text...)
	return append(b, ']')
}
