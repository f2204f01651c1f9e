package local

import (
	"context"
	"strings"
)

// required are the addresses that every mail system must have (RFC 5321 §4.5.1);
// mail to them is not returned.
var required = map[string]bool{"mailer-daemon": true, "postmaster": true}

// unknown deals with an address that is neither alias nor user (delivery.md §3.9).
func (t *task) unknown(ctx context.Context, s state) (done bool) {
	if !t.first("unknown", s.local) {
		return true
	}
	if handled, done := t.byTransport(ctx, s, t.fallbacks, t.fallbackTransport); handled {
		return done
	}
	if handled, done := t.luser(ctx, s); handled {
		return done
	}
	if required[s.user] {
		t.job.Log.Warn("required alias not found: %s", s.user)
		return t.sent(ctx, &s, "discarded")
	}
	return t.failed(ctx, &s, "5.1.1", "unknown user: \""+s.user+"\"")
}

// luser delivers to the address that luser_relay makes of the recipient, unless
// that is the recipient.
func (t *task) luser(ctx context.Context, s state) (handled, done bool) {
	if t.luserRelay == "" {
		return false, false
	}
	m := macros{state: &s, delimiters: t.ext.Delimiters}
	to, err := m.expand(t.luserRelay, "")
	if err != nil {
		t.job.Log.Warn("bad luser_relay value syntax: %s: %v", t.luserRelay, err)
		return true, t.misconfigured(ctx, &s, "4.3.5")
	}
	addr, err := t.canonical(ctx, to)
	if err != nil {
		return true, t.unresolved(ctx, &s, to, err)
	}
	if strings.EqualFold(addr, s.rcpt.Address) {
		return true, t.failed(ctx, &s, "5.1.1", "unknown user: \""+s.user+"\"")
	}
	return true, t.resolve(ctx, s, addr)
}
