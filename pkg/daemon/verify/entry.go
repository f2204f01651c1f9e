package verify

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	protocol "posthaste/pkg/ipc/verify"
)

// probeTTL is how long the result of a probe is waited for before another is
// sent.
const probeTTL = 1000 * time.Second

// inProgress is the text of an address nothing is known about.
const inProgress = "Address verification in progress"

// entry is what the cache has on an address, "status:probed:updated:text"
// (spec queue.md §3.3). Times are seconds since the epoch; 0 is never.
type entry struct {
	status  protocol.Result
	probed  int64 // when the outstanding probe was sent
	updated int64 // when the last result came in
	text    string
}

func (e entry) String() string {
	return fmt.Sprintf("%d:%d:%d:%s", e.status, e.probed, e.updated, e.text)
}

// parseEntry reads a value of the cache; ok is false for a malformed one.
func parseEntry(value string) (e entry, ok bool) {
	part := strings.SplitN(value, ":", 4)
	if len(part) != 4 {
		return e, false
	}
	status, err1 := strconv.Atoi(part[0])
	probed, err2 := strconv.ParseInt(part[1], 10, 64)
	updated, err3 := strconv.ParseInt(part[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return e, false
	}
	if status < int(protocol.Deliverable) || status > int(protocol.Probing) || probed == 0 && updated == 0 {
		return e, false
	}
	return entry{protocol.Result(status), probed, updated, part[3]}, true
}

// lifetimes say how long a result is believed, and when it is checked again.
type lifetimes struct {
	positiveExpire, positiveRefresh time.Duration
	negativeExpire, negativeRefresh time.Duration
}

// passed reports whether d has gone by since a time in seconds.
func passed(now, since int64, d time.Duration) bool { return since+int64(d/time.Second) < now }

// waiting reports whether a probe is under way.
func (e entry) waiting(now int64) bool { return !passed(now, e.probed, probeTTL) }

// expired reports whether a result is too old to be used. An entry without a
// result has nothing that could be.
func (l lifetimes) expired(e entry, now int64) bool {
	switch e.status {
	case protocol.Deliverable:
		return passed(now, e.updated, l.positiveExpire)
	case protocol.Probing:
		return false
	}
	return passed(now, e.updated, l.negativeExpire)
}

// stale reports whether an entry calls for a probe.
func (l lifetimes) stale(e entry, now int64) bool {
	refresh := l.negativeRefresh
	if e.status == protocol.Deliverable {
		refresh = l.positiveRefresh
	}
	return !e.waiting(now) && passed(now, e.updated, refresh)
}

// useless reports whether the clean-up may drop an entry: its result has
// expired and no probe is under way.
func (l lifetimes) useless(e entry, now int64) bool {
	return !e.waiting(now) && (e.status == protocol.Probing || l.expired(e, now))
}

// cacheKey is the key of an address; a colon would end it in the files of
// older versions.
func cacheKey(addr string) string { return strings.ReplaceAll(addr, ":", "_") }

// printable replaces what could damage a terminal or a log line.
func printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r < 128 && !unicode.IsPrint(r) {
			b.WriteByte('?')
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}
