// Package local is the local delivery agent (spec delivery.md §1, §3): it
// delivers to aliases, to users' .forward files and mailboxes, to files and to
// commands.
//
// A recipient of a request is the root of a tree: an alias or .forward file
// stands for a list of addresses, files, commands and more lists. Each leaf is
// reported for itself; the recipient is marked in the queue file when all
// leaves are done, and otherwise all of it is tried again.
//
// What belongs to a user is done with the user's rights (package cred), what an
// alias of root's names with those of default_privs; nothing of theirs runs as
// root. A process that was not started by root does everything as who it is, and
// refuses mail for other users' mailboxes.
//
// Trouble with a user's files or commands becomes the status of a recipient.
package local

import (
	"context"
	"os"

	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/service"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/table"
)

// Main is the daemon; args[0] is the name it was called as.
func Main(args []string) int {
	d := newDaemon(os.Environ())
	return agent.Main(d.agent(), args, d.environ)
}

func newDaemon(environ []string) *daemon {
	return &daemon{environ: environ, lookup: cred.Lookup, lookupID: cred.LookupID, maildirs: new(mailbox.Maildirs)}
}

func (d *daemon) agent() agent.Agent {
	return agent.Agent{
		Name:       "local",
		Privileged: true,
		Filter:     "local_delivery_status_filter",
		// As root.
		Setup: d.setup,
		// With mail_owner's rights; root's are taken up for each delivery.
		Start:        func(_ context.Context, rt *service.Runtime) error { return d.openMaps(rt) },
		TableChanged: d.tableChanged,
		Deliver:      d.deliver,
	}
}

// daemon is what all deliveries share. It does not change after the start.
type daemon struct {
	settings
	environ []string
	service string // our name in master.cf
	root    bool   // started by root
	self    cred.Identity
	rewrite *rewrite.Client

	lookup   func(name string) (cred.Identity, error)
	lookupID func(uid int) (cred.Identity, error)
	maildirs *mailbox.Maildirs

	aliases           *table.Maps
	mailboxTransports *table.Maps
	mailboxCommands   *table.Maps
	fallbacks         *table.Maps
}

// setup runs as root: the alias tables need not be readable by others.
func (d *daemon) setup(rt *service.Runtime) error {
	var err error
	if d.settings, err = readSettings(rt.Config); err != nil {
		return err
	}
	d.service, d.root, d.self = rt.ServiceName, rt.Root, rt.Owner
	d.rewrite = rewrite.New(rewrite.FromConfig(rt.Config, rt.Log))
	if err := mailbox.LimitFiles(rt.Config, "mailbox_size_limit"); err != nil {
		return err
	}
	d.aliases, err = open(rt, "alias_maps", aliasFlags)
	return err
}

const (
	aliasFlags = table.Lock | table.Paranoid | table.FoldFix | table.UTF8Request
	mapFlags   = table.Lock | table.Paranoid | table.FoldFix | table.UTF8Request
)

func (d *daemon) openMaps(rt *service.Runtime) error {
	for _, m := range []struct {
		to    **table.Maps
		name  string
		flags table.Flags
	}{
		{&d.mailboxTransports, "mailbox_transport_maps", mapFlags &^ table.Paranoid},
		{&d.mailboxCommands, "mailbox_command_maps", mapFlags},
		{&d.fallbacks, "fallback_transport_maps", mapFlags &^ table.Paranoid},
	} {
		var err error
		if *m.to, err = open(rt, m.name, m.flags); err != nil {
			return err
		}
	}
	return nil
}

func open(rt *service.Runtime, name string, flags table.Flags) (*table.Maps, error) {
	env := table.Env{Config: rt.Config, Log: rt.Log, Daemon: true}
	return table.OpenMaps(env, name, rt.Config.String(name), flags)
}

func (d *daemon) tableChanged() (string, bool) {
	for _, m := range []*table.Maps{d.aliases, d.mailboxTransports, d.mailboxCommands, d.fallbacks} {
		if m == nil {
			continue
		}
		if name, changed := m.Changed(); changed {
			return name, true
		}
	}
	return "", false
}

// deliver handles the recipients of a request one after the other.
func (d *daemon) deliver(ctx context.Context, j *agent.Job) error {
	loops, err := mailbox.FindLoops(j, d.utf8)
	if err != nil {
		return err
	}
	for i := range j.Recipients {
		t := &task{daemon: d, job: j, loops: loops}
		j.Finish(&j.Recipients[i], t.run(ctx, &j.Recipients[i]), false)
		if t.corrupt {
			j.Corrupt()
			return nil
		}
	}
	return nil
}
