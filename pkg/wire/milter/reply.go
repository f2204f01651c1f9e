package milter

import (
	"strings"

	"posthaste/pkg/wire/smtp"
)

// ParseReply checks an SMTP reply made by a filter and makes it fit to send;
// ok is false when it is malformed. With soft every 5xx becomes 4xx.
func ParseReply(text string, soft bool) (reply string, ok bool) {
	if text == "" {
		return "", false
	}
	lines := strings.Split(text, "\r\n")
	code := lines[0][:min(3, len(lines[0]))]
	for i, line := range lines {
		if len(line) < 4 || line[0] != '4' && line[0] != '5' || !digit(line[1]) || !digit(line[2]) || line[:3] != code ||
			line[3] != ' ' && line[3] != '-' {
			return "", false
		}
		b := []byte(strings.ReplaceAll(line, "%%", "%"))
		dsn := false
		if len(b) > 4 {
			_, _, dsn = smtp.CutDSN(string(b[4:]))
		}
		if dsn && b[4] != b[0] {
			return "", false
		}
		if soft && b[0] == '5' {
			b[0] = '4'
			if dsn {
				b[4] = '4'
			}
		}
		lines[i] = string(b)
	}
	return strings.Join(lines, "\r\n"), true
}

func digit(ch byte) bool { return ch >= '0' && ch <= '9' }
