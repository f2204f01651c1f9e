package pipe

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/service/agent/agenttest"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// fakes are accounts that do not depend on this machine; self runs the test.
var fakes = accounts{
	user: func(name string) (cred.Identity, error) {
		ids := map[string]cred.Identity{"self": {UID: os.Getuid(), GID: os.Getgid()}, "root": {}, "joe": {UID: 2001, GID: 2001},
			"postfix": {UID: 951, GID: 951}, "zero": {UID: 2002}, "pg": {UID: 2003, GID: 951}, "dg": {UID: 2004, GID: 952}}
		id, ok := ids[name]
		if !ok {
			return id, cred.ErrUnknownUser
		}
		id.Name = name
		return id, nil
	},
	group: func(name string) (int, error) {
		if name == "staff" {
			return 50, nil
		}
		return 0, cred.ErrUnknownUser
	},
}

func newWorld(t *testing.T, args []string, settings map[string]string) *agenttest.World {
	t.Helper()
	d := newDaemon([]string{"LANG=C", "SECRET=x"})
	d.accounts = fakes
	return agenttest.New(t, d.agent(), "tp", args, settings)
}

const dump = `{ for a; do echo "[$$a]"; done; cat; } >dump; `

// shell is what stands in master.cf for a shell command with arguments.
func shell(attributes, command string, args ...string) []string {
	return slices.Concat(strings.Fields(attributes), []string{"user=self", "argv=/bin/sh", "-c", dump + command, "sh"}, args)
}

func TestDelivery(t *testing.T) {
	one := []string{"One+x@Pipe.test"}
	two := []string{"a@b", "c@d"}
	for _, c := range []struct {
		name     string
		args     []string
		to       []string
		settings map[string]string
		results  []string
		retry    bool
	}{
		{name: "sent", args: shell("", ""), to: one, results: []string{"One+x@Pipe.test 2.0.0 sent (delivered via tp service)"}},
		{name: "output", args: shell("", "echo; echo all fine; echo"), to: one, results: []string{"One+x@Pipe.test 2.0.0 sent (delivered via tp service ( all fine))"}},
		{name: "bounce", args: shell("", "echo why; exit 67"), to: two,
			results: []string{"a@b 5.1.1 bounced (user unknown. Command output: why )", "c@d 5.1.1 bounced (user unknown. Command output: why )"}},
		{name: "defer", args: shell("", "exit 75"), to: one, retry: true, results: []string{"One+x@Pipe.test 4.3.0 deferred (temporary failure)"}},
		{name: "own code", args: shell("", "echo 4.7.9 later; exit 1"), to: one, retry: true, results: []string{"One+x@Pipe.test 4.7.9 deferred (later )"}},
		{name: "own code of success", args: shell("", "echo 2.7.9 odd; exit 1"), to: one,
			results: []string{`warning: bounce_append: ignoring dsn code "2.7.9"`, "One+x@Pipe.test 5.0.0 bounced (odd )"}},
		{name: "status", args: shell("", "exit 9"), to: one, results: []string{`One+x@Pipe.test 5.3.0 bounced (Command died with status 9: "/bin/sh")`}},
		{name: "signal", args: shell("", "kill -9 $$$$"), to: one, retry: true, results: []string{`One+x@Pipe.test 4.3.0 deferred (Command died with signal 9: "/bin/sh")`}},
		{name: "time limit", args: shell("", "exec sleep 20"), to: one, settings: map[string]string{"command_time_limit": "1s"},
			results: []string{"warning: pipe_command_read: read time limit exceeded", `One+x@Pipe.test 5.3.0 bounced (Command time limit exceeded: "/bin/sh")`}},
		{name: "missing", args: []string{"user=self", "argv=/nonexist"}, to: one, retry: true,
			results: []string{"fatal: pipe_command: execvp /nonexist: No such file or directory",
				"One+x@Pipe.test 4.3.0 deferred (temporary failure. Command output: pipe: fatal: pipe_command: execvp /nonexist: No such file or directory )"}},
		{name: "D and two", args: shell("flags=D", ""), to: two, retry: true,
			results: []string{"warning: pipe flag `D' requires tp_destination_recipient_limit = 1",
				"a@b 4.3.5 deferred (mail system configuration error)", "c@d 4.3.5 deferred (mail system configuration error)"}},
		{name: "macro", args: shell("", "", "${nosuch}"), to: one, retry: true,
			results: []string{`warning: file /etc/postfix/master.cf: service tp: unknown macro name: "nosuch"`, "One+x@Pipe.test 4.3.5 deferred (mail system configuration error)"}},
		{name: "size", args: shell("size=10", ""), to: one, results: []string{"One+x@Pipe.test 5.2.3 bounced (message too large)"}},
		{name: "loop", args: shell("flags=D", ""), to: []string{"LOOP@x"}, results: []string{"LOOP@x 5.4.6 bounced (mail forwarding loop for LOOP@x)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.args, c.settings)
			done, marks := w.Deliver(w.Request(c.to, "Delivered-To: loop@x", "", "x"))
			got := w.Results()
			for i := range got {
				got[i] = strings.Replace(got[i], w.Runtime.Config.Dir()+"/", "/etc/postfix/", 1)
			}
			if !reflect.DeepEqual(got, c.results) {
				t.Errorf("got %q", got)
			}
			if want := strings.Repeat(map[bool]string{true: "R", false: "D"}[c.retry], len(c.to)); done == c.retry || marks != want {
				t.Errorf("done %v, marks %s", done, marks)
			}
		})
	}
}

// The worked examples of delivery.md §5.3.
func TestMacros(t *testing.T) {
	w := newWorld(t, shell("flags=R", "", "-x", "${sender}", "(${recipient})", "--", "${user}/${domain}", "$$$(nexthop)", "end"), nil)
	req := w.Request([]string{"+x@pmulti.test", "Foo+Bar@pmulti.test", "two@PMULTI.test"}, "x")
	req.Sender = ""
	w.Deliver(req)
	want := "[-x]\n[MAILER-DAEMON]\n[(+x@pmulti.test)]\n[(Foo+Bar@pmulti.test)]\n[(two@PMULTI.test)]\n[--]\n[+x/pmulti.test]\n[Foo/pmulti.test]\n[two/PMULTI.test]\n[$Next.Hop]\n[end]\n" +
		"Return-Path: <MAILER-DAEMON>\nx\n"
	if got := w.Read("dump"); got != want {
		t.Errorf("%s%q", got, w.Results())
	}

	w = newWorld(t, shell("flags=DORB.>Xhqu", "", "${sender}", "${recipient}", "${original_recipient}", "${user}", "${extension}", "${mailbox}", "${domain}", "${nexthop}"), nil)
	req = w.Request([]string{"Foo b+Bar@Pall.Test"}, "From x", ".y")
	req.Sender = "s x@remote.test"
	w.Deliver(req)
	want = "[\"s x\"@remote.test]\n[\"foo b+bar\"@pall.test]\n[\"foo b+bar\"@pall.test]\n[foo b]\n[bar]\n[foo b+bar]\n[pall.test]\n[next.hop]\n" +
		"Return-Path: <\"s x\"@remote.test>\nX-Original-To: \"Foo b+Bar\"@Pall.Test\nDelivered-To: \"Foo b+Bar\"@Pall.Test\n>From x\n..y\n\n"
	if got := w.Read("dump"); got != want {
		t.Errorf("%s%q", got, w.Results())
	}
}

func TestRecipientWithoutUser(t *testing.T) {
	w := newWorld(t, shell("null_sender= eol=\\r\\n flags=R", "", "${user}x", "[${mailbox}]"), nil)
	req := w.Request([]string{"@pipe.test", "a@pipe.test"}, "x")
	req.Sender = ""
	w.Deliver(req)
	if got := w.Read("dump"); got != "[ax]\n[[]]\n[[a]]\nReturn-Path: <>\r\nx\r\n" {
		t.Errorf("%q %q", got, w.Results())
	}
}

func TestProbe(t *testing.T) {
	w := newWorld(t, shell("", "", "${nosuch}"), nil)
	req := w.Request([]string{"a@b"}, "x")
	req.Flags = deliver.UsrVerify
	w.Deliver(req)
	if got := w.Results(); !reflect.DeepEqual(got, []string{"a@b 2.0.0 deliverable (delivers to command: /bin/sh)"}) || w.Files("dump") != "" {
		t.Errorf("%q", got)
	}
}

func TestCorrupt(t *testing.T) {
	w := newWorld(t, shell("", ""), nil)
	req := w.Request([]string{"a@b", "c@d"}, "Subject: t")
	w.Damage(req)
	if done, marks := w.Deliver(req); done || marks != "RR" || !w.SetAside() || len(w.Reports()) != 0 {
		t.Errorf("%v %s %q", done, marks, w.Reports())
	}
}

// A command cannot see what is in our environment.
func TestEnvironment(t *testing.T) {
	w := newWorld(t, []string{"user=self", "directory=$DIR/mail", "argv=/bin/sh", "-c", "env >e"}, map[string]string{"export_environment": "LANG A=b"})
	w.Deliver(w.Request([]string{"a@b"}, "x"))
	got := strings.Fields(w.Read("mail/e"))
	slices.Sort(got)
	want := []string{"A=b", "LANG=C", "PATH=/usr/bin:/bin", "PWD=" + w.Dir + "/mail"}
	if !reflect.DeepEqual(slices.DeleteFunc(got, func(s string) bool { return s == "_=/usr/bin/env" }), want) {
		t.Errorf("%q", got)
	}
}

// A mistake in master.cf ends the process.
func TestMisconfigured(t *testing.T) {
	w := newWorld(t, []string{"user=nosuch", "argv=/bin/true"}, nil)
	defer func() {
		if _, ok := recover().(maillog.Exit); !ok {
			t.Errorf("%q", w.Results())
		}
	}()
	w.Deliver(w.Request([]string{"a@b"}, "x"))
	t.Error("goes on")
}
