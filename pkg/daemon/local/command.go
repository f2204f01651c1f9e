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
	"posthaste/pkg/sys/maillog"
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
	ok, st, err := t.execute(ctx, &s, id, line, dir)
	switch {
	case errors.Is(err, errCorrupt):
		t.corrupt = true
		return false
	case err != nil:
		return false // we are being stopped
	case ok:
		return t.sent(ctx, &s, "delivered to command: "+line)
	}
	return t.ownerBounced(ctx, &s, st)
}

func (t *task) workingDir(s *state) (string, error) {
	m := macros{state: s, id: s.rights, delimiters: t.ext.Delimiters}
	return m.expand(t.commandDir, t.dirFilter)
}

// execute runs the command with the message as its input, and judges: ok, or the
// status of a failure, or an error when nothing can be said.
func (t *task) execute(ctx context.Context, s *state, id cred.Identity, line, dir string) (ok bool, st dsn.Status, err error) {
	if dir != "" {
		if err := cred.As(id, func() error { return isDirectory(dir) }); err != nil {
			t.fatalInChild("cannot change directory to \"" + dir + "\" for uid=" + strconv.Itoa(id.UID) +
				" gid=" + strconv.Itoa(id.GID) + ": " + text(err))
			return false, exits[75].status(), nil
		}
	}
	c := proc.Command{ShellCommand: line, Shell: t.commandShell, Env: t.commandEnv(s, id), Dir: dir,
		Identity: &cred.Identity{UID: id.UID, GID: id.GID}, TimeLimit: t.timeLimit}
	r, copied, err := t.feed(ctx, s, c)
	if errors.Is(err, syscall.ENOEXEC) && t.commandShell == "" {
		// A script without #! is the shell's, as with execvp.
		c.ShellCommand, c.Argv = "", append([]string{"/bin/sh"}, strings.Fields(line)...)
		r, copied, err = t.feed(ctx, s, c)
	}
	switch {
	case err != nil:
		return false, t.notStarted(err, line), nil
	case ctx.Err() != nil:
		return false, st, ctx.Err()
	case errors.Is(copied, errCorrupt) && r.ExitCode == 0:
		return false, st, errCorrupt
	case r.TimedOut && copied != nil:
		t.job.Log.Warn("pipe_command_write: write time limit exceeded")
	case r.TimedOut:
		t.job.Log.Warn("pipe_command_read: read time limit exceeded")
	}
	if r.ExitCode != 0 || r.TimedOut {
		return false, judge(r, line), nil
	}
	ok, st = judgeInput(copied, line)
	return ok, st, nil
}

// feed runs the command and gives it the message; copied tells how that went.
func (t *task) feed(ctx context.Context, s *state, c proc.Command) (r proc.Result, copied, err error) {
	message, feeder := io.Pipe()
	fed := make(chan error, 1)
	go func() {
		err := t.copyTo(feeder, s, style{from: true, delivered: t.prependHeader["command"]})
		feeder.CloseWithError(err)
		fed <- err
	}()
	c.Stdin = message
	r, err = c.Run(ctx)
	message.Close()
	return r, <-fed, err
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
	problem := "execvp " + program + ": " + text(err)
	t.fatalInChild(problem)
	return exits[75].with("local: fatal: " + problem + " ")
}

// fatalInChild logs what Postfix's child process logs before it ends with
// status 75. Nothing of ours ends.
func (t *task) fatalInChild(problem string) { t.job.Log.Log(maillog.LevelFatal, "%s", problem) }

// exit is what a way to end a command means.
type exit struct{ code, text, diag string }

func (e exit) status() dsn.Status {
	diag := e.diag
	if diag == "" {
		diag = e.text
	}
	return dsn.Status{Code: e.code, Reason: e.text, DiagType: "x-unix", DiagText: diag}
}

// with is the status with the output of the command.
func (e exit) with(out string) dsn.Status {
	st := e.status()
	if out != "" {
		st.Reason, st.DiagText = st.Reason+". Command output: "+out, out
	}
	return st
}

// judge makes a status of how a command failed; the table is in delivery.md §1.7.
func judge(r proc.Result, line string) dsn.Status {
	out, quoted := printable(r.Output), ": \""+line+"\""
	switch {
	case r.TimedOut:
		return exit{"5.3.0", "Command time limit exceeded" + quoted, "internal software error"}.with(out)
	case r.Signal != 0:
		return exit{"4.3.0", "Command died with signal " + strconv.Itoa(int(r.Signal)) + quoted, "internal software error"}.with(out)
	}
	if code, text := dsn.Split(out, ""); code != "" {
		return dsn.Status{Code: code, Reason: text, DiagType: "x-unix", DiagText: text}
	}
	if e, known := exits[r.ExitCode]; known {
		return e.with(out)
	}
	n := strconv.Itoa(r.ExitCode)
	return exit{"5.3.0", "Command died with status " + n + quoted, "unknown mail system error " + n}.with(out)
}

// judgeInput is for a command that says it has the message. That it did not read
// all of it is its own business.
func judgeInput(copied error, line string) (ok bool, st dsn.Status) {
	var known *statusError
	if !errors.As(copied, &known) || errors.Is(copied, syscall.EPIPE) || errors.Is(copied, io.ErrClosedPipe) {
		return true, st
	}
	st = known.status
	st.Reason = "Command failed: " + st.Reason + ": \"" + line + "\""
	return false, st
}

// exits are the statuses of sysexits.h.
var exits = map[int]exit{
	64: {"5.3.0", "command line usage error", ""},
	65: {"5.6.0", "data format error", ""},
	66: {"5.3.0", "cannot open input", ""},
	67: {"5.1.1", "user unknown", ""},
	68: {"5.1.2", "host name unknown", ""},
	69: {"5.3.0", "service unavailable", ""},
	70: {"5.3.0", "internal software error", ""},
	71: {"4.3.0", "system resource problem", ""},
	72: {"5.3.0", "critical OS file missing", ""},
	73: {"5.2.0", "can't create user output file", ""},
	74: {"5.3.0", "input/output error", ""},
	75: {"4.3.0", "temporary failure", ""},
	76: {"5.5.0", "remote error in protocol", ""},
	77: {"5.7.0", "permission denied", ""},
	78: {"5.3.5", "local configuration error", ""},
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
