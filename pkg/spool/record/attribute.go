package record

import (
	"bytes"
	"errors"
)

// Errors of ParseAttr, worded as Postfix logs them (spec queue.md §2.5).
var (
	ErrNoAttrName  = errors.New("missing attribute name")
	ErrNoAttrEqual = errors.New("missing '=' after attribute name")
)

// ParseAttr splits the data of an attribute record at '=' and strips the
// white space around name and value.
func ParseAttr(data []byte) (name, value string, err error) {
	n, v, err := CutAttr(data)
	return string(n), string(v), err
}

// CutAttr is ParseAttr that returns parts of data.
func CutAttr(data []byte) (name, value []byte, err error) {
	const space = " \t\n\v\f\r"
	n, v, ok := bytes.Cut(data, []byte{'='})
	n = bytes.Trim(n, space)
	if len(n) == 0 {
		return nil, nil, ErrNoAttrName
	}
	if !ok || bytes.ContainsAny(n, space) {
		return nil, nil, ErrNoAttrEqual
	}
	return n, bytes.Trim(v, space), nil
}

var pseudo = [...]struct {
	name string
	t    Type
}{
	{"dsn_orig_rcpt", TypeDSNOrigRcpt},
	{"notify_flags", TypeDSNNotify},
	{"envelope_id", TypeDSNEnvID},
	{"ret_flags", TypeDSNRet},
	{"create_time", TypeCreateTime},
}

// Pseudo is the record type that an attribute of this name stands for, if it
// stands for one (spec queue.md §2.2).
func Pseudo(name string) (Type, bool) {
	for _, p := range pseudo {
		if p.name == name {
			return p.t, true
		}
	}
	return 0, false
}
