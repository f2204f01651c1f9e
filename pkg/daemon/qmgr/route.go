package qmgr

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"

	"posthaste/pkg/daemon/qmgr/sched"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

// route finds the destination of each recipient (spec §4.3) and sorts them by it.
// Recipients that need no delivery are left out.
func (m *manager) route(msg *message, rcpts []deliver.Recipient) []sched.Routed {
	env := msg.env
	if env.Redirect != "" {
		if msg.redirected {
			rcpts = nil
		}
		env.Unread = 0
		rcpts = rcpts[:min(len(rcpts), 1)]
		if len(rcpts) == 1 {
			msg.redirected = true
			rcpts[0].Address = m.redirect(env.Redirect)
		}
	}
	routed := make([]sched.Routed, 0, len(rcpts))
	for _, rcpt := range rcpts {
		if msg.logged[rcpt.Offset] {
			continue // its last failure is in the log that will be returned
		}
		if r, ok := m.routeOne(msg, rcpt); ok {
			r.Queue = m.queueName(r.Transport, r.Nexthop, r.Address)
			routed = append(routed, r)
		}
	}
	slices.SortStableFunc(routed, func(a, b sched.Routed) int {
		if c := cmp.Or(cmp.Compare(a.Transport, b.Transport), cmp.Compare(a.Queue, b.Queue)); c != 0 {
			return c
		}
		return compareAddress(a.Address, b.Address)
	})
	return routed
}

// compareAddress orders by domain, then by the whole address.
func compareAddress(a, b string) int {
	if c := cmp.Compare(strings.ToLower(domainOf(a)), strings.ToLower(domainOf(b))); c != 0 {
		return c
	}
	return cmp.Compare(a, b)
}

// redirect is the address of a redirect action in its canonical form.
func (m *manager) redirect(addr string) string {
	out, err := m.rewriter.Rewrite(m.ctx, rewrite.Local, address.Quote(addr))
	if err != nil {
		return addr
	}
	return address.Unquote(out)
}

// routeOne applies the table of §4.3, in which later rows win. ok is false for a
// recipient that is finished without a delivery.
func (m *manager) routeOne(msg *message, rcpt deliver.Recipient) (r sched.Routed, ok bool) {
	env := msg.env
	r.Recipient = rcpt
	flags := rewrite.Flags(0)
	switch {
	case env.Filter != "" && env.Redirect == "" && env.Trace&deliver.Probe == 0:
		r.Transport, r.Nexthop = m.filter(env.Filter, rcpt.Address)
	default:
		reply, err := m.resolver.resolve(m.ctx, question{env.Sender, rcpt.Address, env.Trace&deliver.MTAVerify != 0})
		switch {
		case errors.Is(err, rewrite.ErrAddress):
			reply.Flags = rewrite.Error
		case err != nil: // we are being stopped
			reply.Flags = rewrite.Fail
		}
		flags = reply.Flags
		r.Transport, r.Nexthop = reply.Transport, reply.NextHop
		if flags&(rewrite.Fail|rewrite.Error) == 0 && reply.Recipient != r.Address && reply.Recipient != "" && rcpt.Address != "" {
			r.Address = reply.Recipient
		}
	}
	to := func(transport, nexthop string) { r.Transport, r.Nexthop = transport, nexthop }
	if flags&rewrite.Fail != 0 {
		to(retryService, "4.3.0 address resolver failure")
	}
	if flags&rewrite.Error != 0 {
		to(m.errorService, "5.1.3 bad address syntax")
	}
	if rcpt.Address == "" {
		to(m.errorService, "5.1.3 null recipient address")
	}
	if msg.expire {
		to(retryService, "4.7.0 message is administratively expired")
	}
	if flags&rewrite.ClassLocal != 0 && strings.EqualFold(localOf(r.Address), m.doubleBounce) {
		m.discard(msg, rcpt)
		return r, false
	}
	if !msg.ignoreDefer && m.defers(r.Transport) {
		to(retryService, "4.3.2 deferred transport")
	}
	if msg.probe && m.probes.Load() > int64(m.probeLimit) {
		to(retryService, "4.3.2 Too many address verification requests")
	}
	return r, true
}

// filter is the destination that a content filter record names.
func (m *manager) filter(spec, rcpt string) (transport, nexthop string) {
	transport, nexthop, _ = strings.Cut(spec, ":")
	return transport, cmp.Or(nexthop, m.filterNexthop, domainOf(rcpt), m.myhostname)
}

// queueName is the name of a destination: the next hop, or the recipient at the next
// hop when the transport takes one recipient at a time.
func (m *manager) queueName(transport, nexthop, rcpt string) string {
	name := nexthop
	if transport != m.errorService && transport != retryService && m.transports.get(transport).RecipientLimit == 1 {
		local := localOf(rcpt)
		if user, _, ok := m.ext.Split(local); ok {
			local = user
		}
		name = local + "@" + nexthop
	}
	return lowerASCII(name)
}

// discard drops mail for the double-bounce address: it has nowhere to go.
func (m *manager) discard(msg *message, rcpt deliver.Recipient) {
	m.logDelivery(msg, rcpt, dsn.Status{Code: "2.0.0", Reason: "undeliverable postmaster notification discarded"}, "sent")
	f, err := m.spool.Open(queue.Active, msg.ID, os.O_RDWR)
	if err == nil {
		err = m.spool.Mark(f, rcpt.Offset)
		f.Close()
	}
	if err != nil {
		m.log.Warn("%s: update queue file: %v", msg.ID, maillog.Errno(err))
	}
}

// localOf and domainOf cut an internal address at its last @.
func localOf(addr string) string {
	if i := strings.LastIndexByte(addr, '@'); i >= 0 {
		return addr[:i]
	}
	return addr
}

func domainOf(addr string) string {
	if i := strings.LastIndexByte(addr, '@'); i >= 0 {
		return addr[i+1:]
	}
	return ""
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
