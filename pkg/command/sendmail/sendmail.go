// Package sendmail is the command sendmail under its names sendmail, mailq and
// newaliases: the old interface that every program with mail to send calls
// (spec queue.md §8.1, §8.2). Submission is done by postdrop, everything else
// by the command that exists for it.
//
// Every fatal error ends it at once with exit status 75 (EX_TEMPFAIL).
package sendmail

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"posthaste/pkg/command"
	"posthaste/pkg/command/caller"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
)

// exitFatal is the exit status of every fatal error.
const exitFatal = 75

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	syscall.Umask(0o022)
	p := &command.Program{Name: "sendmail", StderrTag: filepath.Base(args[0]), FatalExit: exitFatal, Env: env}
	p.OpenLog()
	code, err := run(args, p)
	if err != nil {
		return p.Fail(err)
	}
	return code
}

func run(args []string, p *command.Program) (int, error) {
	o, parseError := parse(args)
	cfg, err := p.EnterQueue(o.configDir, o.verbose)
	if err != nil {
		return 0, err
	}
	if o.configDir != "" {
		os.Setenv("MAIL_CONFIG", o.configDir)
	}
	if parseError != nil {
		var bad *getopt.Error
		if errors.As(parseError, &bad) {
			fmt.Fprintf(p.Env.Stderr, "%s: %v\n", args[0], bad)
			parseError = fmt.Errorf("usage: %s [options]", args[0])
		}
		return 0, parseError
	}
	for _, w := range o.warnings {
		p.Log.Warn("%s", w)
	}
	c := &client{options: o, cfg: cfg, log: p.Log, env: p.Env, uid: os.Getuid()}
	return c.modes()[o.mode](context.Background())
}

// client is one run of the command, in the queue directory.
type client struct {
	options
	cfg *conf.Config
	log *maillog.Logger
	env command.Env
	uid int // of who called us
}

func (c *client) modes() map[mode]func(context.Context) (int, error) {
	queue := func(args ...string) func(context.Context) (int, error) {
		return func(context.Context) (int, error) {
			return c.become(filepath.Join(c.cfg.String("command_directory"), "postqueue"), args...)
		}
	}
	return map[mode]func(context.Context) (int, error){
		nothing:    func(context.Context) (int, error) { return 0, nil },
		enqueue:    c.enqueue,
		list:       queue(append([]string{"-p"}, c.verbosity()...)...),
		flushQueue: queue(append([]string{"-f"}, c.verbosity()...)...),
		flushSite:  c.withoutRecipients("flush site", queue("-s", c.target)),
		flushID:    c.withoutRecipients("flush queue_id", queue("-i", c.target)),
		daemon:     c.startDaemon,
		aliases:    c.makeAliases,
		standAlone: c.standAlone,
	}
}

func (c *client) withoutRecipients(what string, run func(context.Context) (int, error)) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		if len(c.recipients) > 0 {
			return 0, fmt.Errorf("%s requires no recipient", what)
		}
		return run(ctx)
	}
}

// verbosity passes -v on.
func (c *client) verbosity() []string { return slices.Repeat([]string{"-v"}, c.verbose) }

// become replaces this process by another command.
func (c *client) become(path string, args ...string) (int, error) {
	err := syscall.Exec(path, append([]string{filepath.Base(path)}, args...), os.Environ())
	return 0, fmt.Errorf("execv %s: %w", path, maillog.Errno(err))
}

// startDaemon starts the mail system and does not wait for it.
func (c *client) startDaemon(context.Context) (int, error) {
	cmd := exec.Command(filepath.Join(c.cfg.String("command_directory"), "postfix"), append(c.verbosity(), "start")...)
	if err := cmd.Start(); err != nil {
		return 1, nil
	}
	return 0, nil
}

// makeAliases rebuilds the alias databases.
func (c *client) makeAliases(context.Context) (int, error) {
	maps := c.aliasPaths
	if len(maps) == 0 {
		maps = c.cfg.List("alias_database")
	}
	if len(maps) == 0 {
		return 0, nil
	}
	args := append(c.verbosity(), "--")
	return c.become(filepath.Join(c.cfg.String("command_directory"), "postalias"), append(args, maps...)...)
}

// standAlone speaks SMTP on standard input and output.
func (c *client) standAlone(ctx context.Context) (int, error) {
	if err := c.permitted(ctx); err != nil {
		return 0, err
	}
	return c.become(filepath.Join(c.cfg.String("daemon_directory"), "smtpd"), append([]string{"-S"}, c.verbosity()...)...)
}

// permitted checks authorized_submit_users.
func (c *client) permitted(ctx context.Context) error {
	return caller.Permit(ctx, c.cfg, c.log, "authorized_submit_users", c.uid, "submit mail")
}

// failure is a fatal error of a submission: "sender(uid): text".
func (c *client) failure(sender, format string, a ...any) error {
	return fmt.Errorf("%s(%d): "+format, append([]any{sender, c.uid}, a...)...)
}

// exportEnvironment is what postdrop gets to see.
func (c *client) exportEnvironment() []string {
	return command.Environment(c.cfg.List("export_environment"), c.env.Lookup)
}

// shellWords are the words of a command that needs no shell.
func shellWords(command string) []string {
	if strings.ContainsAny(command, "~`!@#$^&*()|\\'\"<>?;[]{}") {
		return []string{"/bin/sh", "-c", command}
	}
	return strings.Fields(command)
}
