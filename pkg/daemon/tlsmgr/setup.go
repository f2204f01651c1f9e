package tlsmgr

import (
	"context"
	"sync"
	"syscall"

	protocol "posthaste/pkg/ipc/tlsmgr"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/table"
	mailtls "posthaste/pkg/wire/tls"
)

// types of caches in the order in which they are opened; each has parameters
// with its name.
var types = []string{protocol.CacheSMTPD, protocol.CacheSMTP, protocol.CacheLMTP}

// setup reads the parameters and opens the caches.
func (d *daemon) setup(rt *service.Runtime) error {
	d.log = rt.Log
	d.caches = make(map[string]*cache)
	c := rt.Config
	for _, name := range types {
		prefix := name + "_tls_"
		mask, err := mailtls.ParseLogLevel(prefix+"loglevel", c.String(prefix+"loglevel"))
		if err != nil {
			d.log.Warn("%v", err)
		}
		tell := func(string, ...any) {}
		if mask.Has(mailtls.LogCache) {
			tell = d.log.Info
		}
		cache := newCache(name, c.Duration(prefix+"session_cache_timeout"), tell)
		d.caches[name] = cache
		spec := c.String(prefix + "session_cache_database")
		if spec == "" || cache.timeout == 0 {
			continue
		}
		if err := d.open(rt, cache, spec); err != nil {
			return err
		}
	}
	d.keys.life = life(c.Duration("smtpd_tls_session_cache_timeout"))
	return nil
}

// open makes the database of a cache, empty, as mail_owner, and locks it.
func (d *daemon) open(rt *service.Runtime, c *cache, spec string) error {
	spec = rt.OwnTable(spec)
	c.tell("open %s TLS cache %s", c.name, spec)
	env := table.Env{Config: rt.Config, Log: rt.Log, Daemon: true, Strict: true}
	var t table.Table
	err := cred.As(rt.Owner, func() (err error) {
		defer syscall.Umask(syscall.Umask(0o077))
		t, err = table.OpenMode(env, spec, table.ReadWriteTrunc, table.DupReplace|table.OpenLock)
		return err
	})
	if err != nil {
		return err
	}
	c.enabled, c.locked = true, t.Close
	return nil
}

// clean drops old sessions from each cache, once in the life of a session.
func (d *daemon) clean(ctx context.Context, _ *service.Runtime) error {
	var all sync.WaitGroup
	for _, name := range types {
		c := d.caches[name]
		if !c.enabled {
			continue
		}
		scan := func() {
			c.tell("tlsmgr_cache_run_event: start TLS %s session cache cleanup", c.name)
			c.clean(d.now())
		}
		scan()
		all.Go(func() { _ = service.Every(ctx, c.timeout, scan) })
	}
	all.Wait()
	<-ctx.Done()
	return nil
}
