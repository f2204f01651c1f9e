// Package agenttest is a world for tests of delivery agents: a queue directory
// with one message in it, and services that note what they are told.
package agenttest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/service"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// World is the surroundings of one agent that works as whoever runs the test.
type World struct {
	Dir     string // working directory of the test; "$DIR" in settings and files
	Runtime *service.Runtime
	Lines   *maillog.Buffer

	t     *testing.T
	agent agent.Agent

	mu      sync.Mutex
	reports []string
}

const queueID = "ABC123"

// New makes a world and starts the agent in it, which is called service and has
// args from master.cf. It changes the working directory: such tests are not
// parallel.
func New(t *testing.T, a agent.Agent, service string, args []string, settings map[string]string) *World {
	t.Helper()
	w := Bare(t, service, args, settings)
	w.Start(a)
	return w
}

// Bare is New without an agent.
func Bare(t *testing.T, name string, args []string, settings map[string]string) *World {
	t.Helper()
	w := &World{t: t, Dir: t.TempDir()}
	t.Chdir(w.Dir)
	for _, d := range []string{"private", "active", "mail"} {
		w.must(os.MkdirAll(d, 0o700))
	}
	m := map[string]string{"myhostname": "example.com", "recipient_delimiter": "+", "deliver_lock_attempts": "1"}
	for k, v := range settings {
		m[k] = w.expand(v)
	}
	for i := range args {
		args[i] = w.expand(args[i])
	}
	var log *maillog.Logger
	log, w.Lines = maillog.Capture()
	self := cred.Identity{UID: os.Getuid(), GID: os.Getgid(), Name: "self"}
	w.Runtime = &service.Runtime{Config: conf.FromMap(m), Log: log, ServiceName: name, Args: args, Owner: self,
		Queue: queue.New(w.Dir, queue.Options{Log: log})}
	for _, s := range []string{"bounce", "defer", "trace"} {
		w.serve(s)
	}
	return w
}

// Start starts the agent.
func (w *World) Start(a agent.Agent) {
	w.t.Helper()
	w.agent = a
	w.must(a.Setup(w.Runtime))
	if a.Start != nil {
		w.must(a.Start(context.Background(), w.Runtime))
	}
}

func (w *World) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *World) expand(s string) string { return strings.ReplaceAll(s, "$DIR", w.Dir) }

func (w *World) serve(name string) {
	l, err := net.Listen("unix", filepath.Join("private", name))
	w.must(err)
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); w.bounce(name, c) }()
		}
	}()
}

func (w *World) bounce(name string, c net.Conn) {
	out := attr.NewWriter(c, attr.Null)
	attr.Announce(out, bounce.Protocol)
	r, err := bounce.ReadRequest(attr.NewReader(c, attr.Null, "test"))
	if err != nil {
		return
	}
	w.mu.Lock()
	w.reports = append(w.reports, fmt.Sprintf("%s %s %s %s %s", name, r.Status.Action, r.Recipient.Address, r.Status.Code, r.Status.Reason))
	w.mu.Unlock()
	bounce.WriteReply(out, 0)
}

// Reports are what the bounce, defer and trace services were told: "SERVICE
// ACTION RECIPIENT CODE REASON".
func (w *World) Reports() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reports
}

// Request makes a queue file with content (one record a line) for some recipients
// and a request for all of it.
func (w *World) Request(to []string, content ...string) *deliver.Request {
	w.t.Helper()
	f, err := os.OpenFile("active/"+queueID, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o700)
	w.must(err)
	defer f.Close()
	r := record.NewWriter(f)
	r.PutString(record.TypeFrom, "s@x")
	req := &deliver.Request{Flags: deliver.Success | deliver.Bounce, Queue: "active", ID: queueID, NextHop: "Next.Hop", Sender: "s@x",
		Stats: deliver.Stats{Incoming: time.Now(), Active: time.Now()}}
	for _, addr := range to {
		req.Recipients = append(req.Recipients, deliver.Recipient{Original: addr, Address: addr, Offset: r.Offset()})
		r.PutString(record.TypeRcpt, addr)
	}
	r.PutString(record.TypeMessage, "")
	req.DataOffset = r.Offset()
	for _, line := range content {
		r.PutString(record.TypeNormal, line)
	}
	req.DataSize = r.Offset() - req.DataOffset
	r.PutString(record.TypeExtracted, "")
	r.PutString(record.TypeEnd, "")
	w.must(r.Flush())
	return req
}

// Damage cuts the content of the request's queue file short.
func (w *World) Damage(req *deliver.Request) {
	w.t.Helper()
	w.must(os.Truncate("active/"+queueID, req.DataOffset+8))
}

// SetAside tells whether the queue file was found corrupt.
func (w *World) SetAside() bool {
	info, err := os.Stat("active/" + queueID)
	w.must(err)
	return info.Mode().Perm() == 0o400
}

// Deliver lets the agent serve the request; done tells that nothing of it must
// be tried again, and marks are the types of the recipients' records then: "DR".
func (w *World) Deliver(req *deliver.Request) (done bool, marks string) {
	w.t.Helper()
	report, err := agent.NewReporter(w.Runtime.Config, w.Runtime.Log, w.agent.Filter)
	w.must(err)
	reply := agent.Do(context.Background(), w.agent, w.Runtime.Queue, report, w.Runtime.Log, req)
	b, err := os.ReadFile("active/" + queueID)
	w.must(err)
	for _, r := range req.Recipients {
		marks += string(b[r.Offset])
	}
	return reply.Status == deliver.Done, marks
}

// Results are the ends of the delivery log lines, "a@x 5.1.1 bounced (why)", and
// the other lines as they are.
func (w *World) Results() []string {
	var out []string
	for _, line := range w.Lines.Lines() {
		line = strings.ReplaceAll(line, w.Dir, "DIR")
		if _, rest, ok := strings.Cut(line, ": to=<"); ok {
			to, _, _ := strings.Cut(rest, ">,")
			_, rest, _ = strings.Cut(rest, "dsn=")
			line = to + " " + strings.Replace(rest, ", status=", " ", 1)
		}
		out = append(out, line)
	}
	return out
}

// Write makes a file.
func (w *World) Write(name, text string) {
	w.t.Helper()
	w.must(os.WriteFile(name, []byte(w.expand(text)), 0o600))
}

// Read returns a file's content.
func (w *World) Read(name string) string {
	w.t.Helper()
	b, err := os.ReadFile(name)
	w.must(err)
	return string(b)
}

// Files are the names of all files below a directory, separated by blanks.
func (w *World) Files(dir string) string {
	var names []string
	filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, p)
		}
		return nil
	})
	return strings.Join(names, " ")
}
