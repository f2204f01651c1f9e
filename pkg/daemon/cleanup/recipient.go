package cleanup

import (
	"strconv"
	"strings"
	"unicode/utf8"

	proto "posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/record"
)

// recipientRecord handles an R record with what came before it (routing.md §1.5).
func (s *session) recipientRecord(m meaning) {
	raw := string(m.data)
	r := rcpt{orcpt: s.dsnOrcpt, notify: s.notify, original: raw}
	if s.haveOrig {
		r.original = s.origRcpt
	}
	s.forgetRecipient()
	if raw == "" {
		raw = s.d.set.emptyRecipient
	}
	r.address = s.canonicalRecipient(raw)
	if set := s.d.set; set.smtputf8 && !isASCII(r.address) && utf8.ValidString(r.address) {
		s.autoUTF8()
	}
	if r.orcpt == "" && r.address != "" {
		kind := "rfc822;"
		if s.size.UTF8Flags&record.SizeFlagUTF8 != 0 && !isASCII(r.address) {
			kind = "utf-8;"
		}
		r.orcpt = kind + r.address
	}
	s.recipient, s.haveRcpt = r.address, true
	s.emulateRcpt(r.address)
	s.deliverTo(r)
	if s.flags&proto.FlagBCC != 0 && r.address != "" {
		s.autoBCC(r.address, s.d.maps.recipientBCC)
	}
}

// canonicalRecipient rewrites and maps a recipient address, short of aliases.
func (s *session) canonicalRecipient(raw string) string {
	addr := s.rewriteInternal(raw)
	set, m := s.d.set, &s.d.maps
	if s.flags&proto.FlagMap == 0 || addr == "" {
		return addr
	}
	if set.recipientCanonicalClasses&envelopeRecipient != 0 {
		addr = s.mapOne(addr, m.recipientCanonical)
	}
	if set.canonicalClasses&envelopeRecipient != 0 {
		addr = s.mapOne(addr, m.canonical)
	}
	if set.masqueradeClasses&envelopeRecipient != 0 {
		addr = s.masquerade(addr)
	}
	return addr
}

// addBCC adds a recipient that nobody is told about (routing.md §1.7).
func (s *session) addBCC(addr string) {
	addr = s.canonicalRecipient(addr)
	s.deliverTo(rcpt{notify: dsn.NotifyNever, original: addr, address: addr})
}

// rcpt is a recipient with what delivery agents get to know of it.
type rcpt struct {
	orcpt    string
	notify   dsn.Notify
	original string
	address  string
}

// deliverTo expands a recipient and writes what comes out.
func (s *session) deliverTo(r rcpt) {
	if !s.going() {
		return
	}
	if s.flags&proto.FlagMap == 0 || s.d.maps.virtualAlias.Empty() {
		s.writeRecipient(r)
		return
	}
	list := s.expand(r.address)
	if len(list) > 1 && s.traceFlags&int(deliver.MTAVerify) != 0 {
		if s.d.verify.Update(s.ctx, r.address, verify.Deliverable, "2.0.0 aliased to multiple recipients") != nil {
			s.status |= proto.StatusWrite
		}
		return
	}
	if r.notify&dsn.NotifySuccess != 0 && (len(list) != 1 || list[0] != r.address) && s.going() {
		s.traceExpansion(r)
		if r.notify &^= dsn.NotifySuccess; r.notify == 0 {
			r.notify = dsn.NotifyNever
		}
	}
	for _, addr := range list {
		r.address = addr
		s.writeRecipient(r)
	}
}

// traceExpansion reports a success that ends here: the alias was expanded.
func (s *session) traceExpansion(r rcpt) {
	err := s.d.bounce.Append(s.ctx, s.d.set.traceService, s.id, 0,
		deliver.Recipient{Original: r.original, Address: r.address, DSNOrig: r.orcpt, Notify: r.notify},
		dsn.Status{Code: "2.0.0", Action: "expanded", Reason: "alias expanded"})
	if err != nil {
		s.status |= proto.StatusWrite
	}
}

// writeRecipient writes one recipient that was not seen before.
func (s *session) writeRecipient(r rcpt) {
	if !s.going() || s.duplicate(r) {
		return
	}
	if r.notify != 0 {
		s.putAttr("notify_flags", strconv.Itoa(int(r.notify)))
	}
	if r.orcpt != "" {
		s.putAttr("dsn_orig_rcpt", r.orcpt)
	}
	s.putString(record.TypeOrigRcpt, r.original)
	s.putString(record.TypeRcpt, r.address)
	s.size.Recipients++
}

// duplicate remembers a recipient and reports whether it was there before. Up
// to duplicate_filter_limit are remembered.
func (s *session) duplicate(r rcpt) bool {
	key := r.address
	if s.d.set.origRecipient {
		key = r.orcpt + "\n" + strconv.Itoa(int(r.notify)) + "\n" + r.original + "\n" + r.address
	}
	key = strings.ToLower(key)
	if _, seen := s.dups[key]; seen {
		return true
	}
	if limit := s.d.set.dupLimit; limit <= 0 || len(s.dups) < limit {
		if s.dups == nil {
			s.dups = make(map[string]struct{})
		}
		s.dups[key] = struct{}{}
	}
	return false
}
