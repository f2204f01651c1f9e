// Package postqueue is the command postqueue: what ordinary users may see of
// the queue and ask of it (spec queue.md §4). It is installed set-gid, so that
// it can reach the sockets in "public".
//
// Every fatal error ends it at once with exit status 69 (EX_UNAVAILABLE).
package postqueue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/caller"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/flush"
	"posthaste/pkg/ipc/trigger"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// exitFatal is the exit status of every fatal error.
const exitFatal = 69

const (
	usage       = "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site"
	systemDown  = "Cannot flush mail queue - mail system is down"
	triggerTime = 2 * time.Second
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	signal.Ignore(syscall.SIGPIPE) // a reader that has seen enough is no error
	p := &command.Program{Name: "postqueue", FatalExit: exitFatal, Env: env}
	p.OpenLog()
	if err := run(args, p); err != nil {
		return p.Fail(err)
	}
	return 0
}

// request is the command line.
type request struct {
	mode      byte // f, i, j, p or s
	argument  string
	verbose   int
	configDir string
}

func parse(args []string, env command.Env) (request, error) {
	var r request
	options, rest, err := getopt.Parse(args[1:], "c:fi:jps:v")
	if err != nil {
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], err)
		return r, errors.New(usage)
	}
	for _, o := range options {
		switch o.Letter {
		case 'c':
			r.configDir = o.Value
		case 'v':
			if os.Geteuid() == 0 {
				r.verbose++
			}
		default:
			if r.mode != 0 {
				return r, errors.New(usage)
			}
			r.mode, r.argument = o.Letter, o.Value
		}
	}
	if r.mode == 0 || len(rest) > 0 {
		return r, errors.New(usage)
	}
	return r, nil
}

func run(args []string, p *command.Program) error {
	r, err := parse(args, p.Env)
	if err != nil {
		return err
	}
	cfg, err := p.EnterQueue(r.configDir, r.verbose)
	if err != nil {
		return err
	}
	c := &client{cfg: cfg, log: p.Log, env: p.Env, request: r, uid: os.Getuid()}
	return c.modes()[r.mode](context.Background())
}

// client is one run of the command in the queue directory.
type client struct {
	request
	cfg *conf.Config
	log *maillog.Logger
	env command.Env
	uid int // of who called us
	out output
}

func (c *client) modes() map[byte]func(context.Context) error {
	return map[byte]func(context.Context) error{
		'f': c.flushQueue, 'i': c.flushFile, 's': c.flushSite,
		'p': func(ctx context.Context) error { return c.list(ctx, c.newText()) },
		'j': func(ctx context.Context) error { return c.list(ctx, c.newJSON()) },
	}
}

// allow checks a list of users: authorized_mailq_users or
// authorized_flush_users. The super-user and the owner of the queue need no
// permission.
func (c *client) allow(ctx context.Context, parameter, what string) error {
	if c.uid == 0 {
		return nil
	}
	if owner, err := cred.Lookup(c.cfg.String("mail_owner")); err == nil && owner.UID == c.uid {
		return nil
	}
	return caller.Permit(ctx, c.cfg, c.log, parameter, c.uid, what+" the mail queue")
}

func (c *client) allowFlush(ctx context.Context) error {
	return c.allow(ctx, "authorized_flush_users", "flush")
}

// flushQueue asks for an attempt to deliver everything (-f).
func (c *client) flushQueue(ctx context.Context) error {
	if err := c.allowFlush(ctx); err != nil {
		return err
	}
	for _, t := range []struct{ parameter, requests string }{
		{"queue_service_name", "FADI"}, // forget dead sites, any age, deferred, incoming
		{"pickup_service_name", "W"},
	} {
		service := c.cfg.String(t.parameter)
		ctx, cancel := context.WithTimeout(ctx, triggerTime)
		err := trigger.Send(ctx, dial.Public, service, t.requests)
		cancel()
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			c.log.Warn("unable to look up %s/%s: %v", dial.Public, service, maillog.Errno(err))
		}
		if err != nil {
			return errors.New(systemDown)
		}
	}
	return nil
}

func (c *client) flushClient() flush.Client {
	return flush.Client{
		Dialer:  dial.Dialer{Timeout: c.cfg.Duration("ipc_timeout"), Log: c.log},
		Service: c.cfg.String("flush_service_name"),
	}
}

// flushSite asks for delivery of what waits for a destination (-s).
func (c *client) flushSite(ctx context.Context) error {
	if err := c.allowFlush(ctx); err != nil {
		return err
	}
	site := c.argument
	if !validDestination(site) {
		return fmt.Errorf(`Cannot flush mail queue - invalid destination: "%s"`, abridged(site))
	}
	eligible, err := c.eligible(ctx, site)
	if err != nil {
		return err
	}
	denied := fmt.Errorf(`Flush service is not configured for destination "%s"`, site)
	if !eligible {
		return denied
	}
	status, err := c.flushClient().SendSite(ctx, site)
	if err == nil && status == flush.Denied {
		return denied
	}
	return c.verdict(status, err, "Unknown")
}

// verdict is what the flush service has answered; odd is the word for a status
// that does not belong to the request.
func (c *client) verdict(status flush.Status, err error, odd string) error {
	if err != nil {
		c.complain(err)
	}
	switch status {
	case flush.OK:
		return nil
	case flush.Bad:
		return fmt.Errorf(`Invalid request: "%s"`, c.argument)
	case flush.Failed:
		return errors.New(systemDown)
	}
	return fmt.Errorf("%s flush server reply status %d", odd, status)
}

// eligible asks fast_flush_domains here, as the server would.
func (c *client) eligible(ctx context.Context, site string) (bool, error) {
	const parameter = "fast_flush_domains"
	list, err := table.NewMatchList(table.Env{Config: c.cfg, Log: c.log, Strict: true}, parameter, c.cfg.String(parameter), table.MatchDomain, 0)
	if err != nil {
		return false, err
	}
	defer list.Close()
	ok, err := list.Match(ctx, site)
	if err != nil {
		c.log.Warn("%s: %v", parameter, err)
		return false, errors.New(systemDown)
	}
	return ok, nil
}

// flushFile asks for delivery of one message (-i).
func (c *client) flushFile(ctx context.Context) error {
	if err := c.allowFlush(ctx); err != nil {
		return err
	}
	id := c.argument
	if !queue.ValidID(id) {
		return fmt.Errorf(`Cannot flush queue ID - invalid name: "%s"`, abridged(id))
	}
	status, err := c.flushClient().SendFile(ctx, id)
	return c.verdict(status, err, "Unexpected")
}

// complain logs a broken conversation; a failure to connect has been logged.
func (c *client) complain(err error) {
	if !errors.As(err, new(*os.SyscallError)) {
		c.log.Warn("%v", err)
	}
}

// abridged is a bad argument as it is shown.
func abridged(text string) string {
	if len(text) > 100 {
		return text[:100] + "..."
	}
	return text
}
