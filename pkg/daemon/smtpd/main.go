// Package smtpd is the SMTP server: it talks to the clients of the network,
// decides by the lists of restrictions what it takes from them, and hands the
// messages to cleanup (spec smtpd.md; RFC 5321 and the extensions PIPELINING,
// SIZE, VRFY, ETRN, 8BITMIME, ENHANCEDSTATUSCODES, DSN, SMTPUTF8, CHUNKING and
// STARTTLS).
//
// A session is one goroutine and about thirty kilobytes: buffers come from a
// pool and are held only while data moves. All that goes wrong with a client, a
// table or another service is a reply and a log line; an error ends the process
// only at start, when the configuration makes no sense. A panic costs its
// session, which is told 421.
//
// 250 after the end of data is sent when cleanup has answered that the message
// is on stable storage, and not before.
package smtpd

import (
	"context"
	"os"
	"path/filepath"

	"posthaste/pkg/ipc/anvil"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/flush"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/ipc/tlsmgr"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/table"
)

// Main is the program smtpd; args[0] is the name it was called by. The result
// is the exit status.
func Main(args []string) int {
	var srv *Server
	return service.Run(service.Service{
		Name: "smtpd",
		Kind: service.Single,
		Setup: func(rt *service.Runtime) (err error) { // as root: tables, lists, private keys
			srv, err = setup(rt)
			return err
		},
		Start: func(_ context.Context, rt *service.Runtime) error {
			srv.connectServices(rt)
			return nil
		},
		Serve: func(ctx context.Context, conn *service.Conn) error {
			srv.serve(ctx, conn.Raw(), conn.Attrs)
			return nil
		},
		TableChanged: func() (string, bool) { return srv.changed() },
	}, args, os.Environ())
}

func setup(rt *service.Runtime) (*Server, error) {
	env := table.Env{Config: rt.Config, Log: rt.Log, Daemon: true}
	// "sendmail -bs" runs us as the user; a test of the mail owner's is an
	// ordinary session.
	standAlone := rt.StandAlone
	if owner, err := cred.Lookup(rt.Config.String("mail_owner")); err == nil && owner.UID == os.Getuid() {
		standAlone = false
	}
	srv, err := newServer(rt.Config, env, rt.Log, standAlone)
	if err != nil {
		return nil, err
	}
	srv.service = rt.ServiceName
	return srv, nil
}

// connectServices says how the other programs are reached. Nothing is
// connected before it is needed.
func (srv *Server) connectServices(rt *service.Runtime) {
	c := rt.Config
	client := rewrite.New(rewrite.FromConfig(c, rt.Log))
	srv.rewrite = client
	srv.verify = verify.New(verify.FromConfig(c, rt.Log))
	options := cleanup.FromConfig(c)
	srv.open = func(ctx context.Context, flags cleanup.Flags) (messageSink, error) {
		return openCleanup(ctx, options, flags)
	}
	if srv.standAlone {
		postdrop := filepath.Join(srv.set.commandDir, "postdrop")
		srv.open = func(ctx context.Context, _ cleanup.Flags) (messageSink, error) {
			return openPostdrop(ctx, postdrop, rt.Log)
		}
	}
	timeout := c.Duration("ipc_timeout")
	endpoint, set := c.Explicit("client_connection_rate_service_name") // no parameter of 3.7's own table
	if !set {
		endpoint = "local:private/anvil"
	}
	srv.newCounter = func() counter {
		return &anvil.Client{Endpoint: endpoint, Timeout: timeout, Warn: rt.Log.Warn}
	}
	etrn := flush.Client{Dialer: dial.Dialer{Timeout: timeout, Log: rt.Log}, Service: c.String("flush_service_name")}
	srv.flush = etrn.SendSite
	srv.post = func(ctx context.Context, sender, to string) (poster, error) {
		return cleanup.NewPost(context.WithoutCancel(ctx), c, cleanup.PostOptions{Sender: sender, Recipient: to, Class: cleanup.ClassNotify, NoWait: true, Log: rt.Log})
	}
	if srv.tlsEngine != nil && srv.tlsEngine.Tickets != nil {
		srv.tlsEngine.Tickets.Source = tlsmgr.Tickets(c.String("tlsmgr_service_name"), rt.Log)
	}
	srv.loadRewriteClients()
}

// cleanupSink is a message on its way to cleanup.
type cleanupSink struct{ s *cleanup.Session }

func openCleanup(ctx context.Context, o cleanup.Options, flags cleanup.Flags) (messageSink, error) {
	s, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.SetFlags(flags); err != nil {
		s.Abort()
		return nil, err
	}
	return cleanupSink{s}, nil
}

func (c cleanupSink) ID() string                           { return c.s.QueueID }
func (c cleanupSink) Rec(t record.Type, data []byte) error { return c.s.Rec(t, data) }
func (c cleanupSink) Finish() (cleanup.Result, error)      { return c.s.Finish() }
func (c cleanupSink) Abort()                               { c.s.Abort() }
