package rewrite

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/service"
)

// checkTime is how often the tables are looked at.
const checkTime = 10 * time.Second

// Main runs trivial-rewrite.
func Main(args []string) int {
	d := new(daemon)
	return service.Run(service.Service{
		Kind: service.Multi,
		Setup: func(rt *service.Runtime) (err error) {
			d.r, err = NewResolver(rt.Config, rt.Log)
			return err
		},
		Serve: d.serve,
		Loop:  d.watch,
	}, args, os.Environ())
}

type daemon struct{ r *Resolver }

// watch ends the daemon when a table has changed, so that the next one opens what is
// new.
func (d *daemon) watch(ctx context.Context, rt *service.Runtime) error {
	tick := time.NewTicker(checkTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if name, changed := d.r.Changed(); changed {
				rt.Log.Info("table %s has changed -- restarting", name)
				return nil
			}
		}
	}
}

// serve answers one client's requests (spec §3.1).
func (d *daemon) serve(ctx context.Context, conn *service.Conn) error {
	return d.talk(ctx, conn, conn.Runtime.ServiceName+" socket", conn.Taken, conn.Available)
}

// talk is serve for any stream; begin and end are called around each request.
func (d *daemon) talk(ctx context.Context, conn io.ReadWriter, name string, begin, end func()) error {
	in := attr.NewReader(conn, attr.Null, name)
	out := attr.NewWriter(conn, attr.Null)
	if err := out.Str("protocol", rewrite.Protocol).Send(); err != nil {
		return nil // the client has gone
	}
	for {
		q, err := rewrite.ReadRequest(in)
		if err == io.EOF {
			return nil
		}
		begin()
		if err == nil {
			err = d.answer(ctx, out, q)
		}
		end()
		if err != nil {
			return d.explain(err)
		}
	}
}

// errContext is an unknown rewriting rule.
type errContext struct{ rule string }

func (e errContext) Error() string { return "unknown context: " + e.rule }

// explain decides what is said about a conversation that cannot go on: a client that
// leaves is no news.
func (d *daemon) explain(err error) error {
	var bad *rewrite.BadCommandError
	var rule errContext
	var format *attr.Error
	switch {
	case errors.As(err, &bad), errors.As(err, &rule):
		d.r.log.Warn("%v", err)
	case errors.As(err, &format) && format.Err == nil:
		d.r.log.Warn("%v", format)
	}
	return nil
}

func (d *daemon) answer(ctx context.Context, out *attr.Writer, q rewrite.Request) error {
	if q.Kind == rewrite.RequestRewrite {
		result, ok := d.r.Rewrite(q.Rule, q.Address)
		if !ok {
			return errContext{q.Rule}
		}
		return rewrite.WriteRewritten(out, result)
	}
	return rewrite.WriteReply(out, d.r.Resolve(ctx, q.Kind == rewrite.RequestVerify, q.Sender, q.Address))
}
