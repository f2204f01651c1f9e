// Package dsn holds what is common to all users of delivery status data:
// enhanced status codes (RFC 3463), the outcome of one delivery, NOTIFY and RET
// values and xtext (RFC 3461).
package dsn

import (
	"errors"
	"fmt"
	"strings"
)

// Status is the outcome of a delivery, as carried between services and in
// bounce logs. Empty strings mean "not known".
type Status struct {
	Code     string // enhanced status code, "5.1.1"
	Action   string // "failed", "delayed", "delivered", "relayed", "expanded" ...
	Reason   string // human text, one line
	DiagType string // "smtp" or "x-unix"
	DiagText string
	MTAType  string // "dns"
	MTAName  string
}

// String returns "5.1.1 text".
func (s Status) String() string { return s.Code + " " + s.Reason }

// CodeLen returns the length of the enhanced status code that text starts with,
// or 0: one of 2, 4, 5, then two groups of one to three digits, then the end or
// a blank.
func CodeLen(text string) int {
	if len(text) < 5 || text[0] != '2' && text[0] != '4' && text[0] != '5' || text[1] != '.' {
		return 0
	}
	subject := digits(text[2:])
	if subject == 0 || 2+subject >= len(text) || text[2+subject] != '.' {
		return 0
	}
	detail := digits(text[3+subject:])
	n := 3 + subject + detail
	if detail == 0 || n < len(text) && text[n] != ' ' && (text[n] < '\t' || text[n] > '\r') {
		return 0
	}
	return n
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	if n > 3 {
		return 0
	}
	return n
}

// Valid reports whether code is exactly one enhanced status code.
func Valid(code string) bool { return code != "" && CodeLen(code) == len(code) }

// Split takes the status code off the head of text; without one, code is def.
func Split(text, def string) (code, rest string) {
	n := CodeLen(text)
	if n == 0 {
		return def, text
	}
	return text[:n], strings.TrimLeft(text[n:], " \t\r\n\v\f")
}

// Prepend puts def in front of text unless it has a status code already.
func Prepend(def, text string) string {
	if CodeLen(text) > 0 {
		return text
	}
	return def + " " + text
}

// Notify is the NOTIFY parameter: an OR of these bits, 0 when not given.
type Notify int

// NOTIFY bits as stored in queue files.
const (
	NotifyNever   Notify = 1
	NotifySuccess Notify = 2
	NotifyFailure Notify = 4
	NotifyDelay   Notify = 8
)

// Valid reports whether n is NEVER alone or a non-empty set of the others.
func (n Notify) Valid() bool {
	return n == NotifyNever || n > 1 && n <= 14 && n&NotifyNever == 0
}

var notifyNames = []struct {
	bit  Notify
	name string
}{{NotifyNever, "NEVER"}, {NotifySuccess, "SUCCESS"}, {NotifyFailure, "FAILURE"}, {NotifyDelay, "DELAY"}}

// String returns the SMTP form, "SUCCESS,DELAY"; "" for 0.
func (n Notify) String() string {
	var s []string
	for _, v := range notifyNames {
		if n&v.bit != 0 {
			s = append(s, v.name)
		}
	}
	return strings.Join(s, ",")
}

// ErrNotify is returned by ParseNotify for an unknown or contradictory list.
var ErrNotify = errors.New("bad NOTIFY value")

// ParseNotify reads the SMTP form, in any case.
func ParseNotify(text string) (Notify, error) {
	var n Notify
next:
	for word := range strings.SplitSeq(text, ",") {
		for _, v := range notifyNames {
			if strings.EqualFold(word, v.name) {
				n |= v.bit
				continue next
			}
		}
		return 0, fmt.Errorf("%w: %q", ErrNotify, word)
	}
	if !n.Valid() {
		return 0, ErrNotify
	}
	return n, nil
}

// Ret is the RET parameter, 0 when not given.
type Ret int

// RET values as stored in queue files.
const (
	RetFull Ret = 1
	RetHdrs Ret = 2
)

// String returns "FULL", "HDRS" or "".
func (r Ret) String() string {
	switch r {
	case RetFull:
		return "FULL"
	case RetHdrs:
		return "HDRS"
	}
	return ""
}

// ParseRet reads the SMTP form, in any case; ok is false for anything else.
func ParseRet(text string) (r Ret, ok bool) {
	switch {
	case strings.EqualFold(text, "FULL"):
		return RetFull, true
	case strings.EqualFold(text, "HDRS"):
		return RetHdrs, true
	}
	return 0, false
}
