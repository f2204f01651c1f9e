package dns

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Probe finds out, at the first answer that DNSSEC does not vouch for, whether
// it vouches for anything: dnssec_probe is a question that a validating
// resolver can surely answer. Only a warning follows from it. It is safe for
// concurrent use; nil does nothing.
type Probe struct {
	resolver Resolver
	text     string // "ns:."
	kind     Type
	name     string
	warn     func(format string, a ...any)
	once     sync.Once
}

// NewProbe returns a Probe by way of r. text is dnssec_probe, "TYPE:NAME"; it is
// nil if that is empty.
func NewProbe(r Resolver, text string, warn func(format string, a ...any)) (*Probe, error) {
	if text == "" {
		return nil, nil
	}
	kind, name, ok := strings.Cut(text, ":")
	t, known := dns.StringToType[strings.ToUpper(kind)]
	if !ok || !known || name == "" {
		return nil, fmt.Errorf("malformed dnssec_probe value: %s format is qtype:qname", text)
	}
	return &Probe{resolver: r, text: text, kind: Type(t), name: name, warn: warn}, nil
}

// Check takes the outcome of a lookup. The first that is an answer, but one
// that DNSSEC does not vouch for, starts the probe.
func (p *Probe) Check(ctx context.Context, ans Answer, err error) {
	if answered, secure := vouched(ans, err); p != nil && answered && !secure {
		p.once.Do(func() { p.ask(ctx) })
	}
}

// vouched reports whether there was an answer, be it that there is nothing, and
// whether DNSSEC vouches for it.
func vouched(ans Answer, err error) (answered, secure bool) {
	if err == nil {
		return true, ans.Secure
	}
	e, ok := err.(*Error)
	return ok && e.Missing() && e.Short != notAsked, ok && e.Secure
}

func (p *Probe) ask(ctx context.Context) {
	ans, err := p.resolver.Lookup(ctx, p.name, p.kind)
	answered, secure := vouched(ans, err)
	if secure {
		return
	}
	p.warn("DNSSEC validation may be unavailable")
	if answered {
		p.warn("reason: dnssec_probe '%s' received a response that is not DNSSEC validated", p.text)
	} else {
		p.warn("reason: dnssec_probe '%s' received no response: %v", p.text, err)
	}
}
