// Package pipe is the delivery agent for external commands (spec delivery.md §1,
// §5): one run of a command, with the message as its input, delivers to all
// recipients of a request. The command line stands in master.cf.
//
// Commands run as the user that master.cf names, never as root or as the mail
// system. A process that was not started by root runs them as who it is, and
// serves no other user.
//
// Trouble with a command becomes the status of the recipients. A mistake in
// master.cf shows when mail arrives and ends the process, as all it was started
// for is that command.
package pipe

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/address"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/service"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/service/mailcommand"
	"posthaste/pkg/sys/cred"
)

// Main is the daemon; args[0] is the name it was called as.
func Main(args []string) int { return agent.Main(newDaemon(os.Environ()).agent(), args, os.Environ()) }

func newDaemon(environ []string) *daemon {
	return &daemon{environ: environ, accounts: accounts{cred.Lookup, cred.LookupGroup}}
}

func (d *daemon) agent() agent.Agent {
	return agent.Agent{
		Name:        "pipe",
		Privileged:  true,
		Arguments:   true,
		Filter:      "pipe_delivery_status_filter",
		MarkBounced: true,
		Setup:       d.setup,
		Deliver:     d.deliver,
	}
}

// daemon is what all deliveries share. It does not change after the start.
type daemon struct {
	environ  []string
	accounts accounts

	service      string // our name in master.cf
	configDir    string
	root         bool // started by root
	self         cred.Identity
	ext          address.Extensions
	keepOriginal bool // enable_original_recipient
	utf8         bool // smtputf8_enable
	timeLimit    time.Duration
	exports      []string // export_environment
	load         func() (*options, error)
}

func (d *daemon) setup(rt *service.Runtime) error {
	c := rt.Config
	doubleBounce, _ := address.Split(c.String("double_bounce_sender"))
	d.service, d.configDir, d.root, d.self = rt.ServiceName, c.Dir(), rt.Root, rt.Owner
	d.ext = address.Extensions{Delimiters: c.String("recipient_delimiter"), DoubleBounce: doubleBounce,
		OwnerRequest: c.Bool("owner_request_special")}
	d.keepOriginal, d.utf8 = c.Bool("enable_original_recipient"), c.Bool("smtputf8_enable")
	d.timeLimit = c.ServiceDuration(rt.ServiceName, "_time_limit", "command_time_limit")
	d.exports = c.List("export_environment")
	d.load = sync.OnceValues(func() (*options, error) {
		o, err := parseOptions(rt.Args, d.accounts)
		if err != nil {
			return nil, err
		}
		if !d.root {
			return o, o.checkRootless(d.self)
		}
		group, err := d.accounts.group(c.String("setgid_group"))
		if err != nil {
			group = -1
		}
		return o, o.checkRights(rt.Owner, c.String("setgid_group"), group)
	})
	return nil
}

func (d *daemon) deliver(ctx context.Context, j *agent.Job) error {
	o, err := d.load()
	if err != nil {
		j.Log.Fatal("%v", err)
	}
	t := task{daemon: d, options: o, job: j}
	end, err := t.run(ctx)
	switch {
	case errors.Is(err, mailbox.ErrCorrupt):
		j.Corrupt()
		return nil
	case err != nil:
		return err
	}
	for i := range j.Recipients {
		r := agent.Result{Relay: d.service, Status: end.status}
		if end.sent {
			j.Sent(ctx, &j.Recipients[i], r)
		} else {
			j.Failed(ctx, &j.Recipients[i], r)
		}
	}
	return nil
}

// outcome is what is reported for all recipients. The class of a failure's code
// is up to the command, so that it does not tell a success.
type outcome struct {
	sent   bool
	status dsn.Status
}

// task is the delivery to the recipients of one request.
type task struct {
	*daemon
	*options
	job *agent.Job
}

func failed(code, reason string) outcome {
	return outcome{status: dsn.Status{Code: code, Reason: reason}}
}

// misconfigured is a failure that only the administrator can mend, who is told in
// the log.
func (t *task) misconfigured(format string, a ...any) outcome {
	t.job.Log.Warn(format, a...)
	return failed("4.3.5", "mail system configuration error")
}

// run goes through the steps of delivery.md §5.2. An error means that there is
// nothing to report.
func (t *task) run(ctx context.Context) (outcome, error) {
	for _, flag := range "DO" {
		if t.flags.has(byte(flag)) && len(t.job.Recipients) > 1 {
			return t.misconfigured("pipe flag `%c' requires %s_destination_recipient_limit = 1", flag, t.service), nil
		}
	}
	if t.size > 0 && t.job.DataSize > t.size {
		return failed("5.2.3", "message too large"), nil
	}
	if t.job.Flags&deliver.Probe != 0 {
		return t.success("delivers to command: " + t.argv[0]), nil
	}
	rcpt := &t.job.Recipients[0]
	if t.flags.has('D') {
		loops, err := mailbox.FindLoops(t.job, t.utf8)
		if err != nil {
			return outcome{}, err
		}
		if loops.Has(rcpt.Address) {
			return failed("5.4.6", "mail forwarding loop for "+rcpt.Address), nil
		}
	}
	argv, err := t.expand()
	var unknown *unknownMacro
	switch {
	case errors.As(err, &unknown):
		return t.misconfigured("file %s/master.cf: service %s: %v", t.configDir, t.service, err), nil
	case err != nil:
		return t.misconfigured("%v", err), nil
	}
	return t.execute(ctx, argv, rcpt)
}

// execute runs the command and words what it did.
func (t *task) execute(ctx context.Context, argv []string, rcpt *deliver.Recipient) (outcome, error) {
	c := mailcommand.Command{Name: argv[0], Process: "pipe", Caller: "pipe_command: "}
	c.Argv, c.Dir, c.Chroot = argv, t.dir, t.chroot
	c.Identity = &cred.Identity{UID: t.user.UID, GID: t.user.GID}
	c.Env = mailcommand.Environment(t.environ, t.exports)
	c.TimeLimit = t.timeLimit
	r, err := mailcommand.Deliver(ctx, t.job, c, t.format(rcpt))
	if err != nil || !r.Taken {
		return outcome{status: r.Status}, err
	}
	const maxOutput = 100 // bytes of it that are shown
	reason := "delivered via " + t.service + " service"
	if out := trimRight(r.Output[:min(len(r.Output), maxOutput)]); out != "" {
		reason += " (" + out + ")"
	}
	return t.success(reason), nil
}

func (t *task) success(reason string) outcome {
	o := outcome{true, dsn.Status{Code: "2.0.0", Action: "relayed", Reason: reason}}
	if t.flags.has('X') {
		o.status.Action = "delivered"
	}
	return o
}

// sender is what stands for the envelope sender wherever it is shown.
func (t *task) sender() string {
	if t.job.Sender == "" {
		return t.nullSender
	}
	return t.job.Sender
}

// format is what the flags want around the content (delivery.md §1.5).
func (t *task) format(rcpt *deliver.Recipient) mailbox.Format {
	f := mailbox.Format{Sender: t.sender(), EOL: t.eol,
		From: t.flags.has('F'), ReturnPath: t.flags.has('R'), Escape: t.flags.has('>'), Dots: t.flags.has('.'), Blank: t.flags.has('B')}
	if t.flags.has('O') && t.keepOriginal {
		f.OriginalTo = rcpt.Original
	}
	if t.flags.has('D') {
		f.Delivered = rcpt.Address
	}
	return f
}
