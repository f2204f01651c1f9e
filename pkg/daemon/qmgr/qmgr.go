package qmgr

import (
	"context"
	"os"
	"path/filepath"

	"posthaste/pkg/service"
	"posthaste/pkg/table"
)

// Main runs the queue manager; args[0] is the name it was called as: qmgr, nqmgr or
// oqmgr.
func Main(args []string) int {
	d := new(daemon)
	return service.Run(d.service(filepath.Base(args[0])), args, os.Environ())
}

// daemon is the queue manager as master sees it.
type daemon struct {
	m     *manager
	sites *table.MatchList // fast_flush_domains
}

func (d *daemon) service(name string) service.Service {
	return service.Service{
		Kind:         service.Trigger,
		Requires:     service.One,
		NoMaxUse:     true,
		NoMaxIdle:    true,
		Watchdog:     "qmgr_daemon_timeout",
		Setup:        func(rt *service.Runtime) error { return d.setup(rt) },
		Start:        func(_ context.Context, rt *service.Runtime) error { return d.start(rt, name) },
		Trigger:      func(_ context.Context, _ *service.Runtime, requests []byte) { d.m.trigger(requests) },
		Loop:         func(ctx context.Context, _ *service.Runtime) error { return d.m.run(ctx) },
		TableChanged: func() (string, bool) { return d.sites.Changed() },
	}
}

func (d *daemon) setup(rt *service.Runtime) error {
	var err error
	env := table.Env{Config: rt.Config, Log: rt.Log, Daemon: true}
	d.sites, err = table.NewMatchList(env, "fast_flush_domains", rt.Config.String("fast_flush_domains"), table.MatchDomain, 0)
	return err
}

func (d *daemon) start(rt *service.Runtime, name string) error {
	if name == "nqmgr" {
		rt.Log.Warn("please update the %s/%s file; the new queue manager", rt.Config.Dir(), "master.cf")
		rt.Log.Warn("(old name: nqmgr) has become the standard queue manager (new name: qmgr)")
		rt.Log.Warn("support for the name old name (nqmgr) will be removed from Postfix")
	}
	d.m = newManager(rt.Config, rt.Log, rt.Queue, rt.FlowControl, name == "oqmgr")
	d.m.sites = d.sites
	return nil
}
