package rewrite

import (
	"context"
	"posthaste/pkg/table/localdomain"
	"strings"
	"unicode/utf8"

	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
)

// What a reply shows where nothing was found out.
const (
	noTransport = "CHANNEL NOT UPDATED"
	noNextHop   = "NEXTHOP NOT UPDATED"
	noRecipient = "NEXTRCPT NOT UPDATED"
)

// Resolve finds where mail for an address (in internal form) goes; verify asks for
// the address_verify_* parameters.
func (r *Resolver) Resolve(ctx context.Context, verify bool, sender, addr string) rewrite.Reply {
	route := &r.normal
	if verify {
		route = &r.probe
	}
	a := r.strip(ctx, addr)
	reply := rewrite.Reply{Transport: noTransport, NextHop: noNextHop, Recipient: a.recipient}
	if a.fail {
		reply.Recipient, reply.Flags = noRecipient, rewrite.Fail
		return reply
	}
	if !r.checkDomain(ctx, &a) {
		reply.Recipient, reply.Flags = a.recipient, rewrite.Error|rewrite.ClassDefault
		return reply
	}
	reply.Recipient = a.recipient
	if i := strings.IndexAny(a.recipient, "@!%"); i < 0 || a.recipient[i+1:] != a.domain {
		reply.Flags |= rewrite.Routed
	}
	if a.fail || !r.classify(ctx, route, sender, a, &reply) || !r.tables(ctx, route, a, &reply) {
		reply.Flags |= rewrite.Fail
		return reply
	}
	if !r.allowMinus && strings.HasPrefix(reply.Recipient, "-") {
		reply.Flags |= rewrite.Error
	}
	return reply
}

// stripped is an address without its local domains.
type stripped struct {
	recipient string // internal form, with the final domain
	domain    string // the final domain, as in recipient
	local     bool
	fail      bool // a table could not be asked
}

// strip takes local domains off an address until a domain that is not local, or
// nothing, is left.
func (r *Resolver) strip(ctx context.Context, addr string) stripped {
	l := address.Scan(address.Quote(addr), 0)
	var saved address.List // the domain that was stripped last, with its @
	rounds := len(addr) + 100
	for ; rounds > 0; rounds-- {
		if n := len(l); n >= 2 && l[n-1].Is('.') && first(l, '@') >= 0 && !l[n-2].Is('.') && !l[n-2].Is('@') {
			l = l[:n-1]
		}
		if n := len(l); r.nullDomain && n > 0 && l[n-1].Is('@') {
			l = l[:n-1]
		}
		if at := last(l, '@'); at >= 0 {
			domain := text(l[at+1:])
			if domain != "" {
				local, err := r.local.Match(ctx, domain)
				if err != nil {
					return stripped{fail: true}
				}
				if !local {
					return stripped{recipient: text(l), domain: domain}
				}
			}
			saved, l = l[at:], l[:at]
		}
		if first(l, '@') >= 0 || r.syntax.SwapBangPath && first(l, '!') >= 0 || r.syntax.PercentHack && first(l, '%') >= 0 {
			l = r.syntax.rewrite(r.contexts[rewrite.Local], l)
			continue
		}
		if inner, ok := r.opened(l); ok {
			l = r.syntax.rewrite(r.contexts[rewrite.Local], address.Scan(inner, 0))
			continue
		}
		if len(l) == 0 || len(l) == 1 && l[0].Kind == address.Quoted && l[0].Text == "" {
			l = address.Scan(r.emptyRecipient, 0)
			continue
		}
		if saved == nil {
			l = append(l[:len(l):len(l)], address.Scan("@"+r.myhostname, 0)...)
			continue
		}
		domain := text(saved[1:])
		l = append(l[:len(l):len(l)], saved...)
		return stripped{recipient: text(l), domain: domain, local: true}
	}
	r.log.Warn("resolve_addr: <%s>: giving up after %d iterations", addr, len(addr)+100)
	return stripped{fail: true}
}

// opened takes the quotes off a local part that is an address itself
// (resolve_dequoted_address); the result is in external form.
func (r *Resolver) opened(l address.List) (string, bool) {
	if !r.dequote || len(l) != 1 || l[0].Kind != address.Quoted {
		return "", false
	}
	inner := l[0].Text
	i := strings.LastIndexFunc(inner, func(c rune) bool {
		return c == '@' || c == '%' && r.syntax.PercentHack || c == '!' && r.syntax.SwapBangPath
	})
	if i < 0 {
		return "", false
	}
	if inner[i] == '%' {
		inner = inner[:i] + "@" + inner[i+1:]
	}
	if inner[i] == '!' {
		return inner, true
	}
	return address.Quote(inner), true
}

// checkDomain checks the syntax of the final domain.
func (r *Resolver) checkDomain(ctx context.Context, a *stripped) bool {
	if a.domain == "" {
		return false
	}
	if a.domain[0] == '[' {
		_, ok := localdomain.ParseLiteral(a.domain)
		return ok
	}
	if r.utf8 && !utf8.ValidString(a.recipient) {
		return false
	}
	bracketed, numeric := bareIP(a.domain)
	if !numeric {
		return validHost(a.domain, r.utf8)
	}
	if !r.numericDomain {
		return false
	}
	a.recipient = strings.TrimSuffix(a.recipient, a.domain) + bracketed
	a.domain = bracketed
	if !a.local {
		local, err := r.local.Match(ctx, bracketed)
		a.local, a.fail = local, err != nil
	}
	return true
}
