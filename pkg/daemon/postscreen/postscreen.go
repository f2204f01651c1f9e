// Package postscreen is the daemon before smtpd: it tests what connects, hands
// clients that pass to smtpd, remembers them, and keeps the others busy (spec
// smtpd.md §8).
//
// A session has three parts. admit (session.go) decides by what is known before a
// word is spoken: limits, the access list, the cache. early (early.go) watches
// whether the client waits for the greeting, while DNS lists are asked (dnsbl.go).
// engine (engine.go, commands.go) is a dummy SMTP server for the tests that need a
// dialogue, and for clients that will not get further. What a session found out
// becomes one cache entry when it ends (conclude, in session.go).
//
// One process serves thousands of clients, a goroutine each. A session that waits
// costs a stack of a few kilobytes and no buffer that grows with what the client
// sends. What the sessions share (shared.go: entries of clients, counters, the
// cache) lies under two mutexes: one for the cache, and one that is never held while
// anything is waited for.
//
// What a client does wrong becomes a reply and a log line; trouble with the
// configuration ends the process at its start.
package postscreen

import (
	"context"
	"os"
	"time"

	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// daemon is the state of the service.
type daemon struct {
	log    *maillog.Logger
	rt     *service.Runtime
	set    *settings
	tables *tables
	shared shared
	lists  *lists // DNS lists; nil if there are none
	now    func() time.Time
}

// filesAnClient is how many open files a session costs: the client, a connection
// to tlsproxy or smtpd, and its share of those to dnsblog.
const filesAnClient = 4

// Main runs the daemon.
func Main(args []string) int {
	d := &daemon{now: time.Now}
	return service.Run(service.Service{
		Name: "postscreen", Kind: service.Event, Requires: service.One, OwnSession: true,
		NoMaxUse: true, NoMaxIdle: true, Watchdog: "postscreen_watchdog_timeout", Files: filesAnClient,
		Setup: d.setup,
		Start: func(ctx context.Context, rt *service.Runtime) error {
			go service.Every(ctx, time.Second, d.shared.beat)
			return nil
		},
		Loop:         d.clean,
		Serve:        d.serve,
		TableChanged: d.tableChanged,
		Stop:         func(*service.Runtime) { d.shared.closeCache() },
	}, args, os.Environ())
}

// setup reads the configuration and, still as root, opens tables and cache.
func (d *daemon) setup(rt *service.Runtime) (err error) {
	d.rt, d.log = rt, rt.Log
	if d.set, err = loadSettings(rt.Config); err != nil {
		return err
	}
	env := table.Env{Config: rt.Config, Log: rt.Log, Daemon: true}
	if d.lists, err = loadLists(d, env); err != nil {
		return err
	}
	if d.tables, err = openTables(env, d.set); err != nil {
		return err
	}
	d.shared.init()
	d.shared.cache, err = openCache(rt)
	return err
}

// tableInterval is the least time between two looks whether tables have changed.
const tableInterval = time.Second

// tableChanged is asked before a client is accepted.
func (d *daemon) tableChanged() (string, bool) {
	if now := d.now(); now.Sub(d.tables.looked) >= tableInterval {
		d.tables.looked = now
		return d.tables.changed()
	}
	return "", false
}
