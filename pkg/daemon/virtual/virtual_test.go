package virtual

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/service/agent/agenttest"
)

// newWorld makes mailboxes of whoever runs the test; for root, who may have none,
// of another user, and with his rights.
func newWorld(t *testing.T, settings map[string]string) *agenttest.World {
	t.Helper()
	uid, gid := os.Getuid(), max(os.Getgid(), 1)
	if uid == 0 {
		uid, gid = 65534, 65534
	}
	m := map[string]string{
		"virtual_mailbox_base": "$DIR/mail",
		"virtual_mailbox_maps": "inline:{ a@v.test=a, b@v.test=b/, deep@v.test=x/y/, @all.test=all }",
		"virtual_uid_maps":     fmt.Sprintf("static:%d", uid),
		"virtual_gid_maps":     fmt.Sprintf("static:%d", gid),
		"virtual_minimum_uid":  "1",
		// The test's process must not be bounded.
		"virtual_mailbox_limit": "0",
	}
	for k, v := range settings {
		m[k] = v
	}
	w := agenttest.Bare(t, "virtual", nil, m)
	if os.Getuid() == 0 {
		w.Runtime.Root = true
		for _, err := range []error{os.Chmod(filepath.Dir(w.Dir), 0o755), os.Chown("mail", uid, gid)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Start(new(daemon).agent())
	return w
}

// TestDelivery is what is logged for one recipient, and what files there are then.
func TestDelivery(t *testing.T) {
	for _, c := range []struct {
		name, to string
		settings map[string]string
		files    map[string]string
		results  []string
		left     string
		retry    bool
		rootless bool
	}{
		{name: "mbox", to: "a@v.test", results: []string{"a@v.test 2.0.0 sent (delivered to mailbox)"}, left: "mail/a"},
		{name: "case and extension", to: "A+Ext@V.test", results: []string{"A+Ext@V.test 2.0.0 sent (delivered to mailbox)"}, left: "mail/a"},
		{name: "whole domain", to: "any@all.test", results: []string{"any@all.test 2.0.0 sent (delivered to mailbox)"}, left: "mail/all"},
		{name: "unknown", to: "No@v.test", results: []string{`No@v.test 5.1.1 bounced (unknown user: "no@v.test")`}},
		{name: "no uid", to: "a@v.test", settings: map[string]string{"virtual_uid_maps": ""}, retry: true,
			results: []string{"warning: recipient a@v.test: not found in virtual_uid_maps", "a@v.test 4.3.5 deferred (mail system configuration error)"}},
		{name: "no gid", to: "a@v.test", settings: map[string]string{"virtual_gid_maps": "inline:{x=1}"}, retry: true,
			results: []string{"warning: recipient a@v.test: not found in virtual_gid_maps", "a@v.test 4.3.5 deferred (mail system configuration error)"}},
		{name: "low uid", to: "a@v.test", settings: map[string]string{"virtual_uid_maps": "static:99", "virtual_minimum_uid": "100"}, retry: true,
			results: []string{"warning: recipient a@v.test: bad uid 99 in virtual_uid_maps", "a@v.test 4.3.5 deferred (mail system configuration error)"}},
		{name: "root", to: "a@v.test", settings: map[string]string{"virtual_uid_maps": "static:0"}, retry: true,
			results: []string{"warning: recipient a@v.test: bad uid 0 in virtual_uid_maps", "a@v.test 4.3.5 deferred (mail system configuration error)"}},
		{name: "somebody else", rootless: true, to: "a@v.test", settings: map[string]string{"virtual_uid_maps": "static:54321"},
			results: []string{"a@v.test 5.2.0 bounced (this mail system runs without privileges and delivers only to mailboxes of user self)"}},
		{name: "locked", to: "a@v.test", settings: map[string]string{"virtual_mailbox_lock": "dotlock"}, files: map[string]string{"mail/a.lock": ""}, retry: true, left: "mail/a.lock",
			results: []string{"a@v.test 4.2.0 deferred (delivery failed to mailbox DIR/mail/a: unable to create lock file DIR/mail/a.lock: File exists)"}},
		{name: "no directory", to: "a@v.test", settings: map[string]string{"virtual_mailbox_base": "$DIR/none"}, retry: true,
			results: []string{"a@v.test 4.2.0 deferred (delivery failed to mailbox DIR/none/a: unable to create lock file DIR/none/a.lock: No such file or directory)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.rootless && os.Getuid() == 0 {
				t.Skip("root delivers to everybody")
			}
			w := newWorld(t, c.settings)
			for name, text := range c.files {
				w.Write(name, text)
			}
			done, marks := w.Deliver(w.Request([]string{c.to}, "Subject: t", "", "From x"))
			if got := w.Results(); !reflect.DeepEqual(got, c.results) {
				t.Errorf("got %q", got)
			}
			if got := w.Files("mail"); got != c.left {
				t.Errorf("files %s", got)
			}
			if done == c.retry || (marks == "D") == c.retry {
				t.Errorf("done %v, marks %s", done, marks)
			}
		})
	}
}

func TestContent(t *testing.T) {
	w := newWorld(t, nil)
	w.Deliver(w.Request([]string{"A@v.test", "b@v.test"}, "Subject: t", "", "From x", ".y"))
	head, mbox, _ := strings.Cut(w.Read("mail/a"), "\n")
	const want = "Return-Path: <s@x>\nX-Original-To: TO\nDelivered-To: TO\nSubject: t\n\n"
	if !strings.HasPrefix(head, "From s@x  ") || mbox != strings.ReplaceAll(want, "TO", "A@v.test")+">From x\n.y\n\n" {
		t.Errorf("%s\n%s", head, mbox)
	}
	if got := w.Read(w.Files("mail/b")); got != strings.ReplaceAll(want, "TO", "b@v.test")+"From x\n.y\n" {
		t.Error(got)
	}
}

// What was written before an error is taken back.
func TestCorrupt(t *testing.T) {
	w := newWorld(t, nil)
	w.Write("mail/a", "old\n")
	req := w.Request([]string{"a@v.test", "b@v.test"}, "Subject: t")
	w.Damage(req)
	if done, _ := w.Deliver(req); done || w.Read("mail/a") != "old\n" || !w.SetAside() || w.Files("mail") != "mail/a" {
		t.Errorf("%v, %q, %s", done, w.Read("mail/a"), w.Files("mail"))
	}
}

func TestProbe(t *testing.T) {
	w := newWorld(t, nil)
	req := w.Request([]string{"a@v.test", "b@v.test", "no@v.test"}, "x")
	req.Flags = deliver.UsrVerify
	w.Deliver(req)
	want := []string{"a@v.test 2.0.0 deliverable (delivers to mailbox)", "b@v.test 2.0.0 deliverable (delivers to maildir)",
		`no@v.test 5.1.1 undeliverable (unknown user: "no@v.test")`}
	if got := w.Results(); !reflect.DeepEqual(got, want) || w.Files("mail") != "" {
		t.Errorf("%q %s", got, w.Files("mail"))
	}
}

// Deliveries at one time to one mailbox do not mix.
func TestConcurrent(t *testing.T) {
	w := newWorld(t, map[string]string{"deliver_lock_attempts": "100", "deliver_lock_delay": "1s", "virtual_mailbox_lock": "flock"})
	req := w.Request([]string{"a@v.test", "deep@v.test"}, "x", strings.Repeat("y", 70000))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { w.Deliver(req) })
	}
	all.Wait()
	if n := strings.Count(w.Read("mail/a"), "yyy\n\nFrom s@x"); n != 3 {
		t.Errorf("%d seams", n)
	}
	if n := len(strings.Fields(w.Files("mail/x/y/new"))); n != 4 {
		t.Errorf("%d in the maildir", n)
	}
}
