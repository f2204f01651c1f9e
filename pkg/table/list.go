package table

import (
	"fmt"
	"strings"
)

// separators are the bytes between list elements (config.md 1.6).
const separators = ", \t\r\n"

// SplitList splits text at commas and white space outside balanced braces.
func SplitList(text string) []string {
	var list []string
	depth, start := 0, -1
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case depth == 0 && strings.IndexByte(separators, c) >= 0:
			if start >= 0 {
				list = append(list, text[start:i])
				start = -1
			}
			continue
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		}
		if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		list = append(list, text[start:])
	}
	return list
}

// unbrace takes "{text}" apart. The error texts are those of config.md 1.6; text
// after the closing brace is an error.
func unbrace(text string) (inside string, err error) {
	if !strings.HasPrefix(text, "{") {
		return "", fmt.Errorf("no '{' at start of text in \"%s\"", text)
	}
	n := balanced(text)
	if n < 0 {
		return "", fmt.Errorf("missing '}' in \"%s\"", text)
	}
	if strings.TrimLeft(text[n+1:], space) != "" {
		return "", fmt.Errorf("syntax error after '}' in \"%s\"", text)
	}
	return strings.Trim(text[1:n], space), nil
}

// balanced gives the index of the brace that closes the one text starts with, or -1.
func balanced(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}
