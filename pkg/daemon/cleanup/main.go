package cleanup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/ipc/trigger"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	"posthaste/pkg/table/localdomain"
)

// Main runs the daemon and returns its exit status.
func Main(args []string) int {
	d := &daemon{now: time.Now}
	return service.Run(service.Service{
		Name:         "cleanup",
		Kind:         service.Single,
		FlowToken:    true,
		Setup:        d.setup,
		Start:        d.start,
		Serve:        d.client,
		TableChanged: d.maps.changed,
	}, args, os.Environ())
}

// setup reads the configuration and opens the tables, as root and before
// chroot.
func (d *daemon) setup(rt *service.Runtime) (err error) {
	d.log = rt.Log
	if d.set, err = readSettings(rt.Config); err != nil {
		return err
	}
	d.set.milter.Log = rt.Log
	env := table.Env{Config: rt.Config, Log: rt.Log, Daemon: true}
	if d.maps, err = openMaps(env, rt.Config); err != nil {
		return err
	}
	local, err := localdomain.New(env)
	d.isLocal = local.Bare
	return err
}

// triggerEvery is the least time between two messages to the queue manager:
// when mail comes faster than this one look at the queue finds several.
const triggerEvery = 3 * time.Millisecond

// start makes the clients of other services; no connection is opened yet.
func (d *daemon) start(_ context.Context, rt *service.Runtime) error {
	c := rt.Config
	d.spool = rt.Queue
	d.rewrite = rewrite.New(rewrite.FromConfig(c, rt.Log))
	d.bounce = &bounce.Client{Dialer: dial.Dialer{Timeout: c.Duration("ipc_timeout"), Log: rt.Log}}
	d.verify = verify.New(verify.FromConfig(c, rt.Log))
	wake := trigger.Group{Every: triggerEvery, Send: func() error {
		// No queue manager, no harm: it scans the queue when it starts.
		err := trigger.Send(context.Background(), dial.Public, d.set.queueService, "W")
		if errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("unable to look up %s/%s: %s", dial.Public, d.set.queueService, maillog.Errno(err))
		}
		return err
	}}
	d.trigger = wake.Trigger
	d.held = func() { rt.FlowControl.Put(1) }
	return nil
}

// client serves one connection.
func (d *daemon) client(ctx context.Context, conn *service.Conn) error {
	return d.serve(ctx, conn, conn.Runtime.ServiceName+" socket")
}
