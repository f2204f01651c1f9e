// Package attr is the encoding in which Posthaste's programs talk to each
// other: lists of named values (spec ipc.md §1.1).
//
// A list is a sequence of attributes and an end mark. In the Null coding an
// attribute is "name\0value\0" and the end mark an empty name; in the Plain
// coding it is "name=value\n" and an empty line. Order is significant: a
// receiver scans forward for what it wants and skips what it does not know.
//
// Nothing here logs or ends a process. Errors are returned: io.EOF when the
// peer closed before the first byte of a list, *Error for everything that
// breaks the encoding, and the error of the underlying reader (a passed
// deadline, say) wrapped in *Error otherwise.
package attr

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
)

// Codec is a wire encoding of attribute lists.
type Codec byte

const (
	Null  Codec = iota // name\0value\0 ... \0: every service but anvil
	Plain              // name=value\n ... \n: anvil, policy services, cache properties
)

// Limits of one list; a peer that goes past them breaks the protocol.
const (
	MaxValue   = 1 << 20 // bytes of one name or value
	MaxCount   = 100_000 // attributes of a list read as a whole
	MaxEntries = 1024    // entries of a hash attribute (spec ipc.md §1.1)
)

// Attr is one named value. Hash is non-nil for the unnamed string table
// "{ ... }" of the Null coding, whose Name is "{" and whose Value is empty.
type Attr struct {
	Name  string
	Value string
	Hash  []Attr
}

// List is an attribute list in the order in which it crossed the wire.
type List []Attr

// Error says how a list broke the encoding. Its text is what Postfix logs.
type Error struct {
	Text string
	Err  error // the reader's error, if there was one
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Err }

// FormatInt formats a 32-bit number as it is sent: unsigned, so that -1 is
// 4294967295.
func FormatInt(n int) string { return strconv.FormatUint(uint64(uint32(n)), 10) }

// FormatLong formats a 64-bit number as it is sent: unsigned.
func FormatLong(n int64) string { return strconv.FormatUint(uint64(n), 10) }

var errNumber = errors.New("malformed numerical data")

// ParseInt reads a 32-bit number, modulo its size, with an optional minus.
func ParseInt(s string) (int, error) {
	n, err := ParseLong(s)
	return int(int32(n)), err
}

// ParseLong reads a 64-bit number, modulo its size, with an optional minus.
func ParseLong(s string) (int64, error) {
	digits, negative := s, false
	if len(s) > 0 && s[0] == '-' {
		digits, negative = s[1:], true
	}
	u, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %.100s", errNumber, s)
	}
	n := int64(u)
	if negative {
		n = -n
	}
	return n, nil
}

// Field is a place for one wanted attribute: see List.Scan.
type Field struct {
	name string
	set  func(string) error
	hash *[]Attr
}

// Str wants a string.
func Str(name string, p *string) Field {
	return Field{name: name, set: func(v string) error { *p = v; return nil }}
}

// Int wants a 32-bit number.
func Int(name string, p *int) Field {
	return Field{name: name, set: func(v string) (err error) { *p, err = ParseInt(v); return }}
}

// Long wants a 64-bit number.
func Long(name string, p *int64) Field {
	return Field{name: name, set: func(v string) (err error) { *p, err = ParseLong(v); return }}
}

// Data wants base64-coded bytes.
func Data(name string, p *[]byte) Field {
	return Field{name: name, set: func(v string) (err error) {
		*p, err = base64.StdEncoding.DecodeString(v)
		if err != nil {
			return fmt.Errorf("malformed base64 data: %.100s", v)
		}
		return nil
	}}
}

// Hash wants a string table.
func Hash(p *[]Attr) Field { return Field{name: "{", hash: p} }

// Scan takes the wanted fields out of l in order, skipping attributes of
// other names, and returns how many it found. Fewer than wanted comes with an
// *Error naming the first that was missing or malformed; from is the peer's
// name in that text ("cleanup socket").
func (l List) Scan(from string, fields ...Field) (int, error) {
	i := 0
	for n, f := range fields {
		for i < len(l) && l[i].Name != f.name {
			i++
		}
		if i == len(l) {
			return n, &Error{Text: fmt.Sprintf("missing attribute %s in input from %s", f.name, from)}
		}
		if f.hash != nil {
			*f.hash = l[i].Hash
		} else if err := f.set(l[i].Value); errors.Is(err, errNumber) {
			return n, &Error{Text: fmt.Sprintf("%v from %s while reading input attribute value: %.100s", errNumber, from, l[i].Value)}
		} else if err != nil {
			return n, &Error{Text: fmt.Sprintf("%v from %s while reading input attribute %s", err, from, f.name)}
		}
		i++
	}
	return len(fields), nil
}

// Get returns the first value of that name.
func (l List) Get(name string) (string, bool) {
	for i := range l {
		if l[i].Name == name {
			return l[i].Value, true
		}
	}
	return "", false
}
