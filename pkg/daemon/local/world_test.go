package local

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/service"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// world is a queue directory with fake services around a daemon that delivers as
// whoever runs the test: joe and bob are we.
type world struct {
	t      *testing.T
	dir    string
	d      *daemon
	s      service.Service
	rt     *service.Runtime
	lines  *maillog.Buffer
	offset int64 // of the recipient in the queue file

	mu       sync.Mutex
	reports  []string // "bounce a@x 5.1.1 reason"
	messages []string // what cleanup was sent
	status   cleanup.Status
}

const domain = "@example.com"

// newWorld changes the working directory: its tests are not parallel.
func newWorld(t *testing.T, aliases string, settings map[string]string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	t.Chdir(w.dir)
	for _, d := range []string{"private", "public", "active", "home/joe", "home/bob", "mail"} {
		w.must(os.MkdirAll(d, 0o700))
	}
	w.write("aliases", aliases)
	m := map[string]string{"myhostname": "example.com", "mail_spool_directory": w.dir + "/mail",
		"alias_maps": "texthash:" + w.dir + "/aliases", "biff": "no", "mailbox_size_limit": "0",
		"deliver_lock_attempts": "1", "recipient_delimiter": "+"}
	for k, v := range settings {
		m[k] = strings.ReplaceAll(v, "$DIR", w.dir)
	}
	var log *maillog.Logger
	log, w.lines = maillog.Capture()
	self := w.user("joe")
	w.rt = &service.Runtime{Config: conf.FromMap(m), Log: log, ServiceName: "local", Owner: self,
		Queue: queue.New(w.dir, queue.Options{Log: log})}
	w.d = newDaemon([]string{"LANG=C", "SECRET=x"})
	w.d.lookup = func(name string) (cred.Identity, error) {
		switch name {
		case "joe", "bob":
			return w.user(name), nil
		case "other":
			id := w.user(name)
			id.UID++
			return id, nil
		case "broken":
			return cred.Identity{}, os.ErrDeadlineExceeded
		}
		return cred.Identity{}, cred.ErrUnknownUser
	}
	w.d.lookupID = func(int) (cred.Identity, error) { return self, nil }
	w.s = agent.Service(w.d.agent())
	w.must(w.s.Setup(w.rt))
	w.must(w.s.Start(context.Background(), w.rt))
	for _, s := range []string{"bounce", "defer", "trace"} {
		w.serve("private", s, func(c net.Conn) { w.bounce(s, c) })
	}
	w.serve("private", "rewrite", w.rewrite)
	w.serve("public", "cleanup", w.cleanup)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) user(name string) cred.Identity {
	return cred.Identity{UID: os.Getuid(), GID: os.Getgid(), Name: name, Home: w.dir + "/home/" + name, Shell: "/bin/sh"}
}

func (w *world) serve(class, name string, f func(net.Conn)) {
	l, err := net.Listen("unix", filepath.Join(class, name))
	w.must(err)
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
}

func (w *world) note(list *[]string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*list = append(*list, text)
}

func (w *world) bounce(name string, c net.Conn) {
	out := attr.NewWriter(c, attr.Null)
	attr.Announce(out, bounce.Protocol)
	r, err := bounce.ReadRequest(attr.NewReader(c, attr.Null, "test"))
	if err != nil {
		return
	}
	if r.Kind == bounce.One {
		name += " to " + r.Sender
	}
	w.note(&w.reports, fmt.Sprintf("%s %s %s %s", name, r.Recipient.Address, r.Status.Code, r.Status.Reason))
	bounce.WriteReply(out, 0)
}

// rewrite completes with the domain and knows that domain as local.
func (w *world) rewrite(c net.Conn) {
	in, out := attr.NewReader(c, attr.Null, "test"), attr.NewWriter(c, attr.Null)
	attr.Announce(out, rewrite.Protocol)
	for {
		r, err := rewrite.ReadRequest(in)
		if err != nil {
			return
		}
		if r.Kind == rewrite.RequestRewrite {
			if !strings.Contains(r.Address, "@") && r.Address != "" {
				r.Address += domain
			}
			rewrite.WriteRewritten(out, r.Address)
			continue
		}
		reply := rewrite.Reply{Transport: "smtp", NextHop: "x", Recipient: r.Address, Flags: rewrite.ClassDefault}
		if strings.HasSuffix(r.Address, domain) {
			reply.Transport, reply.Flags = "local", rewrite.ClassLocal
		}
		if strings.HasPrefix(r.Address, "bad@") {
			reply.Flags |= rewrite.Error
		}
		if strings.HasPrefix(r.Address, "fail@") {
			reply.Flags |= rewrite.Fail
		}
		rewrite.WriteReply(out, reply)
	}
}

func (w *world) cleanup(c net.Conn) {
	cleanup.Announce(c, "F00")
	in := attr.NewReader(c, attr.Null, "test")
	if _, err := cleanup.ReadFlags(in); err != nil {
		return
	}
	var b strings.Builder
	r := record.NewReader(in.Buffered())
	for {
		kind, data, err := r.Next()
		if err != nil {
			w.note(&w.messages, "aborted "+b.String())
			return
		}
		if kind != record.TypeTime && !strings.Contains(string(data), "\tid") {
			fmt.Fprintf(&b, "%c%s|", kind, data)
		}
		if kind == record.TypeEnd {
			break
		}
	}
	w.note(&w.messages, b.String())
	cleanup.Reply(c, cleanup.Result{Status: w.status})
}

// request makes a queue file with content (N records) and a request for it.
func (w *world) request(to string, content ...string) *deliver.Request {
	const id = "ABC123"
	f, err := os.OpenFile("active/"+id, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o700)
	w.must(err)
	defer f.Close()
	r := record.NewWriter(f)
	r.PutString(record.TypeFrom, "s@x")
	w.offset = r.Offset()
	r.PutString(record.TypeRcpt, to)
	r.PutString(record.TypeMessage, "")
	start := r.Offset()
	for _, line := range content {
		r.PutString(record.TypeNormal, line)
	}
	size := r.Offset() - start
	r.PutString(record.TypeExtracted, "")
	r.PutString(record.TypeEnd, "")
	w.must(r.Flush())
	return &deliver.Request{Flags: deliver.Success | deliver.Bounce, Queue: "active", ID: id, NextHop: "example.com",
		Sender: "s@x", DataOffset: start, DataSize: size, Stats: deliver.Stats{Incoming: time.Now(), Active: time.Now()},
		Recipients: []deliver.Recipient{{Original: to, Address: to, Offset: w.offset}}}
}

// deliver sends a request and returns the final status.
func (w *world) deliver(req *deliver.Request) int {
	w.t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	conn := service.NewConn(server)
	conn.Runtime = w.rt
	go func() {
		defer server.Close()
		if err := w.s.Serve(context.Background(), conn); err != nil {
			w.t.Error(err)
		}
	}()
	client.SetDeadline(time.Now().Add(20 * time.Second))
	in := attr.NewReader(client, attr.Null, "test")
	w.must(attr.Expect(in, deliver.Protocol))
	w.must(deliver.WriteRequest(attr.NewWriter(client, attr.Null), req))
	reply, err := deliver.ReadReply(in)
	w.must(err)
	return reply.Status
}

// marked tells whether the recipient is marked done in the queue file.
func (w *world) marked() bool {
	b, err := os.ReadFile("active/ABC123")
	w.must(err)
	return b[w.offset] == byte(record.TypeDone)
}

// results are the ends of the delivery log lines: "to=<a@x> 5.1.1 bounced (why)".
func (w *world) results() []string {
	var out []string
	for _, l := range w.lines.Lines() {
		_, l, ok := strings.Cut(l, ": to=")
		if !ok {
			continue
		}
		to, rest, _ := strings.Cut(l, ">")
		_, rest, _ = strings.Cut(rest, "dsn=")
		rest = strings.ReplaceAll(rest, w.dir, "DIR")
		out = append(out, strings.TrimPrefix(to, "<")+" "+strings.Replace(rest, ", status=", " ", 1))
	}
	return out
}

// files are the names of all files below a directory.
func (w *world) files(dir string) string {
	var names []string
	filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, p)
		}
		return nil
	})
	sort.Strings(names)
	return strings.Join(names, " ")
}

func (w *world) write(name, text string) {
	w.t.Helper()
	w.must(os.WriteFile(name, []byte(strings.ReplaceAll(text, "$DIR", w.dir)), 0o600))
	old := time.Now().Add(-time.Hour) // a table that has just changed is waited for
	w.must(os.Chtimes(name, old, old))
}

func (w *world) read(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(name)
	w.must(err)
	return string(b)
}

// reopenAliases reads a table file that was written after the start.
func (w *world) reopenAliases() {
	w.t.Helper()
	var err error
	w.d.aliases, err = open(w.rt, "alias_maps", aliasFlags)
	w.must(err)
}
