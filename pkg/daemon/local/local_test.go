package local

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
)

// TestDelivery is what is logged for one recipient, and what files there are then.
func TestDelivery(t *testing.T) {
	for _, c := range []struct {
		name, to string
		aliases  string
		settings map[string]string
		files    map[string]string
		results  []string
		left     string // files in home and mail afterwards
		retry    bool
	}{
		{name: "mbox", to: "joe", results: []string{"joe 2.0.0 sent (delivered to mailbox)"}, left: "mail/joe"},
		{name: "case", to: "JOE", results: []string{"JOE 2.0.0 sent (delivered to mailbox)"}, left: "mail/joe"},
		{name: "extension", to: "joe+x", results: []string{"joe+x 2.0.0 sent (delivered to mailbox)"}, left: "mail/joe"},
		{name: "home mailbox", to: "joe", settings: map[string]string{"home_mailbox": "Mbox"},
			results: []string{"joe 2.0.0 sent (delivered to mailbox)"}, left: "home/joe/Mbox"},
		{name: "unknown", to: "nosuch", results: []string{`nosuch 5.1.1 bounced (unknown user: "nosuch")`}},
		{name: "passwd trouble", to: "broken", results: []string{"broken 4.0.0 deferred (user lookup error)"}, retry: true},
		{name: "not us", to: "other", results: []string{"other 5.2.0 bounced (this mail system runs without privileges and delivers only to the mailbox of user joe)"}},
		{name: "postmaster", to: "postmaster", results: []string{"postmaster 2.0.0 sent (discarded)"}},
		{name: "null", to: "", results: []string{`"" 5.1.3 bounced (null username in "@example.com")`}},
		{name: "missing spool", to: "joe", settings: map[string]string{"mail_spool_directory": "$DIR/none"},
			results: []string{"joe 5.2.0 bounced (cannot update mailbox DIR/none/joe for user joe. unable to create lock file DIR/none/joe.lock: No such file or directory)"}},
		{name: "locked", to: "joe", files: map[string]string{"mail/joe.lock": ""}, retry: true, left: "mail/joe.lock",
			results: []string{"joe 4.2.0 deferred (cannot update mailbox DIR/mail/joe for user joe. unable to create lock file DIR/mail/joe.lock: File exists)"}},
		{name: "list", to: "list", aliases: "list joe, bob, JOE", left: "mail/bob mail/joe",
			results: []string{"joe 2.0.0 sent (delivered to mailbox)", "bob 2.0.0 sent (delivered to mailbox)"}},
		{name: "self", to: "joe", aliases: "joe joe, bob", left: "mail/bob mail/joe",
			results: []string{"joe 2.0.0 sent (delivered to mailbox)", "bob 2.0.0 sent (delivered to mailbox)"}},
		{name: "loop", to: "a", aliases: "a b\nb a", results: []string{"b 5.4.6 bounced (alias database loop for b)"}},
		{name: "empty", to: "a", aliases: "a ()", retry: true, results: []string{"a 4.3.0 deferred (alias database unavailable)"}},
		{name: "bad address", to: "a", aliases: "a bad@x", results: []string{"a 5.1.3 bounced (bad recipient address syntax: bad@x)"}},
		{name: "resolver", to: "a", aliases: "a fail@x", retry: true, results: []string{"a 4.3.0 deferred (address resolver failure)"}},
		{name: "file", to: "a", aliases: `a "$DIR/mail/f"`, left: "mail/f", results: []string{"a 2.0.0 sent (delivered to file: DIR/mail/f)"}},
		{name: "no files", to: "a", aliases: `a "$DIR/mail/f"`, settings: map[string]string{"allow_mail_to_files": ""},
			results: []string{"a 5.7.1 bounced (mail to file is restricted)"}},
		{name: "command", to: "a", aliases: `a "|cat >$DIR/mail/c"`, left: "mail/c", results: []string{"a 2.0.0 sent (delivered to command: cat >DIR/mail/c)"}},
		{name: "exit", to: "a", aliases: `a "|echo why; exit 77"`, results: []string{"a 5.7.0 bounced (permission denied. Command output: why )"}},
		{name: "exit and owner", to: "a", aliases: "a \"|exit 75\"\nowner-a bob", retry: true, results: []string{"a 4.3.0 deferred (temporary failure)"}},
		{name: "time limit", to: "a", aliases: `a "|sleep 20"`, settings: map[string]string{"command_time_limit": "1s"},
			results: []string{`a 5.3.0 bounced (Command time limit exceeded: "sleep 20")`}},
		{name: "include", to: "a", aliases: "a :include:$DIR/list", files: map[string]string{"list": "# no\njoe\n"},
			results: []string{"a 2.0.0 sent (forwarded as F00)"}},
		{name: "include loop", to: "a", aliases: "a :include:$DIR/list", files: map[string]string{"list": ":include:$DIR/list\nx@y\n"},
			results: []string{"a 2.0.0 sent (forwarded as F00)"}},
		{name: "no include", to: "a", aliases: "a :include:$DIR/none", results: []string{"a 5.3.5 bounced (mail system configuration error)"}},
		{name: "forward", to: "joe", files: map[string]string{"home/joe/.forward": "x@y, \\joe\n"}, left: "home/joe/.forward mail/joe",
			results: []string{"joe 2.0.0 sent (delivered to mailbox)", "joe 2.0.0 sent (forwarded as F00)"}},
		{name: "forward to itself", to: "joe", files: map[string]string{"home/joe/.forward": "joe"}, left: "home/joe/.forward mail/joe",
			results: []string{"joe 2.0.0 sent (delivered to mailbox)"}},
		{name: "forward with extension", to: "joe+a", files: map[string]string{"home/joe/.forward": "|exit", "home/joe/.forward+a": "x@y"},
			left: "home/joe/.forward home/joe/.forward+a", results: []string{"joe+a 2.0.0 sent (forwarded as F00)"}},
		{name: "empty forward", to: "joe", files: map[string]string{"home/joe/.forward": "# x"}, left: "home/joe/.forward mail/joe",
			results: []string{"joe 2.0.0 sent (delivered to mailbox)"}},
		{name: "forward and trouble", to: "joe", files: map[string]string{"home/joe/.forward": "x@y\n\"|exit 75\"\n\"|exit 1\"\n"}, retry: true,
			left: "home/joe/.forward", results: []string{"joe 4.3.0 deferred (temporary failure)"}},
		{name: "luser", to: "nosuch+q", settings: map[string]string{"luser_relay": "$user.$extension@y"},
			results: []string{"nosuch+q 2.0.0 sent (forwarded as F00)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			settings := map[string]string{"command_time_limit": "10s"}
			for k, v := range c.settings {
				settings[k] = v
			}
			w := newWorld(t, "", settings)
			w.write("aliases", c.aliases)
			w.reopenAliases()
			for name, text := range c.files {
				w.write(name, text)
			}
			status := w.deliver(w.request(c.to+domain, "Subject: t", "", "From x"))
			got := w.results()
			for i := range got {
				got[i] = strings.Replace(got[i], domain+" ", " ", 1)
			}
			if !reflect.DeepEqual(got, c.results) {
				t.Errorf("got %q\nlog %q", got, w.lines.Lines())
			}
			if w.files("home")+w.files("mail") != strings.Replace(c.left, " mail", "mail", 1) && strings.Join(strings.Fields(w.files("home")+" "+w.files("mail")), " ") != c.left {
				t.Errorf("files: %s %s", w.files("home"), w.files("mail"))
			}
			if (status != deliver.Done) != c.retry || w.marked() == c.retry {
				t.Errorf("status %d, marked %v", status, w.marked())
			}
		})
	}
}

const wantMbox = `Return-Path: <s@x>
X-Original-To: joe+e@example.com
Delivered-To: joe+e@example.com
Subject: t

>From x
>From y

`

func TestMailboxContent(t *testing.T) {
	w := newWorld(t, "", nil)
	w.write("mail/joe", "old\n")
	w.deliver(w.request("joe+e"+domain, "Subject: t", "", "From x", ">From y"))
	got := w.read("mail/joe")
	head, rest, _ := strings.Cut(strings.TrimPrefix(got, "old\n"), "\n")
	if !strings.HasPrefix(head, "From s@x  ") || rest != wantMbox {
		t.Errorf("%s", got)
	}
}

// What was written before an error is taken back.
func TestMailboxTruncated(t *testing.T) {
	w := newWorld(t, "", nil)
	w.write("mail/joe", "old\n")
	req := w.request("joe"+domain, "Subject: t")
	f, err := os.OpenFile("active/"+req.ID, os.O_WRONLY, 0)
	w.must(err)
	w.must(f.Truncate(req.DataOffset + 8)) // the content has no end
	f.Close()
	if status := w.deliver(req); status != deliver.Retry || w.read("mail/joe") != "old\n" {
		t.Errorf("%d, %q", status, w.read("mail/joe"))
	}
	info, err := os.Stat("active/" + req.ID)
	w.must(err)
	if info.Mode().Perm() != 0o400 || len(w.results()) != 0 {
		t.Errorf("mode %v, %q", info.Mode(), w.results())
	}
}

func TestMaildir(t *testing.T) {
	w := newWorld(t, "", map[string]string{"home_mailbox": "md/"})
	for range 3 {
		w.deliver(w.request("joe"+domain, "Subject: t", "", "From x"))
	}
	names := strings.Fields(w.files("home/joe/md"))
	if len(names) != 3 || !strings.HasPrefix(names[0], "home/joe/md/new/") {
		t.Fatalf("%q %q", names, w.results())
	}
	const want = "Return-Path: <s@x>\nX-Original-To: joe@example.com\nDelivered-To: joe@example.com\nSubject: t\n\nFrom x\n"
	if got := w.read(names[0]); got != want {
		t.Errorf("%s", got)
	}
}

// The message for an address elsewhere has the right envelope, and is given up
// when something else must be tried again.
func TestForwardedMessage(t *testing.T) {
	w := newWorld(t, "", nil)
	w.write("aliases", "list x@y, x@y, \"|exit 75\"\nl2 y@y\nowner-l2 bob\n")
	w.reopenAliases()
	req := w.request("l2"+domain, "Subject: t", "")
	req.EnvelopeID, req.Ret, req.ClientName = "id1", dsn.RetFull, "c"
	req.Recipients[0].Notify = dsn.NotifySuccess | dsn.NotifyFailure
	req.Recipients[0].DSNOrig = "rfc822;l2@example.com"
	w.deliver(req)
	want := "Sbob@example.com|Aret_flags=1|Aenvelope_id=id1|Alog_client_name=c|Anotify_flags=4|Ry@y|M|" +
		"NReceived: by example.com (Postfix)|NDelivered-To: l2@example.com|NSubject: t|N|X|E|"
	want = strings.Replace(want, "Sbob@", "Sowner-l2@", 1)
	if len(w.messages) != 1 || w.messages[0] != want {
		t.Errorf("%q", w.messages)
	}
	trace := []string{"trace l2@example.com 2.0.0 delivery via local: alias expanded"}
	if !reflect.DeepEqual(w.reports, trace) {
		t.Errorf("%q", w.reports)
	}
	w.messages = nil
	w.deliver(w.request("list"+domain, "x"))
	if len(w.messages) > 1 || len(w.messages) == 1 && !strings.HasPrefix(w.messages[0], "aborted ") {
		t.Errorf("%q", w.messages)
	}
}

func TestForwardRefused(t *testing.T) {
	w := newWorld(t, "", nil)
	w.write("home/joe/.forward", "x@y")
	w.status = cleanup.StatusWrite
	if status := w.deliver(w.request("joe"+domain, "x")); status != deliver.Retry || w.marked() || len(w.results()) != 0 {
		t.Errorf("%d %q", status, w.results())
	}
}

func TestLoop(t *testing.T) {
	w := newWorld(t, "", nil)
	w.write("aliases", "joe joe\nowner-joe bob\n")
	w.reopenAliases()
	w.deliver(w.request("joe"+domain, "Received: a", " Delivered-To: x", "delivered-TO:   JOE@example.com", "", "x"))
	want := []string{"bounce to owner-joe@example.com joe@example.com 5.4.6 mail forwarding loop for joe@example.com"}
	if !reflect.DeepEqual(w.reports, want) {
		t.Errorf("%q", w.reports)
	}
}

// A list that includes lists without end stops at some depth.
func TestDepth(t *testing.T) {
	w := newWorld(t, "", nil)
	var b strings.Builder
	for i := range 150 {
		fmt.Fprintf(&b, "a%d a%d\n", i, i+1)
	}
	w.write("aliases", b.String())
	w.reopenAliases()
	w.deliver(w.request("a0"+domain, "x"))
	if got := w.results(); len(got) != 1 || !strings.Contains(got[0], "5.4.6 bounced (alias database loop for a101)") {
		t.Errorf("%q", got)
	}
}

// Includes that multiply come to an end, too.
func TestExpansionLimit(t *testing.T) {
	w := newWorld(t, "a :include:$DIR/i0\n", map[string]string{"duplicate_filter_limit": "1"})
	for i := range 20 {
		next := fmt.Sprintf(":include:$DIR/i%d\n", i+1)
		w.write(fmt.Sprintf("i%d", i), next+next+next)
	}
	w.write("i20", "# end\n")
	status := w.deliver(w.request("a"+domain, "x"))
	want := []string{"a@example.com 4.3.0 deferred (list expansion limit exceeded)"}
	if got := w.results(); status != deliver.Retry || !reflect.DeepEqual(got, want) {
		t.Errorf("%d %q", status, got)
	}
}

// Deliveries at one time do not get into each other's way.
func TestConcurrentMaildir(t *testing.T) {
	w := newWorld(t, "", map[string]string{"home_mailbox": "md/"})
	req := w.request("joe"+domain, "Subject: t", "", "x")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if w.deliver(req) != deliver.Done {
				t.Error("not done")
			}
		})
	}
	all.Wait()
	if n := len(strings.Fields(w.files("home/joe/md/new"))); n != 20 || w.files("home/joe/md/tmp") != "" {
		t.Errorf("%d files, %s", n, w.files("home/joe/md/tmp"))
	}
}

func TestProbe(t *testing.T) {
	w := newWorld(t, "", nil)
	w.write("aliases", "a joe, x@y, \"|true\", /dev/null\n")
	w.reopenAliases()
	req := w.request("a"+domain, "x")
	req.Flags = deliver.UsrVerify
	w.deliver(req)
	want := []string{"joe@example.com 2.0.0 deliverable (delivers to mailbox)", "x@y 2.0.0 deliverable (forwards to x@y)",
		"a@example.com 2.0.0 deliverable (delivers to command: true)", "a@example.com 2.0.0 deliverable (delivers to file: /dev/null)"}
	if got := w.results(); !reflect.DeepEqual(got, want) || w.files("mail") != "" {
		t.Errorf("%q %s", got, w.files("mail"))
	}
}

func TestCommandEnvironment(t *testing.T) {
	w := newWorld(t, "", map[string]string{"mailbox_command": "env >$DIR/env", "export_environment": "LANG A=b"})
	req := w.request("joe+e"+domain, "x")
	req.ClientHelo = "a;b"
	w.deliver(req)
	got := w.read("env")
	for _, want := range []string{"LANG=C", "A=b", "PATH=/usr/bin:/bin", "HOME=" + w.dir + "/home/joe", "USER=joe", "EXTENSION=e", "CLIENT_HELO=a_b", "SENDER=s@x"} {
		if !strings.Contains("\n"+got, "\n"+want+"\n") {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if strings.Contains(got, "SECRET") {
		t.Error("our environment leaks")
	}
}
