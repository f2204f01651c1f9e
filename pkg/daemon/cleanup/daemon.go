// Package cleanup is the service that every message passes on its way into the
// queue (routing.md §1): it takes envelope and content from a client, rewrites
// addresses and headers, inspects the content, expands aliases, and leaves a
// complete queue file on stable storage before it answers.
//
// A message is one session. Its parts, in the order a message meets them:
// session.go (the conversation), envelope.go, sender.go and recipient.go,
// mapping.go and alias.go (address tables), content.go, header.go, missing.go
// and checks.go (the message itself), extracted.go, milter.go (Milters),
// final.go (status, bounce, hold, commit).
//
// Milters see the message when its queue file is complete (show.go) and change
// it in place: places.go prepares the file for that, edit.go and editbody.go
// make the changes, milterchecks.go applies milter_header_checks to them.
//
// Messages are streamed into the file; memory holds one record, one header and
// the keys of the duplicate filter. What a client sends or a table answers
// becomes a status bit and a log line, never an error that ends the process.
package cleanup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// rewriter is the part of rewrite.Client that is used.
type rewriter interface {
	Rewrite(ctx context.Context, rule, addr string) (string, error)
}

// bouncer is the part of bounce.Client that is used.
type bouncer interface {
	Append(ctx context.Context, service, id string, flags bounce.Flags, rcpt bounce.Recipient, st dsn.Status) error
	Flush(ctx context.Context, service string, flags bounce.Flags, m bounce.Message) error
	FlushVERP(ctx context.Context, service string, flags bounce.Flags, m bounce.Message, delimiters string) error
}

// verifier is the part of verify.Client that is used.
type verifier interface {
	Update(ctx context.Context, addr string, r verify.Result, reason string) error
}

// matcher is the part of table.MatchList that is used.
type matcher interface {
	Match(ctx context.Context, keys ...string) (bool, error)
}

// daemon is what the sessions of a process share. It is immutable after the
// start, but for the cached MAILER-DAEMON address.
type daemon struct {
	set     *settings
	log     *maillog.Logger
	spool   *queue.Spool
	rewrite rewriter
	bounce  bouncer
	verify  verifier
	isLocal func(ctx context.Context, domain string) (bool, error)
	trigger func() // tells the queue manager
	held    func() // a message went on hold: gives its flow token back
	now     func() time.Time
	maps    maps

	mailerDaemon atomic.Pointer[string] // that address, rewritten
}

// maps are the tables, nil where none is configured.
type maps struct {
	senderCanonical, recipientCanonical, canonical *table.Maps
	virtualAlias                                   *table.Maps
	senderBCC, recipientBCC                        *table.Maps
	headerChecks, mimeHeaderChecks                 *table.Maps
	nestedHeaderChecks, bodyChecks                 *table.Maps
	milterHeaderChecks                             *table.Maps
	masqueradeExceptions                           matcher
}

// openMaps opens what the configuration names, as root and before chroot.
func openMaps(env table.Env, c *conf.Config) (m maps, err error) {
	const addr = table.Lock | table.FoldFix | table.UTF8Request
	const check = table.Lock | table.UTF8Request
	for _, p := range []struct {
		name  string
		flags table.Flags
		maps  **table.Maps
	}{
		{"canonical_maps", addr, &m.canonical},
		{"sender_canonical_maps", addr, &m.senderCanonical},
		{"recipient_canonical_maps", addr, &m.recipientCanonical},
		{"virtual_alias_maps", addr, &m.virtualAlias},
		{"header_checks", check, &m.headerChecks},
		{"mime_header_checks", check, &m.mimeHeaderChecks},
		{"nested_header_checks", check, &m.nestedHeaderChecks},
		{"body_checks", check, &m.bodyChecks},
		{"milter_header_checks", check, &m.milterHeaderChecks},
		{"sender_bcc_maps", addr, &m.senderBCC},
		{"recipient_bcc_maps", addr, &m.recipientBCC},
	} {
		specs := c.String(p.name)
		if specs == "" {
			continue
		}
		if *p.maps, err = table.OpenMaps(env, p.name, specs, p.flags); err != nil {
			return m, err
		}
	}
	exceptions, err := table.NewMatchList(env, "masquerade_exceptions", c.String("masquerade_exceptions"), table.MatchString, 0)
	if err != nil {
		return m, err
	}
	if !exceptions.Empty() {
		m.masqueradeExceptions = exceptions
	}
	return m, nil
}

// all lists the tables for the check whether one changed.
func (m *maps) all() []*table.Maps {
	return []*table.Maps{m.senderCanonical, m.recipientCanonical, m.canonical, m.virtualAlias, m.senderBCC, m.recipientBCC,
		m.headerChecks, m.mimeHeaderChecks, m.nestedHeaderChecks, m.bodyChecks, m.milterHeaderChecks}
}

func (m *maps) changed() (name string, changed bool) {
	for _, t := range m.all() {
		if name, changed := t.Changed(); changed {
			return name, true
		}
	}
	if l, ok := m.masqueradeExceptions.(*table.MatchList); ok {
		return l.Changed()
	}
	return "", false
}

// spurious removes the logs of an earlier message with the same queue ID.
func (d *daemon) spurious(id string) error {
	for _, q := range []string{queue.Defer, queue.Bounce, queue.Trace} {
		removed, err := d.removeLog(q, id)
		if err != nil {
			return fmt.Errorf("%s: remove %s log: %w", q, id, err)
		}
		if removed {
			d.log.Warn("%s: removed spurious %s log", q, id)
		}
	}
	return nil
}

// removeLog removes a log of a message; removed is false if there was none.
func (d *daemon) removeLog(q, id string) (removed bool, err error) {
	switch err := d.spool.Remove(q, id); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

func isMailerDaemon(local string) bool { return strings.EqualFold(local, "MAILER-DAEMON") }
