package local

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"posthaste/pkg/message/dsn"
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
	st, err := t.execute(ctx, &s, id, line, dir)
	switch {
	case errors.Is(err, errCorrupt):
		t.corrupt = true
		return false
	case err != nil:
		return false // we are being stopped
	case st.Code[0] == '2':
		return t.sent(ctx, &s, "delivered to command: "+line)
	}
	return t.ownerBounced(ctx, &s, st)
}

func (t *task) workingDir(s *state) (string, error) {
	m := macros{state: s, id: s.rights, delimiters: t.ext.Delimiters}
	return m.expand(t.commandDir, t.dirFilter)
}

// execute runs the command with the message as its input, and judges.
func (t *task) execute(ctx context.Context, s *state, id cred.Identity, line, dir string) (dsn.Status, error) {
	if dir != "" {
		if err := cred.As(id, func() error { return isDirectory(dir) }); err != nil {
			t.job.Log.Warn("cannot change directory to \"%s\" for uid=%d gid=%d: %s", dir, id.UID, id.GID, text(err))
			return temporary("local: fatal: cannot change directory to \"" + dir + "\" for uid=" +
				strconv.Itoa(id.UID) + " gid=" + strconv.Itoa(id.GID) + ": " + text(err)), nil
		}
	}
	message, feeder := io.Pipe()
	fed := make(chan error, 1)
	go func() {
		err := t.copyTo(feeder, s, style{from: true, delivered: t.prependHeader["command"]})
		feeder.CloseWithError(err)
		fed <- err
	}()
	c := proc.Command{ShellCommand: line, Shell: t.commandShell, Env: t.commandEnv(s, id), Dir: dir,
		Identity: &cred.Identity{UID: id.UID, GID: id.GID}, Stdin: message, TimeLimit: t.timeLimit}
	r, err := c.Run(ctx)
	message.Close()
	copied := <-fed
	switch {
	case errors.Is(copied, errCorrupt) && err == nil && r.ExitCode == 0:
		return dsn.Status{}, errCorrupt
	case err != nil:
		return t.notStarted(err, line), nil
	case ctx.Err() != nil:
		return dsn.Status{}, ctx.Err()
	}
	if r.TimedOut {
		t.job.Log.Warn("pipe_command_wait_or_kill: child wait time limit exceeded")
	}
	return judge(r, copied, line), nil
}

// notStarted is the status of a command that cannot be run: a mistake of the
// user's that may be mended, or ours.
func (t *task) notStarted(err error, line string) dsn.Status {
	var path *os.PathError
	if !errors.As(err, &path) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM) {
		t.job.Log.Warn("fork: %s", text(err))
		return dsn.Status{Code: "4.3.0", Reason: "Delivery failed: " + text(err), DiagType: "x-unix", DiagText: "system resource problem"}
	}
	program := line
	if words := strings.Fields(line); len(words) > 0 {
		program = words[0]
	}
	problem := "fatal: execvp " + program + ": " + text(err)
	t.job.Log.Warn("%s", problem)
	return temporary("local: " + problem + " ")
}

func temporary(output string) dsn.Status {
	return dsn.Status{Code: "4.3.0", Reason: "temporary failure. Command output: " + output, DiagType: "x-unix", DiagText: output}
}

// judge makes a status of how a command ended; the table is in delivery.md §1.7.
func judge(r proc.Result, copied error, line string) dsn.Status {
	out := printable(r.Output)
	status := func(code, reason, diag string) dsn.Status {
		if out != "" {
			reason, diag = reason+". Command output: "+out, out
		}
		return dsn.Status{Code: code, Reason: reason, DiagType: "x-unix", DiagText: diag}
	}
	quoted := ": \"" + line + "\""
	switch {
	case r.TimedOut:
		return status("5.3.0", "Command time limit exceeded"+quoted, "internal software error")
	case r.Signal != 0:
		return status("4.3.0", "Command died with signal "+strconv.Itoa(int(r.Signal))+quoted, "internal software error")
	case r.ExitCode == 0:
		return judgeInput(copied, quoted)
	}
	if code, text := dsn.Split(out, ""); code != "" {
		return dsn.Status{Code: code, Reason: text, DiagType: "x-unix", DiagText: text}
	}
	if e, known := exits[r.ExitCode]; known {
		return status(e.code, e.text, e.text)
	}
	n := strconv.Itoa(r.ExitCode)
	return status("5.3.0", "Command died with status "+n+quoted, "unknown mail system error "+n)
}

// judgeInput is for a command that says it has the message. That it did not read
// all of it is its own business.
func judgeInput(copied error, quoted string) dsn.Status {
	var known *statusError
	if !errors.As(copied, &known) || errors.Is(copied, syscall.EPIPE) || errors.Is(copied, io.ErrClosedPipe) {
		return dsn.Status{Code: "2.0.0"}
	}
	st := known.status
	st.Reason = "Command failed: " + st.Reason + quoted
	return st
}

// exits are the statuses of sysexits.h.
var exits = map[int]struct{ code, text string }{
	64: {"5.3.0", "command line usage error"},
	65: {"5.6.0", "data format error"},
	66: {"5.3.0", "cannot open input"},
	67: {"5.1.1", "user unknown"},
	68: {"5.1.2", "host name unknown"},
	69: {"5.3.0", "service unavailable"},
	70: {"5.3.0", "internal software error"},
	71: {"4.3.0", "system resource problem"},
	72: {"5.3.0", "critical OS file missing"},
	73: {"5.2.0", "can't create user output file"},
	74: {"5.3.0", "input/output error"},
	75: {"4.3.0", "temporary failure"},
	76: {"5.5.0", "remote error in protocol"},
	77: {"5.7.0", "permission denied"},
	78: {"5.3.5", "local configuration error"},
}

// printable makes one line of a command's output.
func printable(out []byte) string {
	var b strings.Builder
	for len(out) > 0 {
		r, n := utf8.DecodeRune(out)
		switch {
		case r == '\t' || r == '\n':
			b.WriteByte(' ')
		case r == utf8.RuneError && n == 1 || r < ' ' || r == 0x7f:
			b.WriteByte('_')
		default:
			b.Write(out[:n])
		}
		out = out[n:]
	}
	return b.String()
}

// commandEnv is the whole environment of a command.
func (t *task) commandEnv(s *state, id cred.Identity) []string {
	env := environment(t.environ, t.exports)
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

// environment is what export_environment lets through of ours, and the path.
func environment(ours, exports []string) []string {
	var env []string
	for _, name := range exports {
		if strings.Contains(name, "=") {
			env = append(env, strings.TrimSpace(strings.Trim(name, "{}")))
			continue
		}
		for _, e := range ours {
			if strings.HasPrefix(e, name+"=") {
				env = append(env, e)
			}
		}
	}
	return append(env, "PATH=/usr/bin:/bin")
}
