package smtp

import "strings"

// Token is a word of a command line, quoting kept (spec smtpd.md §2.1).
type Token struct {
	Text string
	Bad  bool // a "<...>" or quoted run in it did not end
}

// Tokenize splits a command line at white space. "<" starts a run up to its
// matching ">", a double quote one up to the next, a backslash takes the next
// character along; "to:" and "from:" end a token at their colon. Processing
// stops at a NUL byte. At most maxTokens tokens are returned; the last one
// then holds the rest of the line.
func Tokenize(line string) []Token {
	if i := strings.IndexByte(line, 0); i >= 0 {
		line = line[:i]
	}
	tokens := make([]Token, 0, 4)
	for {
		line = strings.TrimLeft(line, spaces)
		if line == "" || len(tokens) == maxTokens {
			return tokens
		}
		n, bad := tokenLen(line)
		tokens = append(tokens, Token{Text: line[:n], Bad: bad})
		line = line[n:]
	}
}

const (
	spaces    = " \t\n\v\f\r"
	maxTokens = 1024
)

// tokenLen is the length of the first token of s, which does not begin with
// white space.
func tokenLen(s string) (n int, bad bool) {
	for i := 0; i < len(s); {
		switch ch := s[i]; {
		case strings.IndexByte(spaces, ch) >= 0:
			return i, bad
		case ch == '<':
			i, bad = skipAngle(s, i+1)
		case ch == '"':
			i, bad = skipQuoted(s, i+1)
		case ch == '\\' && i+1 < len(s):
			i += 2
		case ch == ':' && (strings.EqualFold(s[:i], "to") || strings.EqualFold(s[:i], "from")):
			return i + 1, bad
		default:
			i++
		}
		if bad {
			return len(s), true
		}
	}
	return len(s), bad
}

// skipAngle returns the place after the ">" that matches the "<" before i.
func skipAngle(s string, i int) (int, bool) {
	for depth := 1; i < len(s); {
		switch s[i] {
		case '<':
			depth++
			i++
		case '>':
			i++
			if depth--; depth == 0 {
				return i, false
			}
		case '"':
			var bad bool
			if i, bad = skipQuoted(s, i+1); bad {
				return i, true
			}
		case '\\':
			i = min(i+2, len(s))
		default:
			i++
		}
	}
	return len(s), true
}

// skipQuoted returns the place after the double quote that ends the string
// in which i is.
func skipQuoted(s string, i int) (int, bool) {
	for i < len(s) {
		switch s[i] {
		case '"':
			return i + 1, false
		case '\\':
			i = min(i+2, len(s))
		default:
			i++
		}
	}
	return len(s), true
}
