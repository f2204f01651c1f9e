package smtp

import (
	"fmt"
	"strings"
)

// Reply is a complete reply of a server.
type Reply struct {
	Code int    // 200..599 as sent; the first digit is the class
	DSN  string // enhanced code of the last line, or class.0.0 (5.5.0 for 1xx and 3xx); never empty
	Text string // the lines as received, codes included, joined by "\n"; non-printables are '?'
	// LongLine and LongReply hold the beginning of a line, or of the line at
	// which storing stopped, when line or reply exceeded the limit.
	LongLine, LongReply string
	Garbage             []string // lines that were no reply and were skipped (at most 10 are kept)
}

// Class is the first digit of the code.
func (r Reply) Class() int { return r.Code / 100 }

// OneLine is the text with its lines joined by spaces.
func (r Reply) OneLine() string { return strings.ReplaceAll(r.Text, "\n", " ") }

// Lines are the lines of the text with their codes.
func (r Reply) Lines() []string { return strings.Split(r.Text, "\n") }

// LineError says that the peer broke the reply syntax beyond what is skipped.
type LineError struct{ Text string }

func (e *LineError) Error() string { return e.Text }

// Limits of one reply, against a peer that never ends it.
const (
	maxReplyLines = 1000
	maxGarbage    = 100
)

// ReadReply reads a reply whose lines, and whose stored text, have at most
// limit bytes (line_length_limit). Lines that are no reply are skipped and
// kept in Garbage. filter, if not nil, may replace each raw line
// (smtp_reply_filter).
func (c *Conn) ReadReply(limit int, filter func(line string) string) (Reply, error) {
	var r Reply
	var text strings.Builder
	garbage := 0
	for lines := 0; lines < maxReplyLines; lines++ {
		l, err := c.ReadLine(limit, AnyCRs)
		if err != nil {
			return r, err
		}
		line := Printable(string(l.Text), '?')
		if l.Long && r.LongLine == "" {
			r.LongLine = line
		}
		if filter != nil {
			line = filter(line)
		}
		switch {
		case text.Len() == 0:
			text.WriteString(line)
		case text.Len()+len(line) < limit:
			text.WriteByte('\n')
			text.WriteString(line)
		case r.LongReply == "":
			r.LongReply = line
		}
		code, last, ok := parseReplyLine(line)
		if !ok {
			r.Garbage = append(r.Garbage, line)[:min(len(r.Garbage)+1, 10)]
			if garbage++; garbage > maxGarbage {
				return r, &LineError{"too many lines that are no SMTP reply"}
			}
			text.Reset()
			continue
		}
		if last {
			r.Code, r.Text = code, text.String()
			r.DSN = replyDSN(line)
			return r, nil
		}
	}
	return r, &LineError{"SMTP reply without end"}
}

// parseReplyLine understands "NNN", "NNN-..." and "NNN ...".
func parseReplyLine(line string) (code int, last, ok bool) {
	if len(line) < 3 || !digits(line[:3]) || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	return code, len(line) == 3 || line[3] == ' ', true
}

func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// replyDSN takes the enhanced status code out of the last line of a reply
// (RFC 2034; spec delivery.md §2.8).
func replyDSN(line string) string {
	if len(line) > 4 {
		if dsn, _, ok := CutDSN(line[4:]); ok && dsn[0] == line[0] {
			return dsn
		}
	}
	switch line[0] {
	case '2', '4', '5':
		return line[:1] + ".0.0"
	}
	return "5.5.0"
}

// CutDSN splits text that begins with an enhanced status code such as "5.7.1"
// (first digit 2, 4 or 5, then one to three digits each), and white space or
// the end after it. Without one it returns the whole text and false.
func CutDSN(text string) (dsn, rest string, ok bool) {
	end := strings.IndexAny(text, " \t")
	if end < 0 {
		end = len(text)
	}
	if !ValidDSN(text[:end]) {
		return "", text, false
	}
	return text[:end], strings.TrimLeft(text[end:], " \t"), true
}

// ValidDSN reports whether s is an enhanced status code (RFC 3463).
func ValidDSN(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || !strings.Contains("245", parts[0]) {
		return false
	}
	for _, p := range parts[1:] {
		if len(p) > 3 || !digits(p) {
			return false
		}
	}
	return true
}

// FormatReply turns reply text whose lines are separated by CR LF, each
// beginning with the code, into what is sent: every line but the last gets
// "-" as its fourth character.
func FormatReply(text string) string {
	lines := strings.Split(text, "\r\n")
	var b strings.Builder
	b.Grow(len(text) + 2)
	for i, line := range lines {
		if i < len(lines)-1 && len(line) >= 3 {
			rest := ""
			if len(line) > 4 {
				rest = line[4:]
			}
			line = line[:3] + "-" + rest
		}
		b.WriteString(line)
		b.WriteString("\r\n")
	}
	return b.String()
}

// Printable replaces every byte of s that is not printable ASCII, and that is
// no part of valid UTF-8 beyond it, by sub.
func Printable(s string, sub byte) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	b := make([]byte, 0, len(s))
	for i, r := range s {
		switch {
		case r == 0xFFFD && !strings.HasPrefix(s[i:], "\uFFFD"), r < ' ', r == 0x7f:
			b = append(b, sub)
		default:
			b = append(b, string(r)...)
		}
	}
	return string(b)
}

// Escape shows s on one line: printable ASCII as it is with \ doubled,
// \a \b \f \n \r \t \v, other bytes as \ooo (spec smtpd.md §1.4).
func Escape(s []byte) string {
	const names = "\a\b\f\n\r\t\v"
	var b strings.Builder
	for _, ch := range s {
		switch i := strings.IndexByte(names, ch); {
		case i >= 0:
			b.WriteByte('\\')
			b.WriteByte("abfnrtv"[i])
		case ch == '\\':
			b.WriteString(`\\`)
		case ch >= ' ' && ch <= '~':
			b.WriteByte(ch)
		default:
			fmt.Fprintf(&b, `\%03o`, ch)
		}
	}
	return b.String()
}
