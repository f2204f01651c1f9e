package address

import "strings"

// Extensions says how local parts are split (routing.md §2.5). The zero value
// never splits.
type Extensions struct {
	Delimiters   string // recipient_delimiter, a set of characters
	DoubleBounce string // local part of double_bounce_sender, never split
	OwnerRequest bool   // owner_request_special
}

// Split cuts a local part at the first delimiter. The delimiter stays at the
// head of ext, as it is carried to the result of a lookup. ok is false when
// there is nothing to split.
func (e Extensions) Split(local string) (user, ext string, ok bool) {
	if e.Delimiters == "" {
		return local, "", false
	}
	i := strings.IndexAny(local, e.Delimiters)
	if i <= 0 || strings.EqualFold(local, "postmaster") || strings.EqualFold(local, "mailer-daemon") ||
		e.DoubleBounce != "" && strings.EqualFold(local, e.DoubleBounce) {
		return local, "", false
	}
	if e.OwnerRequest && strings.IndexByte(e.Delimiters, '-') >= 0 &&
		(hasPrefixFold(local, "owner-") || hasPrefixFold(suffix(local, len("-request")), "-request")) {
		return local, "", false
	}
	return local[:i], local[i:], true
}

// Strip removes the extension from a full internal address and returns it.
func (e Extensions) Strip(addr string) (stripped, ext string, ok bool) {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		return e.Split(addr)
	}
	user, ext, ok := e.Split(addr[:at])
	if !ok {
		return addr, "", false
	}
	return user + addr[at:], ext, true
}

func suffix(s string, n int) string { return s[max(0, len(s)-n):] }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// SplitExtension cuts a local part at the first of the delimiters with the
// default exceptions; the delimiter is at the head of ext.
func SplitExtension(local, delimiters string) (user, ext string) {
	user, ext, _ = Extensions{Delimiters: delimiters, DoubleBounce: "double-bounce", OwnerRequest: true}.Split(local)
	return user, ext
}

// StripExtension is SplitExtension for a full internal address.
func StripExtension(addr, delimiters string) (stripped, ext string) {
	stripped, ext, _ = Extensions{Delimiters: delimiters, DoubleBounce: "double-bounce", OwnerRequest: true}.Strip(addr)
	return stripped, ext
}

// AddExtension puts an extension (with its delimiter) before the last @.
func AddExtension(addr, ext string) string {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		return addr + ext
	}
	return addr[:at] + ext + addr[at:]
}
