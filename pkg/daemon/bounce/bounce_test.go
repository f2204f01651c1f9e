package bounce

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
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
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/service"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

// letterText is a posted notice, as the golden file has it.
type letterText struct {
	Sender string `json:"sender"`
	Rcpt   string `json:"rcpt"`
	Text   string `json:"text"`
}

// golden is what Debian's bounce 3.7.11 did with a request.
type golden struct {
	Name    string            `json:"name"`
	Config  map[string]string `json:"config"`
	Service string            `json:"service"`
	QID     string            `json:"qid"`
	Queue   string            `json:"queue"` // the queue file, base64
	Log     string            `json:"log"`
	Request [][2]string       `json:"request"`
	Reply   string            `json:"reply"` // | for NUL
	Notices []letterText      `json:"notices"`
}

// fakeCleanup takes messages in below dir and keeps their text. With a refusal
// it answers with that status.
type fakeCleanup struct {
	mu      sync.Mutex
	letters []letterText
	refuse  cleanup.Status
}

func (f *fakeCleanup) listen(t *testing.T, dir string) {
	t.Helper()
	os.MkdirAll(filepath.Join(dir, "public"), 0o700)
	l, err := net.Listen("unix", filepath.Join(dir, "public", "cleanup"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
}

func (f *fakeCleanup) serve(c net.Conn) {
	defer c.Close()
	cleanup.Announce(c, "NEWID")
	in := bufio.NewReader(c)
	if _, err := cleanup.ReadFlags(attr.NewReader(in, attr.Null, "test")); err != nil {
		return
	}
	r := record.NewReader(in)
	var got letterText
	var text strings.Builder
	content := false
	for {
		t, data, err := r.Next()
		if err != nil {
			return
		}
		switch {
		case t == record.TypeMessage:
			content = true
		case content && t == record.TypeNormal:
			text.Write(data)
			text.WriteByte('\n')
		case content && t == record.TypeContinued:
			text.Write(data)
		case t == record.TypeExtracted:
			content = false
		case t == record.TypeFrom:
			got.Sender = string(data)
		case t == record.TypeRcpt:
			got.Rcpt = string(data)
		}
		if t == record.TypeEnd {
			break
		}
	}
	_, got.Text, _ = strings.Cut(text.String(), "\nDate: ")
	_, got.Text, _ = strings.Cut(got.Text, "\n")
	f.mu.Lock()
	refuse := f.refuse
	if refuse == cleanup.OK {
		f.letters = append(f.letters, got)
	}
	f.mu.Unlock()
	cleanup.Reply(c, cleanup.Result{Status: refuse})
}

func (f *fakeCleanup) take() []letterText {
	f.mu.Lock()
	defer f.mu.Unlock()
	got := f.letters
	f.letters = nil
	return got
}

// start returns a daemon in a spool of its own, which is the working directory.
func start(t *testing.T, serviceName string, params map[string]string) (*daemon, *fakeCleanup, *maillog.Buffer) {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"active", "bounce", "defer", "trace"} {
		os.MkdirAll(filepath.Join(dir, sub), 0o700)
	}
	t.Chdir(dir)
	all := map[string]string{"myhostname": "mail.example.com", "myorigin": "mail.example.com", "mail_name": "Postfix", "compatibility_level": "3.6"}
	for k, v := range params {
		all[k] = v
	}
	c := conf.FromMap(all)
	log, lines := maillog.Capture()
	d := new(daemon)
	err := d.setup(&service.Runtime{Config: c, Log: log, ServiceName: serviceName,
		Queue: queue.New("", queue.Options{HashNames: []string{"deferred", "defer"}, HashDepth: 1, Log: log})})
	if err != nil {
		t.Fatal(err)
	}
	f := new(fakeCleanup)
	f.listen(t, dir)
	return d, f, lines
}

// talk sends one request as it is and returns the reply, | for NUL.
func talk(t *testing.T, d *daemon, request [][2]string) string {
	t.Helper()
	client, server := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.converse(context.Background(), dial.NewConn(server, 0, d.service+" socket"))
		server.Close()
	}()
	c := dial.NewConn(client, 10*time.Second, "private/bounce socket")
	if err := c.Expect(bounce.Protocol); err != nil {
		t.Fatal(err)
	}
	for _, a := range request {
		c.Out.Str(a[0], a[1])
	}
	if err := c.Out.Send(); err != nil {
		t.Fatal(err)
	}
	list, err := c.In.List()
	if err != nil {
		t.Fatal(err)
	}
	<-ended
	reply := ""
	for _, a := range list {
		reply += a.Name + "|" + a.Value + "|"
	}
	return reply + "|"
}

var (
	dates      = regexp.MustCompile(`\w{3}, [ \d]\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000 \(UTC\)`)
	boundaries = regexp.MustCompile(`\b(ABC[0-9A-F]+)\.\d+/`)
)

func masked(text string) string {
	text = boundaries.ReplaceAllString(text, "$1.UNIXTIME/")
	return dates.ReplaceAllStringFunc(text, func(s string) string {
		if strings.Contains(s, "06:34:00") {
			return s
		}
		return "DATE"
	})
}

// TestDebian replays what was recorded from Debian's bounce and compares each
// notice byte by byte, after masking times.
func TestDebian(t *testing.T) {
	t.Setenv("TZ", "UTC")
	time.Local = time.UTC
	data, err := os.ReadFile("testdata/debian.json")
	if err != nil {
		t.Fatal(err)
	}
	template, err := os.ReadFile("testdata/b.cf")
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if _, ok := c.Config["bounce_template_file"]; ok {
				c.Config["bounce_template_file"] = filepath.Join(t.TempDir(), "b.cf")
				os.WriteFile(c.Config["bounce_template_file"], template, 0o600)
			}
			d, f, lines := start(t, c.Service, c.Config)
			if c.QID != "" && c.Queue != "" {
				file, err := base64.StdEncoding.DecodeString(c.Queue)
				if err != nil {
					t.Fatal(err)
				}
				os.WriteFile(filepath.Join("active", c.QID), file, 0o700)
			}
			if c.Log != "" {
				path := d.spool.Path(c.Service, cmpQID(c))
				os.MkdirAll(filepath.Dir(path), 0o700)
				os.WriteFile(path, []byte(c.Log), 0o600)
			}
			if got := talk(t, d, c.Request); got != c.Reply {
				t.Errorf("reply %s, want %s (%q)", got, c.Reply, lines.Lines())
			}
			got := f.take()
			if len(got) != len(c.Notices) {
				t.Fatalf("%d notices, want %d (%q)", len(got), len(c.Notices), lines.Lines())
			}
			for i := range got {
				if got[i].Sender != c.Notices[i].Sender || got[i].Rcpt != c.Notices[i].Rcpt {
					t.Errorf("notice %d from %s to %s, want %s to %s", i, got[i].Sender, got[i].Rcpt, c.Notices[i].Sender, c.Notices[i].Rcpt)
				}
				compare(t, masked(got[i].Text), c.Notices[i].Text)
			}
		})
	}
}

// cmpQID is the queue id of a case; when there was no queue file it is only in
// the request.
func cmpQID(c golden) string {
	if c.QID != "" {
		return c.QID
	}
	for _, a := range c.Request {
		if a[0] == "queue_id" {
			return a[1]
		}
	}
	return ""
}

func compare(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := 0; i < len(g) || i < len(w); i++ {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Errorf("line %d differs\ngot  %q\nwant %q", i+1, strings.Join(g[min(i, len(g)):min(i+2, len(g))], "\n"), strings.Join(w[min(i, len(w)):min(i+2, len(w))], "\n"))
			return
		}
	}
}

func appendRequest(flags string) [][2]string {
	return [][2]string{{"nrequest", "0"}, {"flags", flags}, {"queue_id", "ABC1"},
		{"original_recipient", "A b@x.test"}, {"recipient", "a b@fail.test"}, {"offset", "77"}, {"dsn_orig_rcpt", "rfc822;x"}, {"notify_flags", "4"},
		{"status", "5.1.1"}, {"diag_type", "smtp"}, {"diag_text", "550 \x01"}, {"mta_type", "dns"}, {"mta_mname", "m.test"}, {"action", "failed"}, {"reason", "no\tuser"}}
}

func flushRequest(kind, flags, sender string) [][2]string {
	return [][2]string{{"nrequest", kind}, {"flags", flags}, {"queue_name", "active"}, {"queue_id", "ABC1"}, {"encoding", ""}, {"smtputf8", "0"},
		{"sender", sender}, {"envelope_id", ""}, {"ret_flags", "0"}}
}

const done0, notDone0 = "status|0||", "status|4294967295||"

func TestAppend(t *testing.T) {
	d, _, lines := start(t, "bounce", nil)
	if got := talk(t, d, appendRequest("0")); got != done0 {
		t.Fatal(got, lines.Lines())
	}
	got, err := os.ReadFile("bounce/ABC1")
	want := "\n<\"a b\"@fail.test>: no?user\nrecipient=\"a b\"@fail.test\noriginal_recipient=\"A b\"@x.test\noffset=77\ndsn_orig_rcpt=rfc822;x\n" +
		"notify_flags=4\nstatus=5.1.1\naction=failed\ndiag_type=smtp\ndiag_text=550 ?\nmta_type=dns\nmta_mname=m.test\nreason=no?user\n\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
}

// As long as cleanup does not take the notice the log stays, unless the caller
// will not come again.
func TestNoticeRefused(t *testing.T) {
	d, f, lines := start(t, "bounce", nil)
	f.refuse = cleanup.StatusWrite
	talk(t, d, appendRequest("0"))
	if got := talk(t, d, flushRequest("1", "0", "s@x")); got != notDone0 {
		t.Error(got)
	}
	if _, err := os.Stat("bounce/ABC1"); err != nil {
		t.Errorf("the log is gone: %v", err)
	}
	if got := talk(t, d, flushRequest("1", "1", "s@x")); got != notDone0 {
		t.Error(got)
	}
	if _, err := os.Stat("bounce/ABC1"); err == nil {
		t.Error("flag 1: the log is still there")
	}
	f.refuse = cleanup.OK
	talk(t, d, appendRequest("0"))
	lines.Reset()
	if got := talk(t, d, flushRequest("1", "0", "s@x")); got != done0 {
		t.Error(got)
	}
	if _, err := os.Stat("bounce/ABC1"); err == nil {
		t.Error("the log is still there")
	}
	if got := lines.Lines(); len(got) != 1 || got[0] != "ABC1: sender non-delivery notification: NEWID" {
		t.Errorf("log %q", got)
	}
}

// Many requests at once, for one message and for many.
func TestConcurrent(t *testing.T) {
	d, f, _ := start(t, "bounce", nil)
	d.logOptions.LockDelay, d.logOptions.LockAttempts = time.Millisecond, 10_000
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := talk(t, d, appendRequest("0")); got != done0 {
				t.Error(got)
			}
		})
	}
	wg.Wait()
	if got := talk(t, d, flushRequest("1", "0", "s@x")); got != done0 {
		t.Error(got)
	}
	if got := f.take(); len(got) != 1 || strings.Count(got[0].Text, "Final-Recipient:") != 20 {
		t.Error("not all recipients are in the notice")
	}
}

func TestLocked(t *testing.T) {
	d, _, lines := start(t, "bounce", nil)
	os.WriteFile("active/ABC1", nil, 0o700)
	file, err := os.Open("active/ABC1")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	queue.Lock(file, true)
	talk(t, d, appendRequest("0"))
	if got := talk(t, d, flushRequest("1", "0", "s@x")); got != notDone0 {
		t.Error(got)
	}
	if got := lines.Lines(); len(got) != 1 || !strings.Contains(got[0], "cannot get shared lock on active/ABC1") {
		t.Errorf("log %q", got)
	}
}
