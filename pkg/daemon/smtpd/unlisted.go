package smtpd

import (
	"context"
	"strings"

	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/table"
)

// evaluateUnlistedRcpt rejects recipients that no table knows in a domain for
// which the tables are complete (spec §4.9). It runs once a recipient, except
// under warn_if_reject.
func evaluateUnlistedRcpt(e evaluation) verdict {
	rcpt, ok := e.rcpt()
	if !ok || rcpt == "" || e.checks.unlistedRcpt {
		return dunno
	}
	if !e.checks.warn {
		e.checks.unlistedRcpt = true
	}
	return e.unlisted(rcpt, "Recipient address", "5.1.1", e.srv.maps.virtualAlias)
}

// evaluateUnlistedSender is the same for the sender.
func evaluateUnlistedSender(e evaluation) verdict {
	sender, ok := e.sender()
	if !ok || sender == "" || e.checks.unlistedSender {
		return dunno
	}
	if !e.checks.warn {
		e.checks.unlistedSender = true
	}
	return e.unlisted(sender, "Sender address", "5.1.0", e.srv.maps.senderCanonical, e.srv.maps.virtualAlias)
}

// exempt are local recipients that always exist.
var exempt = [...]string{"postmaster", "MAILER-DAEMON"}

// unlisted looks an address up where its class says that it has to be.
func (e evaluation) unlisted(addr, class, code string, extra ...*table.Maps) verdict {
	srv := e.srv
	if srv.noUnlisted {
		return dunno
	}
	r, v := e.resolve(addr)
	if v != dunno {
		return v
	}
	rewriting := append([]*table.Maps{srv.maps.rcptCanonical, srv.maps.canonical}, extra...)
	for _, m := range rewriting {
		if found, v := e.listed(m, r.Recipient, addr); found || v != dunno {
			return v
		}
	}
	codes := srv.set.codes
	switch r.Transport {
	case "error":
		reply := 550
		if r.Flags&rewrite.ClassAlias != 0 {
			reply = codes.aliasRcpt
		}
		status, text := dsn.Split(r.NextHop, code)
		return e.rejectAs(classBounce, reply, e.fixDSN(status, class), addr, class, text)
	case "retry":
		status, text := dsn.Split(r.NextHop, "4"+code[1:])
		return e.rejectAs(classBounce, 450, e.fixDSN(status, class), addr, class, text)
	}
	for _, c := range []struct {
		class rewrite.Flags
		maps  *table.Maps
		code  int
		kind  string
	}{
		{rewrite.ClassLocal, srv.maps.localRcpt, codes.localRcpt, "local recipient"},
		{rewrite.ClassVirtual, srv.maps.virtualMailbox, codes.virtualRcpt, "virtual mailbox"},
		{rewrite.ClassRelay, srv.maps.relayRcpt, codes.relayRcpt, "relay recipient"},
	} {
		if r.Flags&c.class == 0 || c.maps.Empty() || c.class == rewrite.ClassLocal && srv.exempt(r.Recipient) {
			continue
		}
		if found, v := e.listed(c.maps, r.Recipient, addr); found || v != dunno {
			return v
		}
		text := "User unknown"
		if srv.set.showTable {
			text += " in " + c.kind + " table"
		}
		return e.rejectAs(classBounce, c.code, code, addr, class, text)
	}
	return dunno
}

func (srv *Server) exempt(addr string) bool {
	local, _ := address.Split(addr)
	for _, name := range append(exempt[:], srv.set.doubleBounce) {
		if strings.EqualFold(local, name) || strings.EqualFold(addr, name) {
			return true
		}
	}
	return false
}

// listed looks an address up in one list of tables.
func (e evaluation) listed(m *table.Maps, addr, shown string) (bool, verdict) {
	_, found, err := e.srv.findRecipient(e.ctx, m, addr)
	if err != nil {
		return false, e.lookupTrouble(shown)
	}
	return found, dunno
}

// findRecipient looks an address up under the keys of spec §4.9.
func (srv *Server) findRecipient(ctx context.Context, m *table.Maps, addr string) (string, bool, error) {
	if m.Empty() {
		return "", false, nil
	}
	value, _, found, err := m.FindAddress(ctx, addr, table.AddressOptions{
		Form: table.FormExternalFirst, Delimiters: srv.set.recipientDelim, DoubleBounce: srv.set.doubleBounce,
		OwnerRequest: srv.ownerRequest, IsLocal: srv.local.Bare,
	})
	return value, found, err
}

// resolveInternal completes an internal address in the local context and asks
// where its mail goes.
func (srv *Server) resolveInternal(ctx context.Context, sender, addr string) (rewrite.Reply, error) {
	external, err := srv.rewrite.Rewrite(ctx, rewrite.Local, address.Quote(addr))
	if err != nil {
		return rewrite.Reply{}, err
	}
	return srv.rewrite.Resolve(ctx, sender, address.Unquote(external))
}
