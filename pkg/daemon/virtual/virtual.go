// Package virtual is the delivery agent for mailboxes of users who have no
// account on this machine (spec delivery.md §1, §4). Where a recipient's mailbox
// is, and whose rights write it, tables say; there are no aliases, .forward files
// or commands.
//
// A mailbox is opened, locked and written with its user's rights (package cred);
// nothing is done as root. A process that was not started by root does everything
// as who it is, and refuses mail for mailboxes of others.
//
// Trouble with a mailbox or table becomes the status of a recipient.
package virtual

import (
	"context"
	"fmt"
	"os"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/message/address"
	"posthaste/pkg/service"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/filelock"
	"posthaste/pkg/table"
	"posthaste/pkg/table/localdomain"
)

// Main is the daemon; args[0] is the name it was called as.
func Main(args []string) int { return agent.Main(new(daemon).agent(), args, os.Environ()) }

func (d *daemon) agent() agent.Agent {
	return agent.Agent{
		Name:       "virtual",
		Privileged: true,
		Filter:     "virtual_delivery_status_filter",
		// As root.
		Setup: d.setup,
		// With mail_owner's rights; those of a mailbox's user are taken up for
		// each delivery.
		Start:        func(_ context.Context, rt *service.Runtime) error { return d.openMaps(rt) },
		TableChanged: d.tableChanged,
		Deliver:      d.deliver,
	}
}

// daemon is what all deliveries share. It does not change after the start.
type daemon struct {
	settings
	service  string // our name in master.cf
	root     bool   // started by root
	self     cred.Identity
	maildirs mailbox.Maildirs
	local    *localdomain.Set

	mailboxes, uids, gids *table.Maps
}

// settings are the parameters in the form they are used in.
type settings struct {
	base         string // virtual_mailbox_base
	minimumUID   int
	strictOwner  bool // strict_mailbox_ownership
	keepOriginal bool // enable_original_recipient
	utf8         bool // smtputf8_enable
	locks        mailbox.Locks
	dot          filelock.DotOptions
	ext          address.Extensions
}

func readSettings(c *conf.Config) (settings, error) {
	doubleBounce, _ := address.Split(c.String("double_bounce_sender"))
	s := settings{
		base:         c.String("virtual_mailbox_base"),
		minimumUID:   c.Int("virtual_minimum_uid"),
		strictOwner:  c.Bool("strict_mailbox_ownership"),
		keepOriginal: c.Bool("enable_original_recipient"),
		utf8:         c.Bool("smtputf8_enable"),
		dot:          mailbox.ReadDotOptions(c),
		ext: address.Extensions{Delimiters: c.String("recipient_delimiter"), DoubleBounce: doubleBounce,
			OwnerRequest: c.Bool("owner_request_special")},
	}
	if !strings.HasPrefix(s.base, "/") {
		return s, fmt.Errorf("do not specify relative pathname: virtual_mailbox_base = %s", s.base)
	}
	var err error
	s.locks, err = mailbox.ReadLocks(c, "virtual_mailbox_lock")
	return s, err
}

func (d *daemon) setup(rt *service.Runtime) error {
	var err error
	if d.settings, err = readSettings(rt.Config); err != nil {
		return err
	}
	d.service, d.root, d.self = rt.ServiceName, rt.Root, rt.Owner
	return mailbox.LimitFiles(rt.Config, "virtual_mailbox_limit")
}

// mapFlags: what says as whom a file is written must come from a table that only
// its owner can change.
const mapFlags = table.Lock | table.Paranoid | table.FoldFix | table.UTF8Request

func (d *daemon) openMaps(rt *service.Runtime) error {
	env := table.Env{Config: rt.Config, Log: rt.Log, Daemon: true}
	var err error
	for _, m := range []struct {
		to   **table.Maps
		name string
	}{
		{&d.mailboxes, "virtual_mailbox_maps"},
		{&d.uids, "virtual_uid_maps"},
		{&d.gids, "virtual_gid_maps"},
	} {
		if *m.to, err = table.OpenMaps(env, m.name, rt.Config.String(m.name), mapFlags); err != nil {
			return err
		}
	}
	d.local, err = localdomain.New(env)
	return err
}

func (d *daemon) tableChanged() (string, bool) {
	for _, m := range []*table.Maps{d.mailboxes, d.uids, d.gids} {
		if name, changed := m.Changed(); changed {
			return name, true
		}
	}
	return d.local.Changed()
}

// deliver handles the recipients of a request one after the other.
func (d *daemon) deliver(ctx context.Context, j *agent.Job) error {
	for i := range j.Recipients {
		if ctx.Err() != nil {
			break
		}
		t := task{daemon: d, job: j, rcpt: &j.Recipients[i]}
		if corrupt := t.run(ctx); corrupt {
			j.Corrupt()
			break
		}
	}
	return nil
}
