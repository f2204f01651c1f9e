// Package dnsblog looks client addresses up in DNS block and allow lists for
// postscreen, one question a connection, and logs what is listed (spec ipc.md
// §2.15, smtpd.md §8.4).
//
// A look-up that fails is logged and answered as "not listed" with an unknown
// time to live.
package dnsblog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/service"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/dns"
)

// maxText bounds what a client sends as a domain or an address, in bytes.
const maxText = 1024

// unknownTTL says that nothing is known about how long an answer holds.
const unknownTTL = -1

// Main runs the daemon.
func Main(args []string) int {
	d := &daemon{resolver: dns.NewClient()}
	return service.Run(service.Service{
		Name: "dnsblog", Kind: service.Single, Requires: service.Zero,
		NoMaxUse: true, Retire: true,
		Start: func(_ context.Context, rt *service.Runtime) error {
			d.log, d.delay = rt.Log, rt.Config.Duration("dnsblog_reply_delay")
			return nil
		},
		Serve: func(ctx context.Context, conn *service.Conn) error { return d.serve(ctx, conn) },
	}, args, os.Environ())
}

type daemon struct {
	log      *maillog.Logger
	resolver dns.Resolver
	delay    time.Duration // dnsblog_reply_delay, for tests of postscreen
}

// request is the question: is this address in that list? The label is the
// caller's and goes back to it.
type request struct {
	domain, addr string
	label        int
}

func readRequest(in *attr.Reader) (q request, err error) {
	err = in.Scan(attr.Str("rbl_domain", &q.domain), attr.Str("client_address", &q.addr), attr.Int("label", &q.label))
	if err == nil && (len(q.domain) > maxText || len(q.addr) > maxText) {
		err = &attr.Error{Text: "request from " + in.From() + " is too long"}
	}
	return q, err
}

// serve answers one client. A malformed request gets no answer.
func (d *daemon) serve(ctx context.Context, conn io.ReadWriter) error {
	in, out := attr.NewReader(conn, attr.Null, "dnsblog socket"), attr.NewWriter(conn, attr.Null)
	q, err := readRequest(in)
	if err != nil {
		return err
	}
	listed, ttl, err := d.query(ctx, q)
	if err != nil {
		return err
	}
	if d.delay > 0 {
		select {
		case <-time.After(d.delay):
		case <-ctx.Done():
		}
	}
	return out.Str("rbl_domain", q.domain).Str("client_address", q.addr).Int("label", q.label).
		Str("rbl_addr", strings.Join(listed, " ")).Int("ttl", ttl).Send()
}

// query gives the addresses by which a list lists q.addr, and the seconds for
// which that answer holds.
func (d *daemon) query(ctx context.Context, q request) (listed []string, ttl int, err error) {
	reversed, err := reverse(q.addr)
	if err != nil {
		return nil, 0, err
	}
	name := reversed + "." + q.domain
	answer, err := d.resolver.Lookup(ctx, name, dns.A)
	var e *dns.Error
	switch {
	case errors.As(err, &e) && e.Missing():
		if d.log.Verbose() > 0 {
			d.log.Info("dnsblog_query: addr %s not listed by domain %s", q.addr, q.domain)
		}
		if e.TTL > 0 {
			return nil, int(e.TTL), nil
		}
		return nil, unknownTTL, nil
	case err != nil:
		d.log.Warn("dnsblog_query: lookup error for DNS query %s: %v", name, err)
		return nil, unknownTTL, nil
	}
	ttl = unknownTTL
	for _, r := range answer.Records {
		if r.Type != dns.A {
			continue
		}
		listed = append(listed, r.Addr.String())
		if ttl == unknownTTL || int(r.TTL) < ttl {
			ttl = int(r.TTL)
		}
		d.log.Info("addr %s listed by domain %s as %s", q.addr, q.domain, r.Addr)
	}
	return listed, ttl, nil
}

// reverse gives the labels of an address in the order of DNS lists (RFC 5782):
// octets, or for IPv6 hexadecimal digits, the last one first.
func reverse(text string) (string, error) {
	var labels []string
	if strings.Contains(text, ":") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return "", fmt.Errorf("dnsblog_query: unable to convert address %s", text)
		}
		for _, b := range addr.As16() {
			labels = append(labels, fmt.Sprintf("%x", b>>4), fmt.Sprintf("%x", b&15))
		}
	} else {
		labels = strings.Split(text, ".")
	}
	slices.Reverse(labels)
	return strings.Join(labels, "."), nil
}
