// Package agent is what all delivery agents have in common (spec delivery.md §1,
// §7, ipc.md §2.5): the conversation with the queue manager, the queue file,
// and the reports about what became of each recipient.
//
// An agent is an Agent value whose Deliver function is given a Job. For each
// recipient of the job it calls Sent, Bounced or Deferred (or reports with
// Job.Report and then calls Finish); these return when the outcome is on stable
// storage, log it and mark the recipient in the queue file. Many jobs run at one
// time in one process.
//
// Trouble with the queue file or with a status service ends as "try again
// later", never as a lost recipient.
package agent

import (
	"context"
	"errors"
	"io"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/service"
)

// Agent describes a delivery agent.
type Agent struct {
	Name        string // program name; "" is the base of argv[0]
	Privileged  bool   // delivers with other users' rights
	Arguments   bool   // takes arguments in master.cf
	Filter      string // parameter with the delivery status filter; "" is none
	MarkBounced bool   // marks bounced recipients also when flag 1 is not set (smtp, pipe, error)
	Watchdog    string // as in service.Service

	Setup        func(rt *service.Runtime) error                      // as in service.Service
	Start        func(ctx context.Context, rt *service.Runtime) error // as in service.Service
	TableChanged func() (name string, changed bool)
	Stop         func(rt *service.Runtime)
	Done         func(rt *service.Runtime)

	// Deliver does the work. An error is logged as a warning and makes the
	// request be tried again.
	Deliver func(ctx context.Context, j *Job) error
}

// Main is the whole life of an agent; it returns the exit status.
func Main(a Agent, argv, env []string) int { return service.Run(Service(a), argv, env) }

// Service makes a daemon of an agent.
func Service(a Agent) service.Service {
	s := &server{agent: a}
	return service.Service{
		Name:         a.Name,
		Kind:         service.Single,
		Privileged:   a.Privileged,
		Arguments:    a.Arguments,
		Watchdog:     a.Watchdog,
		Setup:        s.setup,
		Start:        a.Start,
		Serve:        s.serve,
		Stop:         a.Stop,
		Done:         a.Done,
		TableChanged: s.tableChanged,
	}
}

type server struct {
	agent  Agent
	report *Reporter
}

func (s *server) setup(rt *service.Runtime) error {
	var err error
	if s.report, err = NewReporter(rt.Config, rt.Log, s.agent.Filter); err != nil {
		return err
	}
	if s.agent.Setup != nil {
		return s.agent.Setup(rt)
	}
	return nil
}

func (s *server) tableChanged() (string, bool) {
	if name, changed := s.report.TableChanged(); changed {
		return name, true
	}
	if s.agent.TableChanged != nil {
		return s.agent.TableChanged()
	}
	return "", false
}

func (s *server) serve(ctx context.Context, conn *service.Conn) error {
	rt := conn.Runtime
	c := dial.NewConn(conn, 0, rt.ServiceName+" socket")
	if err := attr.Announce(c.Out, deliver.Protocol); err != nil {
		return err
	}
	for {
		more, err := s.converse(ctx, c, rt, conn.Keep)
		if err != nil || !more {
			return err
		}
		if _, err := c.In.Buffered().Peek(1); err != nil || !conn.Resume() {
			return nil // they want no more, or not from us
		}
	}
}

// converse is one delivery, after the announcement: request, work, reply. If
// keep allows it the announcement for another one follows the reply at once,
// and more is true. A queue manager that knows of no such thing (Postfix's)
// reads the reply and closes; what is left unread does not matter to it.
// Otherwise the peer closes after the reply.
func (s *server) converse(ctx context.Context, c *dial.Conn, rt *service.Runtime, keep func() bool) (more bool, err error) {
	req, err := deliver.ReadRequest(c.In)
	if err == io.EOF {
		return false, nil
	}
	reply := deliver.Reply{Status: deliver.Retry}
	switch {
	case errors.Is(err, deliver.ErrCommon), errors.Is(err, deliver.ErrRecipients):
		rt.Log.Warn("deliver_request_get: %v", err)
	case err != nil:
		return false, err
	default:
		reply = s.handle(ctx, rt, req)
		more = keep() // not for a peer that makes no sense
	}
	deliver.AddReply(c.Out, reply)
	if more {
		c.Out.Str("protocol", deliver.Protocol).End()
	}
	if err := c.Out.Flush(); err != nil {
		return false, err
	}
	if !more {
		io.ReadFull(c, make([]byte, 1))
	}
	return more, nil
}

// handle serves one request. The lock on the queue file is held until the reply
// is ready.
func (s *server) handle(ctx context.Context, rt *service.Runtime, req *deliver.Request) deliver.Reply {
	j, err := open(&s.agent, rt.Queue, s.report, rt.Log, req)
	if err != nil {
		return deliver.Reply{Status: deliver.Retry}
	}
	defer j.File.Close()
	if err := s.agent.Deliver(ctx, j); err != nil {
		rt.Log.Warn("%s: %v", j.ID, err)
		j.Retry()
	}
	return j.finish()
}
