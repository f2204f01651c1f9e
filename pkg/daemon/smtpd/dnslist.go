package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/wire/dns"
)

// addrPattern is the PATTERN of "domain=PATTERN": what each octet of an
// address may be. nil matches every address (spec §4.7).
type addrPattern *[4][256]bool

// parseAddrPattern reads four fields separated by dots, each an octet or
// "[a;b;c..d]".
func parseAddrPattern(text string) (addrPattern, error) {
	var p [4][256]bool
	rest := text
	for i := range p {
		var err error
		if rest, err = parseField(rest, &p[i]); err != nil {
			return nil, err
		}
		if i < 3 {
			if !strings.HasPrefix(rest, ".") {
				return nil, fmt.Errorf("need four fields in address pattern")
			}
			rest = rest[1:]
		}
	}
	if rest != "" {
		return nil, fmt.Errorf("garbage at end of address pattern")
	}
	return &p, nil
}

// parseField reads one field and returns what follows it.
func parseField(text string, set *[256]bool) (rest string, err error) {
	if !strings.HasPrefix(text, "[") {
		n, rest, err := parseOctet(text)
		if err == nil {
			set[n] = true
		}
		return rest, err
	}
	text = text[1:]
	for {
		low, rest, err := parseOctet(text)
		if err != nil {
			return "", err
		}
		high := low
		if strings.HasPrefix(rest, "..") {
			if high, rest, err = parseOctet(rest[2:]); err != nil {
				return "", err
			}
			if high < low {
				return "", fmt.Errorf("bad range %d..%d in address pattern", low, high)
			}
		}
		for n := low; n <= high; n++ {
			set[n] = true
		}
		switch {
		case strings.HasPrefix(rest, "]"):
			return rest[1:], nil
		case !strings.HasPrefix(rest, ";"):
			return "", fmt.Errorf("need \";\" or \"]\" in address pattern")
		}
		text = rest[1:]
	}
}

func parseOctet(text string) (n int, rest string, err error) {
	digits := 0
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		digits++
	}
	if digits == 0 {
		return 0, "", fmt.Errorf("need a number in address pattern")
	}
	n, err = strconv.Atoi(text[:digits])
	if err != nil || n > 255 {
		return 0, "", fmt.Errorf("number out of range in address pattern")
	}
	return n, text[digits:], nil
}

func matchesPattern(p addrPattern, a netip.Addr) bool {
	if p == nil {
		return true
	}
	if !a.Is4() {
		return false
	}
	for i, octet := range a.As4() {
		if !p[i][octet] {
			return false
		}
	}
	return true
}

// reversed is the name under which a DNS list has an address, without the
// list's domain: "1.2.0.192", or 32 nibbles.
func reversed(a netip.Addr) string {
	name := strings.TrimSuffix(dns.ReverseName(a), ".ip6.arpa")
	return strings.TrimSuffix(name, ".in-addr.arpa")
}

// Limits of the cache of DNS list queries. The original keeps answers as long
// as a process lives, which serves a hundred clients; our processes live
// longer, so answers grow old here, at the latest when their own life is over.
const (
	listCacheSize  = 100 // queries
	listCacheLife  = 5 * time.Minute
	listErrorLife  = 30 * time.Second
	listLookupTime = 100 * time.Second // for all of one query
)

// listAnswer is what a DNS list says about one query. It is complete when done
// is closed and does not change any more then.
type listAnswer struct {
	done     chan struct{}
	expires  time.Time
	addrs    []netip.Addr
	text     string // TXT records, joined
	err      error  // of a lookup that failed
	warnings []string
}

// listCache asks DNS lists. Sessions that ask the same wait for one lookup;
// others do not wait for it.
type listCache struct {
	mu      sync.Mutex
	answers map[string]*listAnswer
	order   []string // by first use
}

// errNotListed marks an answer without records.
var errNotListed = errors.New("not listed")

// ask returns the answer to a query, complete. first says that this call made
// the lookup, and has to report what went wrong. The error is the context's.
func (c *listCache) ask(ctx context.Context, r dns.Resolver, query string) (a *listAnswer, first bool, err error) {
	now := time.Now()
	c.mu.Lock()
	a = c.answers[query]
	if a != nil && a.old(now) {
		c.remove(query)
		a = nil
	}
	if a == nil {
		first = true
		a = &listAnswer{done: make(chan struct{})}
		if c.answers == nil {
			c.answers = map[string]*listAnswer{}
		}
		if len(c.order) >= listCacheSize {
			c.remove(c.order[0])
		}
		c.answers[query] = a
		c.order = append(c.order, query)
		// The lookup is nobody's in particular: who began it may hang up.
		lookupCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listLookupTime)
		go func() {
			defer cancel()
			a.lookup(lookupCtx, r, query)
		}()
	}
	c.mu.Unlock()
	select {
	case <-a.done:
		return a, first, nil
	case <-ctx.Done():
		return nil, first, ctx.Err()
	}
}

func (c *listCache) remove(query string) {
	delete(c.answers, query)
	for i, q := range c.order {
		if q == query {
			c.order = append(c.order[:i:i], c.order[i+1:]...)
			return
		}
	}
}

// old reports whether a complete answer has outlived itself.
func (a *listAnswer) old(now time.Time) bool {
	select {
	case <-a.done:
		return now.After(a.expires)
	default:
		return false
	}
}

// lookup completes the answer.
func (a *listAnswer) lookup(ctx context.Context, r dns.Resolver, query string) {
	defer close(a.done)
	life := listCacheLife
	ttl := func(seconds uint32) { life = min(life, time.Duration(seconds)*time.Second) }
	defer func() { a.expires = time.Now().Add(life) }()
	ans, err := r.Lookup(ctx, query, dns.A)
	a.warnings = ans.Warnings
	var e *dns.Error
	switch {
	case err == nil:
	case errors.As(err, &e) && e.Missing():
		a.err = errNotListed
		if e.TTL > 0 {
			ttl(e.TTL)
		}
		return
	default:
		a.err, life = err, listErrorLife
		return
	}
	for _, rr := range ans.Records {
		a.addrs = append(a.addrs, rr.Addr)
		ttl(rr.TTL)
	}
	if ans, err = r.Lookup(ctx, query, dns.TXT); err == nil {
		a.text = joinTexts(ans.Records)
	}
}

// maxReason is how much of the texts of a list is kept, in bytes.
const maxReason = 500

func joinTexts(records []dns.Record) string {
	var b strings.Builder
	for i, rr := range records {
		if i > 0 {
			b.WriteString(" / ")
		}
		b.WriteString(rr.Text)
		if b.Len() >= maxReason {
			return b.String()[:maxReason]
		}
	}
	return b.String()
}

// listed reports whether any address of the answer is in the pattern.
func (a *listAnswer) listed(p addrPattern) bool {
	for _, addr := range a.addrs {
		if matchesPattern(p, addr) {
			return true
		}
	}
	return false
}
