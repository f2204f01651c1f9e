// Package anvil counts connections and events per SMTP client, for the limits
// that smtpd enforces (spec ipc.md §2.8, smtpd.md §1.8). All state is in memory
// and is lost when the daemon ends.
package anvil

import (
	"context"
	"os"
	"time"

	"posthaste/pkg/ipc/anvil"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
)

// daemon is the running anvil.
type daemon struct {
	log      *maillog.Logger
	counters *counters
}

// Main runs the daemon; args[0] is the name it was called as.
func Main(args []string) int {
	d := &daemon{}
	return service.Run(service.Service{
		Name: "anvil", Kind: service.Multi, Requires: service.One,
		NoMaxUse: true, MinIdle: "anvil_rate_time_unit",
		Start: d.start,
		Serve: d.serve,
		Loop:  d.report,
		Done:  func(*service.Runtime) { d.statistics() },
	}, args, os.Environ())
}

func (d *daemon) start(_ context.Context, rt *service.Runtime) error {
	d.log = rt.Log
	d.counters = newCounters(rt.Config.Duration("anvil_rate_time_unit"))
	return nil
}

// report logs the statistics now and then.
func (d *daemon) report(ctx context.Context, rt *service.Runtime) error {
	return service.Every(ctx, rt.Config.Duration("anvil_status_update_time"), d.statistics)
}

// statistics logs the maxima that are not zero.
func (d *daemon) statistics() {
	unit := int(d.counters.unit / time.Second)
	for which, p := range d.counters.takePeaks() {
		if p.value == 0 {
			continue
		}
		when := p.when.Format("Jan _2 15:04:05")
		switch which {
		case peakConnCount:
			d.log.Info("statistics: max connection count %d for (%s) at %s", p.value, p.ident, when)
		case peakCache:
			d.log.Info("statistics: max cache size %d at %s", p.value, when)
		default:
			d.log.Info("statistics: max %s rate %d/%ds for (%s) at %s", peakNames[which], p.value, unit, p.ident, when)
		}
	}
}

var peakNames = map[int]string{
	peakConnRate: "connection", peakMail: "message", peakRcpt: "recipient", peakNewTLS: "newtls", peakAuth: "auth",
}

// serve answers one smtpd session. Its connection is counted out when the
// session goes away without saying so.
func (d *daemon) serve(_ context.Context, conn *service.Conn) error {
	r := attr.NewReader(conn, attr.Plain, "anvil socket")
	w := attr.NewWriter(conn, attr.Plain)
	if err := attr.Announce(w, anvil.Protocol); err != nil {
		return nil
	}
	open := "" // the one ident that this connection stands for
	defer func() {
		if open != "" {
			d.counters.disconnect(open)
		}
	}()
	for {
		list, err := r.List()
		if err != nil {
			return nil
		}
		var request, ident string
		if _, err := list.Scan(r.From(), attr.Str("request", &request), attr.Str("ident", &ident)); err != nil {
			return err
		}
		conn.Taken()
		d.answer(w, request, ident, &open)
		err = w.Send()
		conn.Available()
		if err != nil {
			return nil
		}
	}
}

// answer handles one request and writes the reply's attributes.
func (d *daemon) answer(w *attr.Writer, request, ident string, open *string) {
	switch request {
	case anvil.Connect:
		count, rate := d.counters.connect(ident, *open)
		*open = ident
		w.Int("status", anvil.StatusOK).Int("count", count).Int("rate", rate)
	case anvil.Disconnect:
		d.counters.disconnect(ident)
		if *open == ident {
			*open = ""
		}
		w.Int("status", anvil.StatusOK)
	case anvil.Message, anvil.Recipient, anvil.NewTLS, anvil.Auth:
		rate, registered := d.counters.event(request, ident, *open)
		if registered {
			*open = ident
		}
		w.Int("status", anvil.StatusOK).Int("rate", rate)
	case anvil.NewTLSStatus:
		w.Int("status", anvil.StatusOK).Int("rate", d.counters.lookup(ident).NewTLS)
	case anvil.Lookup:
		n := d.counters.lookup(ident)
		w.Int("status", anvil.StatusOK).Int("count", n.Count).Int("rate", n.Rate).
			Int("mail", n.Mail).Int("rcpt", n.Rcpt).Int("newtls", n.NewTLS).Int("auth", n.Auth)
	default:
		d.log.Warn("unrecognized request: \"%s\", ignored", request)
		w.Int("status", anvil.StatusFail)
	}
}
