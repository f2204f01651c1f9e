package qmgr

import (
	"strings"
	"time"

	"posthaste/pkg/daemon/qmgr/sched"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
)

// deferAll writes recipients to the defer log when even the retry transport cannot do
// that (spec §4.3, end of the table).
func (m *manager) deferAll(e *sched.Entry, why sched.Reason) {
	msg := e.Message.Info.(*message)
	st := dsn.Status{Code: why.Status, Action: "delayed", Reason: why.Text}
	for _, rcpt := range e.Recipients {
		m.deferOne(msg, rcpt, st)
	}
}

func (m *manager) deferOne(msg *message, rcpt deliver.Recipient, st dsn.Status) {
	trace := msg.env.Trace
	switch {
	case trace&deliver.MTAVerify != 0:
		for _, a := range []string{rcpt.Original, rcpt.Address} {
			if a != "" && (a == rcpt.Original || !strings.EqualFold(a, rcpt.Original)) {
				m.verifier.Update(m.ctx, a, verify.Deferred, st.Reason)
			}
		}
		m.logDelivery(msg, rcpt, st, "undeliverable")
		return
	case trace&deliver.UsrVerify != 0:
		st.Action = "undeliverable"
		if m.notices.Append(m.ctx, m.services.Trace, msg.ID, bounce.Flags(trace), rcpt, st) != nil {
			m.log.Warn("%s: trace service failure", msg.ID)
		}
		m.logDelivery(msg, rcpt, st, "undeliverable")
		return
	}
	if m.notices.Append(m.ctx, m.services.Defer, msg.ID, bounce.Flags(trace), rcpt, st) != nil {
		m.log.Warn("%s: defer service failure", msg.ID)
	}
	m.logDelivery(msg, rcpt, st, "deferred")
	if trace&deliver.Record != 0 {
		m.notices.Append(m.ctx, m.services.Trace, msg.ID, bounce.Flags(trace), rcpt, st)
	}
	m.tellFlush(msg.ID, domainOf(rcpt.Address))
}

// tellFlush lets the flush service know that mail for a site waits.
func (m *manager) tellFlush(id, site string) {
	if m.sites == nil || site == "" {
		return
	}
	if ok, err := m.sites.Match(m.ctx, site); !ok || err != nil {
		return
	}
	if _, err := m.flusher.Add(m.ctx, site, id); err != nil {
		m.log.Warn("%s: flush service: %v", id, err)
	}
}

// logDelivery writes the delivery line of spec §4.8 for a recipient that no agent
// had.
func (m *manager) logDelivery(msg *message, rcpt deliver.Recipient, st dsn.Status, word string) {
	stats := deliver.Stats{Incoming: msg.env.Arrival, Active: msg.Activated}
	total, parts := stats.Delays(time.Now(), m.delayResolution)
	orig := ""
	if rcpt.Original != "" && !strings.EqualFold(rcpt.Original, rcpt.Address) {
		orig = ", orig_to=<" + m.shown(rcpt.Original) + ">"
	}
	m.log.Info("%s: to=<%s>%s, relay=none, delay=%s, delays=%s, dsn=%s, status=%s (%s)",
		msg.ID, m.shown(rcpt.Address), orig, total, parts, st.Code, word, st.Reason)
}

// shown is an address as log lines have it.
func (m *manager) shown(addr string) string {
	if m.internalLog || addr == "" {
		return addr
	}
	return address.Quote(addr)
}
