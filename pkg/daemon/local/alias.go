package local

import (
	"context"
	"errors"
	"strings"

	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/message/address"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/table"
)

// findAlias searches the alias tables in order. Errors have been logged.
func (t *task) findAlias(ctx context.Context, name string) (value string, in table.Table, err error) {
	name = t.fold(name)
	for _, tab := range t.aliases.Tables() {
		value, found, err := tab.Lookup(ctx, name)
		if err != nil {
			t.job.Log.Warn("%s: lookup of '%s' failed", tab.Name(), name)
			return "", nil, err
		}
		if found {
			return value, tab, nil
		}
	}
	return "", nil, nil
}

// ownerOf finds the address that stands in for the sender of what the list name
// expands to: that of its owner- alias.
func (t *task) ownerOf(ctx context.Context, name string) (owner string, found bool, err error) {
	owner = "owner-" + name
	value, tab, err := t.findAlias(ctx, owner)
	if err != nil || tab == nil {
		return "", false, err
	}
	if t.expandOwner {
		owner = strings.Join(address.ExtractAddrs(value), ", ")
	}
	owner, err = t.canonical(ctx, owner)
	return owner, err == nil, err
}

// canonical completes an address in internal form.
func (t *task) canonical(ctx context.Context, addr string) (string, error) {
	external, err := t.rewrite.Rewrite(ctx, rewrite.Local, address.Quote(addr))
	if err != nil {
		return "", err
	}
	return address.Unquote(external), nil
}

// alias expands a name if it is an alias (delivery.md §3.2). Inside its own
// expansion, or the .forward or :include: file of its user, the name is the user.
func (t *task) alias(ctx context.Context, s state, name string) (handled, done bool) {
	if s.list != direct && strings.EqualFold(s.expanding, name) {
		return false, false
	}
	value, tab, err := t.findAlias(ctx, name)
	if err != nil {
		return true, t.failed(ctx, &s, "4.3.0", "alias database unavailable")
	}
	if tab == nil {
		return false, false
	}
	if s.depth > maxDepth {
		t.job.Log.Warn("alias database loop for %s", name)
		return true, t.failed(ctx, &s, "5.4.6", "alias database loop for "+name)
	}
	if t.mtaProbe() {
		return true, t.sent(ctx, &s, "aliased to "+value)
	}
	return true, t.expandAlias(ctx, s, name, value, tab)
}

func (t *task) expandAlias(ctx context.Context, list state, name, value string, tab table.Table) (done bool) {
	s := list
	if t.tooMany(ctx, &list) {
		return false
	}
	if reason := t.aliasRights(&s, tab); reason != "" {
		return t.failed(ctx, &list, "4.3.0", reason)
	}
	s.list, s.expanding = alias, name
	t.thaw(&s)
	action := "expanded"
	if t.ownerSpecial {
		owner, found, err := t.ownerOf(ctx, name)
		switch {
		case err != nil:
			return t.failed(ctx, &list, "4.3.0", "alias database unavailable")
		case found:
			action = "delivered"
			s.owner, s.message.Sender = owner, owner
			s.message.EnvelopeID, s.message.Ret = "", 0
			s.rcpt.DSNOrig, s.rcpt.Original = "", ""
		case t.resetOwner:
			s.owner = ""
		}
	}
	s.rcpt.Notify = passOn(s.rcpt.Notify)
	addresses, done := t.elements(ctx, s, value)
	if addresses == 0 {
		t.job.Log.Warn("no recipient in alias lookup result for %s", name)
		return t.failed(ctx, &list, "4.3.0", "alias database unavailable")
	}
	if done {
		done = t.expanded(ctx, &list, action)
	}
	return done
}

// aliasRights gives s the rights of the owner of an alias table. The text is the
// reason of a failure.
func (t *task) aliasRights(s *state, tab table.Table) (reason string) {
	owner := table.OwnerOf(tab)
	switch {
	case !owner.Known:
		t.job.Log.Warn("%s: no owner UID for alias database %s", t.job.ID, tab.Name())
		return "mail system configuration error"
	case owner.Trusted || owner.UID == 0:
		s.rights = nil
		return ""
	}
	id, err := t.lookupID(owner.UID)
	if err != nil {
		if !errors.Is(err, cred.ErrUnknownUser) {
			t.job.Log.Warn("error looking up passwd info for uid %d: %v", owner.UID, err)
		}
		t.job.Log.Warn("cannot find alias database owner for %s", table.RegistryName(tab))
		return "cannot find alias database owner"
	}
	s.rights = &id
	return ""
}
