package macro

import "golang.org/x/net/idna"

// functions are those of release 3.11 (spec config.md §5), by their names. In
// 3.7 a call is a syntax error, as that of any other name still is.
var functions = map[string]func(string) (string, error){
	"domain_to_ascii": func(domain string) (string, error) { return idna.Lookup.ToASCII(domain) },
	"domain_to_utf8":  func(domain string) (string, error) { return idna.Lookup.ToUnicode(domain) },
}

// call evaluates "{text}" and gives it to a function without the blanks around
// it. A domain that cannot be converted stays as it is.
func (w *walker) call(function func(string) (string, error), s string, depth int) (string, error) {
	end := Closing(s)
	if end < 0 {
		return "", syntax(`unbalanced {} in attribute expression: "`, s, `"`)
	}
	if tail := trimLeft(s[end+1:]); tail != "" {
		return "", at("unexpected input", "}", tail)
	}
	text, err := w.text(trim(s[1:end]), depth)
	if err != nil || w.scan {
		return "", err
	}
	value, err := function(text)
	if err != nil {
		value = text
	}
	return w.filtered(value), nil
}

func trim(s string) string {
	s = trimLeft(s)
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}
