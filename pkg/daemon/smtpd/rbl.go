package smtpd

import (
	"net/netip"
	"strconv"
	"strings"

	"posthaste/pkg/conf/macro"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
	"posthaste/pkg/wire/smtp"
)

// dnsList is the argument of a DNS list restriction.
type dnsList struct {
	arg     string // "domain" or "domain=pattern"
	domain  string
	pattern *dns.AddrPattern
}

func parseDNSList(arg string) (*dnsList, error) {
	domain, pattern, found := strings.Cut(arg, "=")
	l := &dnsList{arg: arg, domain: domain}
	if !found {
		return l, nil
	}
	p, err := dns.ParseAddrPattern(pattern)
	if err != nil {
		return nil, err
	}
	l.pattern = p
	return l, nil
}

// listEntry is something that was looked for in a DNS list, and how replies
// call it.
type listEntry struct {
	list  *dnsList
	query string // "" cannot be listed
	what  string // $rbl_what
	class string // $rbl_class
}

// inList asks a DNS list. err says that the list could not be asked; that has
// been logged by whoever asked first.
func (e evaluation) inList(q listEntry) (a *listAnswer, listed bool, err error) {
	if q.query == "" {
		return nil, false, nil
	}
	query := q.query + "." + q.list.domain
	a, first, err := e.srv.dnsLists.ask(e.ctx, e.srv.dns, query)
	if err != nil {
		return nil, false, err
	}
	if first {
		for _, w := range a.warnings {
			e.log.Warn("%s", w)
		}
	}
	switch {
	case a.err == errNotListed:
		return a, false, nil
	case a.err != nil:
		if first {
			e.log.Warn("%s: RBL lookup error: %v", query, a.err)
		}
		return a, false, a.err
	}
	return a, a.listed(q.list.pattern), nil
}

// addrEntry is the client's address in a list.
func (e evaluation) addrEntry(list *dnsList) listEntry {
	q := listEntry{list: list, what: e.peer.addr, class: clientList.class}
	if a, err := netip.ParseAddr(e.peer.addr); err == nil {
		q.query = reversed(a)
	}
	return q
}

// nameEntry is a name, or the domain of an address, in a list (spec §4.7).
func (e evaluation) nameEntry(list *dnsList, what, class string) listEntry {
	q := listEntry{list: list, what: what, class: class}
	domain := what[strings.LastIndexByte(what, '@')+1:]
	if domain == "" || domain[0] == '[' {
		return q
	}
	ascii, ok := dns.ASCII(domain)
	if !ok || !dns.ValidHostname(ascii) || numericLabel(ascii[strings.LastIndexByte(ascii, '.')+1:]) {
		return q
	}
	q.query = ascii
	return q
}

func numericLabel(s string) bool { return strings.Trim(s, "0123456789") == "" }

// dnsListArgument is the list an element names, or the verdict on a mistake.
func (e evaluation) dnsListArgument(arg string) (*dnsList, verdict) {
	list, err := parseDNSList(arg)
	if err != nil {
		e.log.Warn("RBL reply error: %v", err)
		return nil, e.serverError()
	}
	return list, dunno
}

// subjectOf gives what a name-based restriction looks for; ok is false when
// there is nothing to look for.
type subjectOf func(e evaluation) (what, class string, ok bool)

func clientName(e evaluation) (string, string, bool) {
	return e.peer.name, clientList.class, e.peer.name != unknown
}

func reverseName(e evaluation) (string, string, bool) {
	return e.peer.reverse, "Unverified Client host", e.peer.reverse != unknown
}

func heloName(e evaluation) (string, string, bool) {
	return e.helo, heloList.class, e.heloGiven && e.helo != ""
}

func senderAddress(e evaluation) (string, string, bool) {
	sender, ok := e.sender()
	return sender, senderList.class, ok && sender != ""
}

func recipientAddress(e evaluation) (string, string, bool) {
	rcpt, ok := e.rcpt()
	return rcpt, rcptList.class, ok && rcpt != ""
}

func rejectListedClient(e evaluation) verdict { return e.rejectListedAddr(e.element.arg) }

func (e evaluation) rejectListedAddr(arg string) verdict {
	list, v := e.dnsListArgument(arg)
	if v != dunno {
		return v
	}
	return e.rejectListed(e.addrEntry(list))
}

// rejectMapsRBL is the restriction of old that has its lists in
// maps_rbl_domains.
func rejectMapsRBL(e evaluation) verdict {
	e.srv.warnMapsRBL.Do(func() {
		e.log.Warn("support for restriction \"reject_maps_rbl\" will be removed from Postfix; use \"reject_rbl_client domain-name\" instead")
	})
	for _, domain := range table.SplitList(e.srv.conf.String("maps_rbl_domains")) {
		if v := e.rejectListedAddr(domain); v != dunno {
			return v
		}
	}
	return dunno
}

// rejectListedName makes a reject_rhsbl_* restriction.
func rejectListedName(subject subjectOf) func(evaluation) verdict {
	return func(e evaluation) verdict {
		what, class, ok := subject(e)
		if !ok {
			return dunno
		}
		list, v := e.dnsListArgument(e.element.arg)
		if v != dunno {
			return v
		}
		return e.rejectListed(e.nameEntry(list, what, class))
	}
}

func (e evaluation) rejectListed(q listEntry) verdict {
	a, listed, err := e.inList(q)
	if !listed || err != nil {
		return dunno
	}
	return e.listReply(q, a)
}

func permitListedClient(e evaluation) verdict {
	return e.permitListed(func(list *dnsList) listEntry { return e.addrEntry(list) })
}

func permitListedName(e evaluation) verdict {
	what, class, ok := clientName(e)
	if !ok {
		return dunno
	}
	return e.permitListed(func(list *dnsList) listEntry { return e.nameEntry(list, what, class) })
}

// permitListed permits what a list of friends has. It does not make relays:
// recipients elsewhere are left to other restrictions.
func (e evaluation) permitListed(entry func(*dnsList) listEntry) verdict {
	if rcpt, ok := e.rcpt(); ok && e.where == "RCPT" {
		if v := e.destination(rcpt); v != accept {
			return v
		}
	}
	list, v := e.dnsListArgument(e.element.arg)
	if v != dunno {
		return v
	}
	q := entry(list)
	_, listed, err := e.inList(q)
	switch {
	case err != nil:
		return e.deferIfReject(classPolicy, 450, "4.7.1", "<%s>: %s rejected: Service unavailable", q.what, q.class)
	case listed:
		return accept
	}
	return dunno
}

// listReply rejects what a list has, with the text of rbl_reply_maps or of
// default_rbl_reply.
func (e evaluation) listReply(q listEntry, a *listAnswer) verdict {
	var template string
	if m := e.srv.rblReplies; !m.Empty() {
		value, found, err := m.Find(e.ctx, q.list.arg)
		if err != nil {
			return e.serverError()
		}
		if found {
			template = value
		}
	}
	text, ok := "", false
	if template != "" {
		if text, ok = e.expandListReply(template, q, a); !ok {
			e.log.Warn("rbl_reject_reply: bad rbl reply template for domain %s: %s", q.list.domain, template)
		}
	}
	if !ok {
		template = e.srv.set.defaultRBLReply
		if text, ok = e.expandListReply(template, q, a); !ok {
			e.log.Warn("rbl_reject_reply: bad default rbl reply template: %s", template)
			return e.serverError()
		}
	}
	code, rest := 0, ""
	if len(text) > 4 && text[3] == ' ' && (text[0] == '4' || text[0] == '5') {
		if n, err := strconv.Atoi(text[:3]); err == nil && n >= 400 {
			code, rest = n, text[4:]
		}
	}
	if code == 0 {
		e.log.Warn("rbl response code configuration error: %s", text)
		return e.reject(classPolicy, 450, "4.7.1", "Service unavailable")
	}
	dsn, rest, ok2 := smtp.CutDSN(rest)
	if !ok2 {
		dsn, rest = text[:1]+".7.1", strings.TrimLeft(text[4:], " ")
	}
	return e.reject(classPolicy, code, e.fixDSN(dsn, q.class), "%s", rest)
}

// expandListReply fills in a template; ok is false when it cannot be used.
func (e evaluation) expandListReply(template string, q listEntry, a *listAnswer) (text string, ok bool) {
	ok = true
	values := map[string]string{
		"rbl_code": strconv.Itoa(e.srv.set.codes.rbl), "rbl_domain": q.list.domain, "rbl_what": q.what, "rbl_class": q.class,
		"rbl_reason": a.text, "rbl_txt": a.text,
	}
	lookup := func(name string) (string, bool) {
		if value, known := values[name]; known {
			return value, value != ""
		}
		if !footerMacros[name] {
			ok = false
		}
		return e.footerMacro(name)
	}
	text, err := macro.Expand(template, lookup, macro.Options{Filter: e.srv.set.expansionFilter})
	if err != nil {
		e.log.Warn("%v", err)
		return "", false
	}
	return text, ok
}

// footerMacros are the names that footerMacro knows.
var footerMacros = map[string]bool{
	"server_name": true, "client": true, "client_port": true, "client_address": true, "client_name": true, "reverse_client_name": true,
	"helo_name": true, "sender": true, "sender_name": true, "sender_domain": true, "recipient": true, "recipient_name": true,
	"recipient_domain": true, "localtime": true,
}
