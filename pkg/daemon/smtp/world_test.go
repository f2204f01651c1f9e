package smtp

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/bounce"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/dns"
)

// fakeServer plays one script for each connection.
type fakeServer struct {
	l       net.Listener
	mu      sync.Mutex
	got     []string
	scripts []string
	wg      sync.WaitGroup
}

func newFakeServer(t testing.TB, network string, scripts ...string) *fakeServer {
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	if network == "unix" {
		os.Chmod(addr, 0o777)
		for d := filepath.Dir(addr); len(d) > 5; d = filepath.Dir(d) {
			os.Chmod(d, 0o755)
		}
	}
	f := &fakeServer{l: l, scripts: scripts}
	t.Cleanup(func() { l.Close() })
	go func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			script := scripts[min(i, len(scripts)-1)]
			f.wg.Add(1)
			go func() {
				defer f.wg.Done()
				f.note(fmt.Sprintf("-- connection %d", i+1))
				f.play(c, script)
			}()
		}
	}()
	return f
}

func (f *fakeServer) note(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, s)
}

func (f *fakeServer) port() string {
	_, p, _ := net.SplitHostPort(f.l.Addr().String())
	return p
}

// play runs a script: lines "VERB: reply", several lines of a reply separated by
// "|". VERB is banner, or the beginning of a command; "dot" is the end of
// content. A rule is used up when another with the same verb follows it. A reply
// "close" closes the connection, "hang" is silence until the client goes.
func (f *fakeServer) play(c net.Conn, script string) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	rules := map[string][]string{
		"BANNER": {"220 fake.test ESMTP"}, "EHLO": {"250 fake.test"}, "LHLO": {"250 fake.test"}, "HELO": {"250 fake.test"}, "MAIL": {"250 2.1.0 Ok"}, "RCPT": {"250 2.1.5 Ok"},
		"DATA": {"354 go"}, "DOT": {"250 2.0.0 Ok: queued as 12345"}, "RSET": {"250 2.0.0 Ok"}, "QUIT": {"221 2.0.0 Bye"}, "XFORWARD": {"250 2.0.0 Ok"}, "STARTTLS": {"454 4.7.0 no"},
	}
	own := map[string]bool{}
	for _, line := range strings.Split(script, "\n") {
		verb, reply, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		verb = strings.ToUpper(verb)
		if !own[verb] {
			rules[verb], own[verb] = nil, true
		}
		rules[verb] = append(rules[verb], reply)
	}
	in := bufio.NewReader(c)
	accepted, dot := 0, false
	say := func(verb string) bool {
		list := rules[verb]
		reply := "502 5.5.2 what"
		if len(list) > 0 {
			reply = list[0]
			if len(list) > 1 {
				rules[verb] = list[1:]
			}
		}
		switch reply {
		case "close":
			return false
		case "hang":
			for {
				if _, err := in.ReadByte(); err != nil {
					return false
				}
			}
		case "nothing":
			return true
		}
		shut := strings.HasSuffix(reply, "|close")
		reply = strings.TrimSuffix(reply, "|close")
		reply = strings.NewReplacer("|", "\r\n", "<x3000>", strings.Repeat("x", 3000)).Replace(reply)
		fmt.Fprint(c, reply+"\r\n")
		if verb == "RCPT" && strings.HasPrefix(reply, "2") {
			accepted++
		}
		if verb == "DATA" && strings.HasPrefix(reply, "3") {
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return false
				}
				f.note("D: " + strings.TrimSuffix(line, "\r\n"))
				if line == ".\r\n" {
					dot = true
					break
				}
				if len(rules["BODY"]) > 0 {
					fmt.Fprint(c, rules["BODY"][0]+"\r\n")
					c.(*net.TCPConn).CloseWrite()
					time.Sleep(300 * time.Millisecond)
					return false
				}
			}
		}
		return !shut
	}
	if !say("BANNER") {
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		f.note("C: " + line)
		verb := strings.ToUpper(strings.Fields(line + " x")[0])
		if !say(verb) {
			return
		}
		if verb == "DATA" && dot {
			n := 1
			if len(rules["LHLO"]) > 0 && rules["LMTP"] != nil {
				n = accepted
			}
			dot = false
			for ; n > 0; n-- {
				if !say("DOT") {
					return
				}
			}
		}
		if verb == "QUIT" {
			return
		}
	}
}

// lines is what the server has heard when all its connections are over.
func (f *fakeServer) lines(idle bool) []string {
	done := make(chan struct{})
	go func() { f.wg.Wait(); close(done) }()
	wait := 3 * time.Second
	if idle {
		wait = 300 * time.Millisecond
	}
	select {
	case <-done:
	case <-time.After(wait):
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.got...)
}

// spoolWorld is a spool with status services that note what they are told.
type spoolWorld struct {
	t     testing.TB
	dir   string
	mu    sync.Mutex
	notes []string
}

func newSpoolWorld(t testing.TB, dir string) *spoolWorld {
	w := &spoolWorld{t: t, dir: dir}
	for _, d := range []string{"private", "public", "active"} {
		os.MkdirAll(filepath.Join(dir, d), 0o700)
	}
	for _, name := range []string{"tbounce", "tdefer", "ttrace"} {
		path := filepath.Join(dir, "private", name)
		os.Remove(path)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, 0o666)
		t.Cleanup(func() { l.Close() })
		go w.serve(l, name[1:])
	}
	return w
}

func (w *spoolWorld) serve(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			out := attr.NewWriter(c, attr.Null)
			attr.Announce(out, bounce.Protocol)
			r, err := bounce.ReadRequest(attr.NewReader(c, attr.Null, "test"))
			if err != nil {
				return
			}
			st := r.Status
			w.mu.Lock()
			w.notes = append(w.notes, fmt.Sprintf("%s <%s> %s %s [%s; %s] [%s; %s] notify=%d: %s", name, r.Recipient.Address, st.Code, st.Action, st.DiagType, st.DiagText, st.MTAType, st.MTAName, r.Recipient.Notify, st.Reason))
			w.mu.Unlock()
			bounce.WriteReply(out, 0)
		}()
	}
}

// message writes a queue file and completes the request for it.
func (w *spoolWorld) message(req *deliver.Request, content string) {
	path := filepath.Join(w.dir, "active", req.ID)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o700)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	r := record.NewWriter(f)
	r.PutString(record.TypeFrom, req.Sender)
	for i := range req.Recipients {
		req.Recipients[i].Offset = r.Offset()
		r.PutString(record.TypeRcpt, req.Recipients[i].Address)
	}
	r.Put(record.TypeMessage, nil)
	req.DataOffset = r.Offset()
	for _, line := range strings.Split(strings.TrimSuffix(content, "\n"), "\n") {
		for len(line) > 2048 {
			r.PutString(record.TypeContinued, line[:2048])
			line = line[2048:]
		}
		if line == "<bad record>" {
			r.PutString(record.TypeFrom, "x")
			continue
		}
		r.PutString(record.TypeNormal, line)
	}
	req.DataSize = r.Offset() - req.DataOffset
	r.Put(record.TypeExtracted, nil)
	r.Put(record.TypeEnd, nil)
	if err := r.Flush(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *spoolWorld) marks(req *deliver.Request) string {
	b, err := os.ReadFile(filepath.Join(w.dir, "active", req.ID))
	if err != nil {
		w.t.Fatal(err)
	}
	s := ""
	for _, r := range req.Recipients {
		s += string(b[r.Offset])
	}
	return s
}

func (w *spoolWorld) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.notes
	w.notes = nil
	return list
}

// ours is our agent in a world.
type ours struct {
	*spoolWorld
	d      *daemon
	agent  agent.Agent
	report *agent.Reporter
	spool  *queue.Spool
	log    *maillog.Logger
	lines  *maillog.Buffer
}

func newOurs(t testing.TB, lmtp bool, settings map[string]string) *ours {
	t.Helper()
	o := &ours{spoolWorld: newSpoolWorld(t, t.TempDir())}
	o.log, o.lines = maillog.Capture()
	m := map[string]string{"myhostname": "mail.example.com", "inet_protocols": "ipv4", "notify_classes": ""}
	for k, v := range settings {
		m[k] = v
	}
	c := conf.FromMap(m)
	name := "smtp"
	if lmtp {
		name = "lmtp"
	}
	d := &daemon{conf: c, log: o.log, service: name, resolver: &dns.Fake{}, native: &dns.Fake{}}
	var err error
	if d.settings, err = newSettings(c, lmtp); err != nil {
		t.Fatal(err)
	}
	d.openTLS()
	if err = d.tables.open(d.settings, c, o.log); err != nil {
		t.Fatal(err)
	}
	d.cache = newCache(d.cacheTime)
	t.Cleanup(d.cache.close)
	dialer := dial.Dialer{Dir: o.dir, Log: o.log}
	o.spool = queue.New(o.dir, queue.Options{Log: o.log})
	o.report = &agent.Reporter{
		Services: bounce.Services{Bounce: "tbounce", Defer: "tdefer", Trace: "ttrace"}, SoftBounce: c.Bool("soft_bounce"),
		NegativeCache: true, Resolution: 2, Log: o.log, Bounce: &bounce.Client{Dialer: dialer}, Verify: verify.New(verify.Config{Dialer: dialer}),
	}
	o.d = d
	o.agent = agent.Agent{Name: name, MarkBounced: true, Deliver: d.deliver}
	return o
}

func (o *ours) deliver(req *deliver.Request) deliver.Reply {
	return agent.Do(context.Background(), o.agent, o.spool, o.report, o.log, req)
}

var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`delays?=[0-9./]+`), "delay=T"},
	{regexp.MustCompile(`ABC[0-9A-F]{3}`), "ID"},
	{regexp.MustCompile(`relay=t[0-9]+`), "relay=service"},
	{regexp.MustCompile(`t[0-9]+_destination`), "service_destination"},
	{regexp.MustCompile(`file: \S*active/`), "file: active/"},
}

// mask hides what differs from run to run.
func mask(s string, ports map[string]string) string {
	for _, m := range masks {
		s = m.pattern.ReplaceAllString(s, m.with)
	}
	for port, name := range ports {
		s = strings.ReplaceAll(s, port, name)
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, "log: ") && len(line) > 1400 {
			line = line[:1400] + "\n" // a logger's limit is not our business
		}
		b.WriteString(line)
	}
	return b.String()
}
