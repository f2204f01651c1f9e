// Package dns asks the domain name system and the system's own host database
// on behalf of the mail programs (spec delivery.md §2.3, smtpd.md §4.4).
//
// Resolver is the interface that programs use: Client asks the servers of
// /etc/resolv.conf through github.com/miekg/dns, Fake answers from a table in
// tests. Native asks the system (hosts file, NSS). Errors are *Error with a
// Status; an empty answer is always an error, so that an Answer without one
// holds at least one record. Nothing here logs; what a caller should warn
// about is in Answer.Warnings.
package dns

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Type is a DNS record type.
type Type uint16

// Record types that mail programs ask for.
const (
	A     = Type(dns.TypeA)
	NS    = Type(dns.TypeNS)
	CNAME = Type(dns.TypeCNAME)
	SOA   = Type(dns.TypeSOA)
	PTR   = Type(dns.TypePTR)
	MX    = Type(dns.TypeMX)
	TXT   = Type(dns.TypeTXT)
	AAAA  = Type(dns.TypeAAAA)
	SRV   = Type(dns.TypeSRV)
	TLSA  = Type(dns.TypeTLSA)
)

func (t Type) String() string { return dns.Type(t).String() }

// Limits of one answer.
const (
	MaxRecords = 100 // records used of one answer (dns_rr_list_limit)
	maxCNAME   = 10  // aliases followed
	maxTXT     = 500 // bytes of TXT data kept

	tlsaNumbers = 3 // octets of a TLSA record before its data
)

// Record is one resource record. Only the fields of its type are set.
type Record struct {
	Name string // owner, without trailing dot
	Type Type
	TTL  uint32 // seconds
	// Host is the name an MX, NS, PTR, CNAME or SRV record points to, without
	// trailing dot.
	Host   string
	Pref   uint16     // MX preference, SRV priority
	Weight uint16     // SRV
	Port   uint16     // SRV
	Addr   netip.Addr // A, AAAA
	Text   string     // TXT: the strings joined, non-printables as '?'
	Usage  uint8      // TLSA
	Select uint8      // TLSA selector
	Match  uint8      // TLSA matching type
	Data   []byte     // TLSA association data
	Short  bool       // TLSA: without its three numbers; Data is all there is
}

// Answer is what a name has of one type.
type Answer struct {
	Records  []Record // never empty without an error
	Name     string   // the name that has them, at the end of a chain of aliases
	Secure   bool     // the resolver vouches for all of it (DNSSEC)
	Warnings []string // for the log
}

// Status is the outcome of a failed lookup, in increasing precedence when
// several lookups about one host differ.
type Status byte

const (
	NotFound  Status = iota + 1 // the name does not exist, or cannot
	NoData                      // the name has no record of this type
	NullMX                      // the domain says that it takes no mail (RFC 7505)
	Fail                        // the server refused for good
	Invalid                     // a name in the answer is malformed
	Temporary                   // no usable answer now: SERVFAIL, timeout
	Policy                      // a dns_reply_filter dropped all of the answer
)

// Error is a failed lookup.
type Error struct {
	Status Status
	Name   string
	Type   Type
	// Text is Postfix's description of the outcome, e.g. "Host or domain
	// name not found. Name service error for name=a.example type=MX: Host
	// not found, try again".
	Text string
	// Short is only its last part: "Host not found, try again".
	Short  string
	Secure bool   // a NotFound or NoData that the resolver vouches for
	TTL    uint32 // of a negative answer, seconds (SOA), 0 if unknown
}

func (e *Error) Error() string { return e.Text }

// Soft reports whether trying later may help.
func (e *Error) Soft() bool { return e.Status == Temporary }

// Missing reports whether the answer was that there is nothing.
func (e *Error) Missing() bool { return e.Status == NotFound || e.Status == NoData }

// StatusOf is the status of a lookup's error, 0 for nil, Temporary for an
// error that is not an *Error (a cancelled context, say).
func StatusOf(err error) Status {
	if err == nil {
		return 0
	}
	if e, ok := err.(*Error); ok {
		return e.Status
	}
	return Temporary
}

// Worse returns the more significant of two lookup errors: the higher status
// wins, and of equals the second. NoData and NotFound count as equal. A nil
// error, a success, wins over all.
func Worse(a, b error) error {
	if a == nil || b == nil {
		return nil
	}
	rank := func(err error) Status {
		if s := StatusOf(err); s != NoData {
			return s
		}
		return NotFound
	}
	if rank(a) > rank(b) {
		return a
	}
	return b
}

// Resolver answers questions about names.
type Resolver interface {
	// Lookup returns the records of one type that name has, following
	// aliases. A name in non-ASCII letters is converted to A-labels. The
	// error is an *Error, or the context's.
	Lookup(ctx context.Context, name string, t Type) (Answer, error)
}

var shortText = map[Status]string{
	NotFound:  "Host not found",
	NoData:    "Host found but no data record of requested type",
	Fail:      "Non-recoverable error",
	Invalid:   "Malformed or unexpected name server reply",
	Temporary: "Host not found, try again",
	Policy:    "DNS reply filter drops all results",
}

// NewError makes the Error of a status with Postfix's texts.
func NewError(status Status, name string, t Type) *Error {
	e := &Error{Status: status, Name: name, Type: t, Short: shortText[status]}
	switch status {
	case NullMX:
		e.Short = fmt.Sprintf("Domain %s does not accept mail (nullMX)", name)
		e.Text = e.Short
	case Policy:
		e.Text = fmt.Sprintf("Error looking up name=%s type=%s: %s", name, t, e.Short)
	case Invalid:
		e.Text = fmt.Sprintf("Name service error for name=%s type=%s: %s", name, t, e.Short)
	default:
		e.Text = fmt.Sprintf("Host or domain name not found. Name service error for name=%s type=%s: %s", name, t, e.Short)
	}
	return e
}

// notAsked is the text of an error that no server was asked about.
const notAsked = "invalid host or domain name"

// badName is the error for a name that cannot be asked for.
func badName(name string, t Type) *Error {
	return &Error{Status: NotFound, Name: name, Type: t, Short: notAsked,
		Text: fmt.Sprintf("Name service error for %s: invalid host or domain name", name)}
}

// Addresses returns the addresses of a host: A records if ipv4 is set, then
// AAAA records if ipv6 is set. One family suffices; without any the error is
// the worse of the two.
func Addresses(ctx context.Context, r Resolver, host string, ipv4, ipv6 bool) (Answer, error) {
	var all Answer
	var bad error
	asked, found, secure := false, false, true
	for _, q := range []struct {
		t  Type
		on bool
	}{{A, ipv4}, {AAAA, ipv6}} {
		if !q.on {
			continue
		}
		ans, err := r.Lookup(ctx, host, q.t)
		all.Warnings = append(all.Warnings, ans.Warnings...)
		if err != nil {
			if asked && !found {
				err = Worse(bad, err)
			}
			bad, asked = err, true
			continue
		}
		found = true
		secure = secure && ans.Secure
		all.Name = ans.Name
		all.Records = append(all.Records, ans.Records...)
	}
	all.Secure = found && secure
	switch {
	case found:
		return all, nil
	case bad == nil:
		return all, &Error{Status: Temporary, Name: host, Type: A, Text: "all network protocols are disabled", Short: "all network protocols are disabled"}
	}
	return all, bad
}

// ReverseName is the name under which the PTR records of an address are.
func ReverseName(addr netip.Addr) string {
	name, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(name, ".")
}
