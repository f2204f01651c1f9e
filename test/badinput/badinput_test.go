// Package badinput gives Debian's suite and ours the same mistakes: malformed
// configuration, tables, queue files, requests on sockets, SMTP commands and
// command lines. Both must say the same about them, with file and line, both
// must go on delivering mail, and what is valid in the queue must stay there.
//
// The cases are data: commands.go, services.go, spool.go, sockets.go and
// sessions.go. Each yields a text (exit status, output, replies, log lines),
// which is masked and compared. A case that differs on purpose says why.
package badinput

import (
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"posthaste/test/world"
)

// observation is what one machine made of the cases, by group and name.
type observation struct {
	outcomes map[string]string
	mu       sync.Mutex
	troubles []string // what must not happen at all, whatever the other suite does
}

func (o *observation) put(group, name, outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcomes[group+"/"+name] = mask(outcome)
}

func (o *observation) trouble(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.troubles = append(o.troubles, fmt.Sprintf(format, args...))
}

// masks hide what differs between two runs of the same programs.
var masks = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`3\.7\.11-posthaste-[\w.]+`), "3.7.11"},
	{regexp.MustCompile(`(?m)^\w{3} [ \d]\d \d\d:\d\d:\d\d `), ""}, // syslog's time
	{regexp.MustCompile(`\[\d+\]: `), "[N]: "},
	{regexp.MustCompile(`\bpid \d+`), "pid N"},
	{regexp.MustCompile(`queue_id\\x00[0-9A-F]+`), `queue_id\x00ID`},
	{regexp.MustCompile(`time\\x00\d+`), `time\x00N`},
	{regexp.MustCompile(`waiting\d`), `waitingN`},
	{regexp.MustCompile(`\bprocess id \d+`), "process id N"},
	{regexp.MustCompile(`\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`\b[0-9A-F]{9,12}\b`), "ID"},
	{regexp.MustCompile(`delay=[\d.]+, delays=[\d./]+`), "delay=N"},
	{regexp.MustCompile(`localhost\[127\.0\.0\.1\]:\d+`), "localhost[127.0.0.1]:N"},
	{regexp.MustCompile(`after \d+ seconds?`), "after N seconds"},
	{regexp.MustCompile(`posthaste: `), ""},
}

func mask(text string) string {
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.by)
	}
	return text
}

// settings keep the machines quick and let them go on after a crash.
var settings = []string{
	"home_mailbox = Maildir/",
	"service_throttle_time = 1s",
	"smtp_tls_security_level = none",
	"smtpd_tls_security_level = none",
	"smtpd_error_sleep_time = 0",
	"smtpd_hard_error_limit = 100",
	"smtpd_junk_command_limit = 1000",
	"smtpd_client_connection_rate_limit = 0",
	"disable_dns_lookups = yes",
	"transport_maps = inline:{ dead.test=smtp:[127.0.0.1]:2599 }",
	"minimal_backoff_time = 3600s", // waiting mail waits until it is asked for
	"notify_classes =",
}

// groups run one after the other, each followed by a probe.
var groups = []struct {
	name    string
	run     func(w *world.World, o *observation)
	reasons func() map[string]string // of all cases; "" is that both must agree
}{
	{"command", runCommands, commandReasons},
	{"session", runSessions, sessionReasons},
	{"spool", runSpool, spoolReasons},
	{"socket", runSockets, socketReasons},
	{"service", runServices, serviceReasons},
}

// observe runs all groups on a machine.
func observe(w *world.World) (*observation, error) {
	o := &observation{outcomes: map[string]string{}}
	if err := addServices(w); err != nil {
		return nil, err
	}
	if err := w.Start(); err != nil {
		return nil, err
	}
	if err := bystanders(w); err != nil {
		return nil, err
	}
	for i, g := range groups {
		begin := time.Now()
		g.run(w, o)
		if err := probe(w, fmt.Sprintf("%s-%d", g.name, i)); err != nil {
			o.trouble("after group %s: %v", g.name, err)
		}
		if err := waiting(w); err != nil {
			o.trouble("after group %s: %v", g.name, err)
		}
		if testing.Verbose() {
			fmt.Fprintf(os.Stderr, "badinput: %s: group %s took %v\n", w.Options.Suite, g.name, time.Since(begin).Round(time.Millisecond))
		}
	}
	if err := collect(w); err != nil {
		o.trouble("at the end: %v", err)
	}
	for line := range strings.Lines(w.Syslog()) {
		if strings.Contains(line, "panic:") && w.Options.Suite == world.Ours {
			o.trouble("log: %s", line)
		}
	}
	return o, nil
}

// Messages that wait in the queue all the time and must survive.
const valid = 4

func bystanders(w *world.World) error {
	for i := range valid {
		if r := world.Do(w.As("bob", "sendmail", fmt.Sprintf("waiting%d@dead.test", i)), fmt.Sprintf("Subject: bystander %d\n\nx\n", i)); r.Code != 0 {
			return fmt.Errorf("sendmail: %v", r)
		}
	}
	for i := range valid {
		if _, err := w.WaitLog(10*time.Second, fmt.Sprintf("to=<waiting%d@dead.test>", i), "status=deferred"); err != nil {
			return err
		}
	}
	r := w.Sh(`id=$(postqueue -p | sed -n 's/^\([0-9A-F]\{8,\}\).*/\1/p' | tail -1); postsuper -h $id`)
	if !strings.Contains(r.Err, "Placed on hold: 1 message") {
		return fmt.Errorf("postsuper -h: %v", r)
	}
	return nil
}

// waiting checks that the bystanders are still there.
func waiting(w *world.World) error {
	list := w.Run("", "postqueue", "-p")
	for i := range valid {
		if !strings.Contains(list.Out, fmt.Sprintf("waiting%d@dead.test", i)) {
			return fmt.Errorf("waiting%d is no longer in the queue:\n%s%s", i, list.Out, list.Err)
		}
	}
	return nil
}

// collect opens the dead site and takes the bystanders.
func collect(w *world.World) error {
	l, err := w.Listen("tcp", "127.0.0.1:2599")
	if err != nil {
		return err
	}
	defer l.Close()
	arrived := make(chan string, 64)
	server := smtp.NewServer(sink{arrived})
	server.Domain = "dead.test"
	go server.Serve(l)
	w.Run("", "postsuper", "-H", "ALL")
	w.Run("", "postsuper", "-r", "ALL", "deferred")
	w.Run("", "postqueue", "-f")
	got := map[string]bool{}
	for patience := time.After(20 * time.Second); len(got) < valid; {
		select {
		case text := <-arrived:
			if s := regexp.MustCompile(`Subject: bystander \d`).FindString(text); s != "" {
				got[s] = true
			}
		case <-patience:
			return fmt.Errorf("of %d valid messages only %v arrived\n%s", valid, got, w.Run("", "postqueue", "-p").Out)
		}
	}
	return nil
}

type sink struct{ arrived chan<- string }

func (s sink) NewSession(*smtp.Conn) (smtp.Session, error) { return s, nil }
func (sink) Mail(string, *smtp.MailOptions) error          { return nil }
func (sink) Rcpt(string, *smtp.RcptOptions) error          { return nil }
func (sink) Reset()                                        {}
func (sink) Logout() error                                 { return nil }
func (s sink) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.arrived <- string(text)
	return err
}

// probe sends one message by sendmail and one by SMTP and waits for both.
func probe(w *world.World, name string) error {
	if r := world.Do(w.As("bob", "sendmail", "alice+cmd-"+name), "Subject: probe\n\nx\n"); r.Code != 0 {
		return fmt.Errorf("probe: sendmail: %v", r)
	}
	conn, err := w.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		return err
	}
	defer conn.Close()
	reply := converse(conn, []step{send("EHLO probe.test\r\n"), send("MAIL FROM:<a@b.test>\r\n"),
		send("RCPT TO:<alice+net-" + name + "@mail.example.com>\r\n"), send("DATA\r\n"), send("Subject: probe\r\n\r\nx\r\n.\r\n"), send("QUIT\r\n")})
	if !strings.Contains(reply, "queued as") {
		return fmt.Errorf("probe: %s", reply)
	}
	for _, kind := range []string{"cmd", "net"} {
		if _, err := w.WaitLog(15*time.Second, fmt.Sprintf("to=<alice+%s-%s@", kind, name), "status=sent"); err != nil {
			return fmt.Errorf("probe: %w", err)
		}
	}
	return nil
}

func TestBadInput(t *testing.T) {
	var seen [2]*observation
	var errs [2]error
	var both sync.WaitGroup
	for _, s := range []world.Suite{world.Ours, world.Debian} {
		w := world.Test(t, world.Options{Suite: s, Main: settings})
		both.Go(func() { seen[s], errs[s] = observe(w) })
	}
	both.Wait()
	for s, err := range errs {
		if err != nil {
			t.Fatalf("%v: %v", world.Suite(s), err)
		}
		for _, trouble := range seen[s].troubles {
			t.Errorf("%v: %s", world.Suite(s), trouble)
		}
	}
	ours, debian := seen[world.Ours].outcomes, seen[world.Debian].outcomes
	total, deliberate := 0, 0
	for _, g := range groups {
		reasons := g.reasons()
		t.Run(g.name, func(t *testing.T) {
			for name, reason := range reasons {
				key := g.name + "/" + name
				total++
				a, b := debian[key], ours[key]
				switch {
				case a == "" || b == "":
					t.Errorf("%s: no outcome", name)
				case a == b && reason != "":
					t.Errorf("%s: no longer differs, but gives a reason: %s", name, reason)
				case a != b && reason == "":
					t.Errorf("%s differs from Debian's (-):\n%s", name, difference(a, b))
				case a != b:
					deliberate++
					if testing.Verbose() {
						t.Logf("%s (%s):\n%s", name, reason, difference(a, b))
					}
				}
			}
		})
	}
	t.Logf("%d cases, %d differ for a reason", total, deliberate)
}

// difference shows two texts' lines with what both begin and end with left
// out.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var out strings.Builder
	for _, l := range a {
		fmt.Fprintf(&out, "- %.1700s\n", l)
	}
	for _, l := range b {
		fmt.Fprintf(&out, "+ %.1700s\n", l)
	}
	return out.String()
}

// step is something sent on a connection; answer waits for a whole SMTP reply
// afterwards.
type step struct {
	bytes  string
	answer bool
}

func send(s string) step { return step{s, true} }

// converse plays the client of an SMTP session and returns the replies. It
// ends by half-closing the connection and reading to the end.
func converse(conn net.Conn, steps []step) string { return converseFor(conn, 10*time.Second, steps) }

func converseFor(conn net.Conn, patience time.Duration, steps []step) string {
	conn.SetDeadline(time.Now().Add(patience))
	var b strings.Builder
	replies := &replyReader{conn: conn, out: &b}
	replies.next()
	for _, s := range steps {
		if _, err := io.WriteString(conn, s.bytes); err != nil {
			b.WriteString("(write failed)\n")
			break
		}
		if s.answer && !replies.next() {
			break
		}
	}
	if c, ok := conn.(*net.TCPConn); ok {
		c.CloseWrite()
	}
	for replies.next() {
	}
	return b.String()
}

// replyReader reads SMTP replies.
type replyReader struct {
	conn   net.Conn
	out    *strings.Builder
	buffer []byte
}

// next reads one reply; false is the end of the connection.
func (r *replyReader) next() bool {
	for {
		for i, c := range r.buffer {
			if c != '\n' {
				continue
			}
			line := string(r.buffer[:i+1])
			r.buffer = r.buffer[i+1:]
			fmt.Fprintf(r.out, "S: %q\n", line)
			if len(line) < 4 || line[3] != '-' {
				return true
			}
			return r.next()
		}
		more := make([]byte, 4096)
		n, err := r.conn.Read(more)
		r.buffer = append(r.buffer, more[:n]...)
		if n == 0 && err != nil {
			if len(r.buffer) > 0 {
				fmt.Fprintf(r.out, "S: %q (no newline)\n", r.buffer)
			}
			r.buffer = nil
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				r.out.WriteString("(timeout)\n")
			}
			return false
		}
	}
}

// logSince are the records after a mark in which pick finds something, in
// order, or sorted as a set where several processes write.
func logSince(w *world.World, mark int, pick func(line string) bool) string {
	var b strings.Builder
	text := w.Syslog()
	for line := range strings.Lines(text[min(mark, len(text)):]) {
		if pick(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}
