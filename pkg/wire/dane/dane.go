// Package dane finds what the name service says about the certificate of a mail
// server: its TLSA records, as far as DNSSEC vouches for them (RFC 7672,
// delivery.md §2.11). What follows from them is said by package mailtls.
package dane

import (
	"context"
	"fmt"
	"strings"

	"posthaste/pkg/wire/dns"
	mailtls "posthaste/pkg/wire/tls"
)

// Finder looks up TLSA records. It is safe for concurrent use.
type Finder struct {
	Resolver dns.Resolver // which tells what DNSSEC vouches for
	Force    bool         // smtp_tls_force_insecure_host_tlsa_lookup
	Log      mailtls.Logger
	Trace    bool // log the records that are found
}

// Host is a server whose addresses are known.
type Host struct {
	Name   string // as an MX record or a configuration has it
	Actual string // the name at the end of its aliases, "" if the addresses are not from DNS
	Secure bool   // DNSSEC vouches for the addresses
	Port   uint16
}

// Result is what was found.
type Result struct {
	Found   bool           // there are records, usable or not
	Base    string         // the name they belong to, which is the server's name in TLS
	Records []mailtls.TLSA // those of a usage that is of use to mail
}

// attempts is how often a lookup is tried that fails.
const attempts = 2

// Find looks up the records of a host. The name at the end of its aliases comes
// first, if the way there is secure. An error says that the name service could
// not answer: the server must not be used then. It has been logged.
func (f *Finder) Find(ctx context.Context, h Host) (Result, error) {
	if _, literal := dns.ParseAddr(h.Name); literal || h.Actual == "" {
		return Result{}, nil
	}
	alias := !strings.EqualFold(h.Name, h.Actual)
	if h.Secure {
		r, err := f.base(ctx, h.Actual, h.Port)
		if err != nil || r.Found || !alias {
			return r, err
		}
		return f.base(ctx, h.Name, h.Port)
	}
	if !f.Force {
		if !alias {
			return Result{}, nil
		}
		secure, err := f.secureAlias(ctx, h.Name)
		if err != nil || !secure {
			return Result{}, err
		}
	}
	return f.base(ctx, h.Name, h.Port)
}

// secureAlias reports whether DNSSEC vouches for an alias, wherever it leads.
func (f *Finder) secureAlias(ctx context.Context, name string) (bool, error) {
	ans, err := f.Resolver.Lookup(ctx, name, dns.CNAME)
	if err != nil && !missing(err) {
		f.Log.Warn("DANE TLSA lookup problem: %v", err)
		return false, err
	}
	return err == nil && ans.Secure, nil
}

func missing(err error) bool {
	status := dns.StatusOf(err)
	return status == dns.NotFound || status == dns.NoData
}

// base looks up the records of one name.
func (f *Finder) base(ctx context.Context, name string, port uint16) (Result, error) {
	question := fmt.Sprintf("_%d._tcp.%s", port, name)
	var ans dns.Answer
	var err error
	for range attempts {
		ans, err = f.Resolver.Lookup(ctx, question, dns.TLSA)
		if err == nil || missing(err) {
			break
		}
		f.Log.Warn("DANE TLSA lookup problem: %v", err)
	}
	switch {
	case err != nil && !missing(err):
		return Result{}, err
	case err != nil || !ans.Secure:
		return Result{}, nil
	}
	r := Result{Found: true, Base: name}
	for _, rr := range ans.Records {
		if rr.Short {
			f.Log.Warn("%s: truncated TLSA RR length == %d", question, len(rr.Data))
			continue
		}
		t := mailtls.TLSA{Usage: int(rr.Usage), Selector: int(rr.Select), MatchType: int(rr.Match), Data: rr.Data}
		if f.ofUse(question, t) {
			r.Records = append(r.Records, t)
		}
	}
	return r, nil
}

// ofUse leaves out records that no certificate of a mail server can match.
func (f *Finder) ofUse(question string, t mailtls.TLSA) bool {
	switch {
	case t.Usage != mailtls.UsageTrustAnchor && t.Usage != mailtls.UsageEndEntity:
		f.Log.Warn("%s unsupported TLSA certificate usage: %s", question, t)
	case t.MatchType == mailtls.MatchPrivate:
		f.Log.Warn("%s reserved private-use matching type: %s", question, t)
	default:
		if f.Trace {
			f.Log.Info("DNSSEC-signed TLSA record: %s: %s", question, t)
		}
		return true
	}
	return false
}
