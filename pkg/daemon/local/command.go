package local

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/service/mailcommand"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/proc"
)

// command delivers to a command (delivery.md §1.7, §3.8).
func (t *task) command(ctx context.Context, s state, line string) (done bool) {
	id, ok := t.leafRights(&s)
	if !ok {
		return t.misconfigured(ctx, &s, "4.3.5")
	}
	if !t.first("command", strconv.Itoa(id.UID), s.user, line) {
		return true
	}
	if t.probe() {
		return t.sent(ctx, &s, "delivers to command: "+line)
	}
	dir, err := t.workingDir(&s)
	if err != nil {
		t.job.Log.Warn("bad parameter value syntax for command_execution_directory: %s", t.commandDir)
		return t.misconfigured(ctx, &s, "4.3.5")
	}
	r, err := t.execute(ctx, &s, id, line, dir)
	switch {
	case errors.Is(err, mailbox.ErrCorrupt):
		t.corrupt = true
		return false
	case err != nil:
		return false // we are being stopped
	case r.Taken:
		return t.sent(ctx, &s, "delivered to command: "+line)
	}
	return t.ownerBounced(ctx, &s, r.Status)
}

func (t *task) workingDir(s *state) (string, error) {
	m := macros{state: s, id: s.rights, delimiters: t.ext.Delimiters}
	return m.expand(t.commandDir, t.dirFilter)
}

// execute runs the command with the message as its input.
func (t *task) execute(ctx context.Context, s *state, id cred.Identity, line, dir string) (mailcommand.Result, error) {
	c := mailcommand.Command{
		Command: proc.Command{ShellCommand: line, Shell: t.commandShell, Env: t.commandEnv(s, id), Dir: dir,
			Identity: &cred.Identity{UID: id.UID, GID: id.GID}, TimeLimit: t.timeLimit},
		Name: line, Process: "local", NoScripts: t.commandShell != "",
	}
	f := t.format(s, t.prependHeader["command"])
	f.From = true
	return mailcommand.Deliver(ctx, t.job, c, f)
}

// commandEnv is the whole environment of a command.
func (t *task) commandEnv(s *state, id cred.Identity) []string {
	env := mailcommand.Environment(t.environ, t.exports)
	add := func(name, value string) {
		b := []byte(value)
		for i, c := range b {
			if strings.IndexByte(t.commandFilter, c) < 0 {
				b[i] = '_'
			}
		}
		env = append(env, name+"="+string(b))
	}
	some := func(name, value string) {
		if value != "" {
			add(name, value)
		}
	}
	if s.rights != nil {
		some("HOME", s.rights.Home)
	}
	add("LOGNAME", s.user)
	add("USER", s.user)
	add("SENDER", s.message.Sender)
	add("RECIPIENT", s.rcpt.Address)
	add("LOCAL", s.local)
	if s.rights != nil {
		some("SHELL", s.rights.Shell)
	}
	some("DOMAIN", s.domain)
	if s.extension != "" {
		add("EXTENSION", s.extension[1:])
	}
	add("ORIGINAL_RECIPIENT", s.rcpt.Original)
	j := t.job
	some("CLIENT_HOSTNAME", j.ClientName)
	some("CLIENT_ADDRESS", j.ClientAddress)
	some("CLIENT_HELO", j.ClientHelo)
	some("CLIENT_PROTOCOL", j.ClientProtocol)
	some("SASL_METHOD", j.SASLMethod)
	some("SASL_SENDER", j.SASLSender)
	some("SASL_USERNAME", j.SASLUsername)
	return env
}
