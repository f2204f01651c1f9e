package postscreen

import (
	"strconv"
	"strings"
	"time"
)

// The tests, in the order in which a cache entry has them.
const (
	pregreet   = iota // does it wait for the greeting?
	dnsbl             // what do the DNS lists say?
	pipelining        // does it wait for replies?
	nonSMTP           // is it SMTP that it speaks?
	bareLF            // do its lines end in CR LF?
	testCount
)

// tests are the parameters of each test; the first two look for themselves
// whether they are enabled.
var tests = [testCount]struct{ action, enable string }{
	pregreet:   {"postscreen_greet_action", ""},
	dnsbl:      {"postscreen_dnsbl_action", ""},
	pipelining: {"postscreen_pipelining_action", "postscreen_pipelining_enable"},
	nonSMTP:    {"postscreen_non_smtp_command_action", "postscreen_non_smtp_command_enable"},
	bareLF:     {"postscreen_bare_newline_action", "postscreen_bare_newline_enable"},
}

// testSet is a set of tests: bit 1<<pregreet and so on.
type testSet uint8

const (
	earlyTests testSet = 1<<pregreet | 1<<dnsbl
	deepTests  testSet = 1<<pipelining | 1<<nonSMTP | 1<<bareLF
	allTests           = earlyTests | deepTests
)

func (s testSet) has(test int) bool { return s&(1<<test) != 0 }

// stamp is until when a test has been passed, in seconds of the epoch.
type stamp int64

// Stamps of tests that were never passed.
const (
	stampNew      stamp = 0 // and the test was enabled
	stampDisabled stamp = 1 // and it was not
)

// stamps are the content of a cache entry (spec §8.3).
type stamps [testCount]stamp

// newStamps are those of an unknown client.
func newStamps(enabled testSet) (s stamps) {
	for i := range s {
		if !enabled.has(i) {
			s[i] = stampDisabled
		}
	}
	return s
}

// parseStamps reads a cache entry. What is missing counts as never tested, and
// so does all from the first field that is no number; what comes after the fifth
// is ignored.
func parseStamps(text string) (s stamps) {
	more := true
	for i := range s {
		s[i] = stampDisabled
		if !more {
			continue
		}
		var n stamp
		var ok bool
		n, ok, text, more = parseStamp(text)
		if ok {
			s[i] = n
		}
	}
	return s
}

// parseStamp reads a field as C's strtoul does: blanks and a sign may come before
// the digits, and minus wraps around. ok is false for a field that is empty or out
// of range; more is false when there is no field after it.
func parseStamp(text string) (n stamp, ok bool, rest string, more bool) {
	text = strings.TrimLeft(text, " \t\n\v\f\r")
	digits := strings.TrimLeft(text, "+-")
	negative := strings.HasPrefix(text, "-")
	if len(text)-len(digits) > 1 {
		return 0, false, "", false
	}
	end := 0
	for end < len(digits) && digits[end] >= '0' && digits[end] <= '9' {
		end++
	}
	rest, more = strings.CutPrefix(digits[end:], ";")
	if digits[end:] != "" && !more {
		return 0, false, "", false
	}
	u, err := strconv.ParseUint(digits[:end], 10, 64)
	if negative {
		u = -u
	}
	return stamp(u), err == nil, rest, more
}

// String is the cache entry.
func (s stamps) String() string {
	b := make([]byte, 0, 5*11)
	for i, n := range s {
		if i > 0 {
			b = append(b, ';')
		}
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	return string(b)
}

// entry is the cache entry with tests that are disabled and were never passed
// told from those that are enabled.
func (s stamps) entry(enabled testSet) string {
	for i := range s {
		if s[i] == stampNew && !enabled.has(i) {
			s[i] = stampDisabled
		}
	}
	return s.String()
}

// due are the enabled tests that are to be done again.
func (s stamps) due(enabled testSet, now time.Time) (due testSet) {
	for i := range s {
		if enabled.has(i) && stamp(now.Unix()) > s[i] {
			due |= 1 << i
		}
	}
	return due
}

// known reports whether none of these tests is new to the client. One that was
// disabled when the client came last is not.
func (s stamps) known(set testSet) bool {
	for i := range s {
		if set.has(i) && s[i] == stampNew {
			return false
		}
	}
	return true
}

// useless reports whether some enabled test expired longer than retention ago.
func (s stamps) useless(enabled testSet, now time.Time, retention time.Duration) bool {
	for i := range s {
		if enabled.has(i) && s[i]+stamp(retention/time.Second) < stamp(now.Unix()) {
			return true
		}
	}
	return false
}
