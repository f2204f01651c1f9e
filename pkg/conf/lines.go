package conf

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"posthaste/pkg/conf/macro"
)

// MaxLine is the longest logical line, in bytes.
const MaxLine = 16 << 20

// ErrLineTooLong says that a logical line is longer than MaxLine.
var ErrLineTooLong = errors.New("logical line is too long")

// Line is a logical line: a physical line and the continuation lines that
// follow it.
type Line struct {
	Text  string // without newlines; the white space before continuations is kept
	First int    // number of the first physical line, from 1
	Last  int    // number of the last physical line of the text
}

// LineReader reads logical lines (spec config.md 1.2). Main.cf, master.cf,
// table sources and the configuration of database clients use it. It streams.
type LineReader struct {
	r       *bufio.Reader
	name    string
	warn    func(format string, a ...any)
	pending string // first physical line of the next logical line
	hasNext bool
	number  int // of the physical line read last
}

// NewLineReader returns a reader of r. Lines that continue nothing are told to
// warn, with name as the file name; nil is silent.
func NewLineReader(r io.Reader, name string, warn func(format string, a ...any)) *LineReader {
	if warn == nil {
		warn = func(string, ...any) {}
	}
	return &LineReader{r: bufio.NewReader(r), name: name, warn: warn}
}

// Next returns the next logical line, or io.EOF after the last.
func (l *LineReader) Next() (Line, error) {
	for {
		line, err := l.logical()
		if err != nil {
			return Line{}, err
		}
		if !isSpace(line.Text[0]) {
			return line, nil
		}
		text, more := line.Text, ""
		if len(text) > 30 {
			text, more = text[:30], "..."
		}
		l.warn(`%s: logical line must not start with whitespace: "%s%s"`, l.name, text, more)
	}
}

func (l *LineReader) logical() (Line, error) {
	if !l.hasNext {
		if err := l.physical(); err != nil {
			return Line{}, err
		}
	}
	line := Line{Text: l.pending, First: l.number, Last: l.number}
	l.hasNext = false
	var more strings.Builder
	for {
		err := l.physical()
		if err == io.EOF || err == nil && !isSpace(l.pending[0]) {
			break
		}
		if err != nil {
			return Line{}, err
		}
		if len(line.Text)+more.Len()+len(l.pending) > MaxLine {
			return Line{}, ErrLineTooLong
		}
		more.WriteString(l.pending)
		line.Last = l.number
		l.hasNext = false
	}
	line.Text += more.String()
	return line, nil
}

// physical reads the next line that is neither blank nor a comment.
func (l *LineReader) physical() error {
	for {
		text, err := l.r.ReadString('\n')
		if text == "" && err != nil {
			return err
		}
		if len(text) > MaxLine {
			return ErrLineTooLong
		}
		l.number++
		text = strings.TrimSuffix(text, "\n")
		if body := TrimLeft(text); body == "" || body[0] == '#' {
			continue
		}
		l.pending, l.hasNext = text, true
		return nil
	}
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// TrimLeft removes ASCII white space at the start.
func TrimLeft(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	return s
}

// Trim removes ASCII white space at both ends.
func Trim(s string) string {
	s = TrimLeft(s)
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// SplitNameValue parses "name = value" (spec config.md 1.3). The errors are
// "missing attribute name" and "missing '=' after attribute name", each with
// the text.
func SplitNameValue(s string) (name, value string, err error) {
	body := TrimLeft(s)
	n := 0
	for n < len(body) && !isSpace(body[n]) && body[n] != '=' {
		n++
	}
	name = body[:n]
	rest := TrimLeft(body[n:])
	switch {
	case name == "":
		return "", "", errors.New(`missing attribute name: "` + s + `"`)
	case !strings.HasPrefix(rest, "="):
		return "", "", errors.New(`missing '=' after attribute name: "` + s + `"`)
	}
	return name, Trim(rest[1:]), nil
}

func isSeparator(c byte) bool { return c == ' ' || c == ',' || c == '\t' || c == '\r' || c == '\n' }

// Fields splits at commas and blanks (the plain rule of spec config.md 1.6).
func Fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r < 0x80 && isSeparator(byte(r)) })
}

// FieldsBraced splits as Fields does, but not inside balanced { }.
func FieldsBraced(s string) []string { return SplitBraced(s, " ,\t\r\n") }

// SplitBraced splits at any of the bytes in separators, but not inside
// balanced { }. After an unbalanced brace the rest is one word.
func SplitBraced(s, separators string) []string {
	var words []string
	start, depth := -1, 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if depth == 0 && strings.IndexByte(separators, c) >= 0 {
			if start >= 0 {
				words = append(words, s[start:i])
				start = -1
			}
			continue
		}
		if start < 0 {
			start = i
		}
		switch {
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		}
	}
	if start >= 0 {
		words = append(words, s[start:])
	}
	return words
}

// Unbrace returns what stands inside the braces of a word "{ text }", without
// the blanks at both ends.
func Unbrace(s string) (string, error) {
	if !strings.HasPrefix(s, "{") {
		return "", errors.New(`no '{' at start of text in "` + s + `"`)
	}
	end := macro.Closing(s)
	switch {
	case end < 0:
		return "", errors.New(`missing '}' in "` + s + `"`)
	case TrimLeft(s[end+1:]) != "":
		return "", errors.New(`syntax error after '}' in "` + s + `"`)
	}
	return Trim(s[1:end]), nil
}
