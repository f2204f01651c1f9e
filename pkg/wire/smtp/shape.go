package smtp

import "strings"

// Soften turns every 5xx line into 4xx, enhanced code included (soft_bounce).
func Soften(text string) string {
	lines := strings.Split(text, "\r\n")
	for i, line := range lines {
		b := []byte(line)
		if len(b) > 0 && b[0] == '5' {
			b[0] = '4'
			if _, _, ok := CutDSN(line[min(4, len(line)):]); ok && b[4] == '5' {
				b[4] = '4'
			}
		}
		lines[i] = string(b)
	}
	return strings.Join(lines, "\r\n")
}

// AddFooter adds a footer template to reply text whose lines are separated by CR
// LF: "\n" in the template begins another line, with code and enhanced code of the
// last one; a template that begins with "\c" goes on in the last line (spec
// smtpd.md §3.1). expand resolves macros; its error comes back with the text as it
// was.
func AddFooter(text, footer string, expand func(part string) (string, error)) (string, error) {
	whole := text
	lines := strings.Split(text, "\r\n")
	last := lines[len(lines)-1]
	prefix := last[:min(3, len(last))] + " "
	if len(last) > 4 {
		if dsn, _, ok := CutDSN(last[4:]); ok {
			prefix += dsn + " "
		}
	}
	glue := "\r\n" + prefix
	if strings.HasPrefix(footer, `\c`) {
		footer, glue = footer[2:], ""
	}
	for i, part := range strings.Split(footer, `\n`) {
		if i > 0 {
			glue = "\r\n" + prefix
		}
		expanded, err := expand(part)
		if err != nil {
			return whole, err
		}
		text += glue + Printable(expanded, ' ')
	}
	return text, nil
}

// LooksLikeHeader recognises a mail header where a command should be: the
// client is no mail client.
func LooksLikeHeader(word string) bool {
	for i := 0; i < len(word); i++ {
		switch ch := word[i]; {
		case ch == ':':
			return i > 0
		case ch <= ' ' || ch > '~':
			return false
		}
	}
	return false
}
