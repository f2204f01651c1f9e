package address

import "strings"

// localSpecials are the bytes that make a local part need quotes.
const localSpecials = "()<>@,;:\\\"[] "

// Quote turns an internal address into its external form (routing.md §2.3).
// A leading @route: and the domain are passed as they are.
func Quote(internal string) string { return quote(internal, "\"\\\r") }

// QuoteSMTP is Quote for SMTP commands: it escapes line feeds too.
func QuoteSMTP(internal string) string { return quote(internal, "\"\\\r\n") }

func quote(internal, escaped string) string {
	route := 0
	if strings.HasPrefix(internal, "@") {
		route = strings.IndexByte(internal, ':') + 1
	}
	rest := internal[route:]
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		at = len(rest)
	}
	if !NeedsQuotes(rest[:at]) {
		return internal
	}
	b := make([]byte, 0, len(internal)+8)
	b = append(b, internal[:route]...)
	b = append(b, '"')
	b = escape(b, rest[:at], escaped)
	b = append(b, '"')
	return string(append(b, rest[at:]...))
}

// QuoteLocal returns the external form of a local part.
func QuoteLocal(local string) string {
	if !NeedsQuotes(local) {
		return local
	}
	b := append(make([]byte, 0, len(local)+8), '"')
	return string(append(escape(b, local, "\"\\\r"), '"'))
}

// NeedsQuotes reports whether a local part is no plain dot-atom.
func NeedsQuotes(local string) bool {
	if local == "" || local[0] == '.' || local[len(local)-1] == '.' {
		return true
	}
	for i := 0; i < len(local); i++ {
		c := local[i]
		if c < ' ' || c == 0x7f || c < 0x80 && strings.IndexByte(localSpecials, c) >= 0 ||
			c == '.' && local[i-1] == '.' {
			return true
		}
	}
	return false
}

// Unquote turns an external address into its internal form: quotes and
// backslashes before the last @ outside quotes are dropped, the rest is kept.
func Unquote(external string) string {
	if strings.IndexByte(external, '"') < 0 && strings.IndexByte(external, '\\') < 0 {
		return external
	}
	end := lastUnquotedAt(external)
	if end < 0 {
		end = len(external)
	}
	b := make([]byte, 0, len(external))
	for i := 0; i < end; i++ {
		switch c := external[i]; c {
		case '"':
		case '\\':
			if i+1 < end {
				i++
				b = append(b, external[i])
			}
		default:
			b = append(b, c)
		}
	}
	return string(append(b, external[end:]...))
}

func lastUnquotedAt(s string) int {
	at, quoted := -1, false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case '@':
			if !quoted {
				at = i
			}
		}
	}
	return at
}

// Split cuts an address at its last @ that is outside quotes. Without one the
// domain is empty; use Cut to tell "joe" from "joe@".
func Split(addr string) (local, domain string) {
	local, domain, _ = Cut(addr)
	return local, domain
}

// Cut is Split that also says whether there was an @. It works for both forms;
// an internal form with an unpaired quote is cut at its very last @.
func Cut(addr string) (local, domain string, found bool) {
	at := strings.LastIndexByte(addr, '@')
	if at >= 0 && strings.IndexByte(addr, '"') >= 0 && strings.Count(addr, "\"")%2 == 0 {
		at = lastUnquotedAt(addr)
	}
	if at < 0 {
		return addr, "", false
	}
	return addr[:at], addr[at+1:], true
}
