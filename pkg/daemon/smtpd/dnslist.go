package smtpd

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/wire/dns"
)

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
	listShortLife  = 30 * time.Second  // of errors, and of answers whose own life is shorter
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
		go func(a *listAnswer) {
			defer cancel()
			a.lookup(lookupCtx, r, query)
		}(a)
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
	defer func() { a.expires = time.Now().Add(max(life, listShortLife)) }()
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
		a.err, life = err, listShortLife
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
func (a *listAnswer) listed(p *dns.AddrPattern) bool {
	for _, addr := range a.addrs {
		if p.Matches(addr) {
			return true
		}
	}
	return false
}
