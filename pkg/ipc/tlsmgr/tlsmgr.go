// Package tlsmgr is the protocol in which TLS clients and servers ask for what
// they share: random seeds, the keys of session tickets, and cached sessions
// (spec ipc.md §2.11). A connection carries any number of requests.
//
// What a session is, is the business of those who store it: OpenSSL's form is
// as good as any other.
package tlsmgr

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"posthaste/pkg/ipc/attr"
)

// Protocol is what the server announces.
const Protocol = "tlsmgr_protocol"

// Requests.
const (
	Seed      = "seed"    // random bytes
	Policy    = "policy"  // whether sessions are cached, and how long
	Lookup    = "lookup"  // a cached session
	Update    = "update"  // store a session
	Delete    = "delete"  // forget one
	TicketKey = "tktkey"  // a key for session tickets
	attrName  = "request" // the attribute that says which
)

// Types of caches.
const (
	CacheSMTPD = "smtpd"
	CacheSMTP  = "smtp"
	CacheLMTP  = "lmtp"
)

// Statuses.
const (
	OK     = 0
	Failed = -1 // not found, or not to be had
	Bad    = -2 // malformed, or there is no such cache
)

// MaxSeed is how many bytes one seed request can ask for.
const MaxSeed = 255

// KeyNameLen is the length of a ticket key's name, in bytes.
const KeyNameLen = 16

// keyLen is the length of a key as it is sent: name, cipher key, MAC key, time.
const keyLen = KeyNameLen + 32 + 32 + 8

// Key is a key for session tickets.
type Key struct {
	Name   [KeyNameLen]byte
	Cipher [32]byte
	MAC    [32]byte
	Until  time.Time // tickets are sealed with it until then, and opened for longer
}

// MarshalBinary is the form in which a key is sent.
func (k Key) MarshalBinary() ([]byte, error) {
	out := make([]byte, 0, keyLen)
	out = append(append(append(out, k.Name[:]...), k.Cipher[:]...), k.MAC[:]...)
	return binary.NativeEndian.AppendUint64(out, uint64(k.Until.Unix())), nil
}

// UnmarshalBinary reads it.
func (k *Key) UnmarshalBinary(data []byte) error {
	if len(data) != keyLen {
		return fmt.Errorf("invalid session ticket key length: %d", len(data))
	}
	copy(k.Name[:], data)
	copy(k.Cipher[:], data[KeyNameLen:])
	copy(k.MAC[:], data[KeyNameLen+32:])
	k.Until = time.Unix(int64(binary.NativeEndian.Uint64(data[KeyNameLen+64:])), 0)
	return nil
}

// Request is one request. Which of the fields are of use depends on its name.
type Request struct {
	Name    string
	Size    int    // seed
	Cache   string // policy, lookup, update, delete
	ID      string // lookup, update, delete
	Session []byte // update
	KeyName []byte // tktkey; empty is the current key
}

// ErrUnknown is returned for a request with another name, which gets no reply.
var ErrUnknown = errors.New("unknown request")

// field is a wanted attribute.
type field struct {
	name string
	set  func(*Request, string) error
}

var (
	cacheField = field{"cache_type", func(r *Request, v string) error { r.Cache = v; return nil }}
	idField    = field{"cache_id", func(r *Request, v string) error { r.ID = v; return nil }}
)

// requests says what attributes belong to a request, in order.
var requests = map[string][]field{
	Seed: {{"size", func(r *Request, v string) (err error) {
		if r.Size, err = attr.ParseInt(v); err != nil {
			err = errNumber
		}
		return err
	}}},
	Policy: {cacheField},
	Lookup: {cacheField, idField},
	Delete: {cacheField, idField},
	Update: {cacheField, idField, {"session", func(r *Request, v string) (err error) {
		r.Session, err = parseData(v)
		return err
	}}},
	TicketKey: {{"keyname", func(r *Request, v string) (err error) {
		r.KeyName, err = parseData(v)
		return err
	}}},
}

var (
	errNumber = errors.New("malformed numerical data")
	errData   = errors.New("malformed base64 data")
)

func parseData(v string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(v)
	if err != nil {
		return nil, errData
	}
	return data, nil
}

// Parse reads a request from a list. warn takes what is wrong with it, in the
// words of the log; from is the peer's name there. Without an error all
// attributes are there. ErrUnknown is for a request that gets no reply; any
// other error is for one that gets status Bad, and was told to warn. The list
// may have more attributes than belong to the request: that is only warned of.
func Parse(list attr.List, from string, warn func(format string, a ...any)) (r Request, err error) {
	if len(list) == 0 {
		return r, ErrUnknown
	}
	if list[0].Name != attrName {
		warn("unexpected attribute %.100s from %s (expecting: %s)", list[0].Name, from, attrName)
		return r, errors.New("no request")
	}
	r.Name = list[0].Value
	fields, known := requests[r.Name]
	if !known {
		return r, ErrUnknown
	}
	rest := list[1:]
	for _, f := range fields {
		switch {
		case len(rest) == 0:
			err = fmt.Errorf("missing attribute %s in input from %s", f.name, from)
		case rest[0].Name != f.name:
			err = fmt.Errorf("unexpected attribute %.100s from %s (expecting: %s)", rest[0].Name, from, f.name)
		default:
			if err = f.set(&r, rest[0].Value); err != nil {
				err = fmt.Errorf("%w from %s while reading input attribute value: %.100s", err, from, rest[0].Value)
			}
		}
		if err != nil {
			warn("%v", err)
			return r, err
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		warn("unexpected attribute %.100s from %s (expecting: (list terminator))", rest[0].Name, from)
	}
	return r, nil
}
