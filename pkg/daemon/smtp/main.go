// Package smtp is the delivery agent that hands mail to other machines by SMTP,
// and, called as lmtp, to mail stores by LMTP (spec delivery.md §1, §2, §7).
//
// A delivery is a request: its destinations, the servers of each, and the
// recipients that are left. A session is a connection to one server, a
// transfer one mail transaction on it. Sessions that are still good are kept
// for a short time in a cache inside this process.
//
// How much TLS a connection must have is its policy (tlspolicy.go; entries of the
// policy table: tlssite.go; DANE: dane.go), and tls.go starts it. The handshake
// and the verdict on the server's certificate are package mailtls's.
//
// What a server, the name service or a table does wrong becomes the status of
// the recipients and is never an error of a Go function that leaves this
// package.
package smtp

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"posthaste/pkg/conf"
	"posthaste/pkg/service"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/dns"
	mailtls "posthaste/pkg/wire/tls"
)

// Main is the daemon; args[0] is the name it was called as, smtp or lmtp.
func Main(args []string) int {
	name := filepath.Base(args[0])
	if name != "lmtp" {
		name = "smtp"
	}
	d := &daemon{}
	return agent.Main(agent.Agent{
		Name:         name,
		Arguments:    true,
		Filter:       name + "_delivery_status_filter",
		MarkBounced:  true,
		Setup:        func(rt *service.Runtime) error { return d.setup(rt, name) },
		TableChanged: func() (string, bool) { return d.tables.changed() },
		Deliver:      d.deliver,
		Stop:         func(*service.Runtime) { d.cache.close() },
	}, args, os.Environ())
}

// daemon is what all deliveries share.
type daemon struct {
	*settings
	tables   tables
	conf     *conf.Config
	log      *maillog.Logger
	resolver dns.Resolver
	probe    *dns.Probe // nil: none
	native   dns.Native
	cache    *cache
	engine   *mailtls.Client // nil: no TLS
	service  string          // master.cf service name
	flags    agentFlags
}

// agentFlags are the letters of "flags=" in master.cf.
type agentFlags struct {
	deliveredTo, origTo, returnPath, final bool
}

func (d *daemon) setup(rt *service.Runtime, name string) error {
	d.conf, d.log, d.service = rt.Config, rt.Log, rt.ServiceName
	var err error
	if d.settings, err = newSettings(rt.Config, name == "lmtp"); err != nil {
		return err
	}
	if d.flags, err = parseArgs(rt.Args); err != nil {
		return err
	}
	if d.assumeFinal && !d.flags.final {
		rt.Log.Warn("lmtp_assume_final is obsolete; instead, specify \"flags=...X\" in master.cf")
		d.flags.final = true
	}
	d.openTLS()
	if err = d.tables.open(d.settings, rt.Config, rt.Log); err != nil {
		return err
	}
	client := dns.NewClient()
	client.DNSSEC = d.dnssec
	client.Search, client.DefNames = d.resolverSearch, d.resolverDefNames
	if !d.tables.dnsFilter.Empty() {
		client.Filter = d.filterRecords
	}
	d.native = dns.System{}
	if err := d.resolveBy(client); err != nil {
		return err
	}
	d.cache = newCache(d.cacheTime)
	return nil
}

// resolveBy sets the resolver, and the probe of it if DNSSEC is wanted.
func (d *daemon) resolveBy(r dns.Resolver) (err error) {
	if d.resolver = r; d.dnssec {
		d.probe, err = dns.NewProbe(r, d.conf.String("dnssec_probe"), d.log.Warn)
	}
	return err
}

func parseArgs(args []string) (agentFlags, error) {
	var f agentFlags
	for _, arg := range args {
		const prefix = "flags="
		if len(arg) < len(prefix) || arg[:len(prefix)] != prefix {
			return f, fmt.Errorf("unknown attribute name: %s", arg)
		}
		for _, letter := range arg[len(prefix):] {
			switch letter {
			case 'D':
				f.deliveredTo = true
			case 'O':
				f.origTo = true
			case 'R':
				f.returnPath = true
			case 'X':
				f.final = true
			default:
				return f, fmt.Errorf("unknown flag: %c", letter)
			}
		}
	}
	return f, nil
}

// deliver serves one request of the queue manager.
func (d *daemon) deliver(ctx context.Context, j *agent.Job) error {
	if j.NextHop == "" {
		return fmt.Errorf("empty nexthop hostname")
	}
	r := newRequest(ctx, d, j)
	return r.run()
}
