package smtp

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/ipc/dial"
)

// The goldens in testdata/golden are what Debian's smtp 3.7.11 did with the
// same requests and the same fake servers. They are made anew in a namespace
// with Debian's postfix (/work/api/world-demo.sh) by running this test there
// as root with ORACLE=1.
const goldenFile = "testdata/golden.txt"

// outcome is all that can be seen of a delivery.
func outcome(log, notes []string, reply deliver.Reply, marks string, heard [][]string) string {
	var b strings.Builder
	for _, l := range log {
		fmt.Fprintf(&b, "log: %s\n", l)
	}
	for _, l := range notes {
		fmt.Fprintf(&b, "told: %s\n", l)
	}
	fmt.Fprintf(&b, "reply: %d %s %s\nmarks: %s\n", reply.Status, reply.Trouble.Code, reply.Trouble.Reason, marks)
	for i, h := range heard {
		for _, l := range h {
			fmt.Fprintf(&b, "server %d: %s\n", i+1, l)
		}
	}
	return b.String()
}

// prepare starts the servers of a case and makes its request.
func (c *testCase) prepare(t *testing.T, w *spoolWorld, n int) (*deliver.Request, []*fakeServer, map[string]string) {
	ports := map[string]string{}
	var list []*fakeServer
	hop := c.nexthop
	for i, s := range c.servers {
		network := "tcp"
		if strings.HasPrefix(hop, "unix:") {
			network = "unix"
		}
		f := newFakeServer(t, network, strings.Split(s, "\n---\n")...)
		list = append(list, f)
		name := fmt.Sprintf("PORT%d", i+1)
		if network == "unix" {
			ports[f.l.Addr().String()] = name
			hop = strings.ReplaceAll(hop, name, f.l.Addr().String())
		} else {
			ports[f.port()] = name
			hop = strings.ReplaceAll(hop, name, f.port())
		}
	}
	if strings.Contains(hop, "CLOSED") {
		l, _ := net.Listen("tcp", "127.0.0.1:0")
		_, p, _ := net.SplitHostPort(l.Addr().String())
		l.Close()
		ports[p] = "CLOSED"
		hop = strings.ReplaceAll(hop, "CLOSED", p)
	}
	now := time.Now()
	req := &deliver.Request{Flags: 3 | c.flags, Queue: "active", ID: fmt.Sprintf("ABC%03X", n), NextHop: hop, Sender: "s@ok.test", Encoding: c.encoding,
		SMTPUTF8: c.utf8, EnvelopeID: c.envid, Ret: c.ret, RewriteContext: "remote", LogIdent: "ABCDEF",
		ClientName: "client.test", ClientAddress: "192.0.2.9", ClientPort: "4711", ClientProtocol: "ESMTP", ClientHelo: "helo.test",
		Stats: deliver.Stats{Incoming: now.Add(-c.age), Active: now}}
	if c.sender != nil {
		req.Sender = *c.sender
	}
	rcpts := c.rcpts
	if rcpts == nil {
		rcpts = []deliver.Recipient{{Address: "a@dest.test"}}
	}
	req.Recipients = append(req.Recipients, rcpts...)
	content := c.content
	if content == "" {
		content = "Subject: hi\n\nbody\n.dot\n"
	}
	w.message(req, content)
	return req, list, ports
}

func (c *testCase) heard(list []*fakeServer) (all [][]string) {
	for _, f := range list {
		all = append(all, f.lines(c.flags&deliver.ConnStore != 0))
	}
	return all
}

func TestGolden(t *testing.T) {
	if os.Getenv("ORACLE") != "" {
		oracle(t)
		return
	}
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, part := range strings.Split(string(text), "=== ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		want[name] = body
	}
	for n, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := newOurs(t, c.lmtp, c.settings)
			o.d.flags, _ = parseArgs(c.args)
			o.d.service = fmt.Sprintf("t%d", n)
			req, list, ports := c.prepare(t, o.spoolWorld, n)
			reply := o.deliver(req)
			if c.again {
				reply = o.deliver(req)
			}
			heard := c.heard(list)
			got := mask(outcome(o.lines.Lines(), o.take(), reply, o.marks(req), heard), ports)
			w, ok := want[c.name]
			w = mask(w, nil)
			if !ok {
				t.Fatalf("no golden; got\n%s", got)
			}
			for _, r := range c.differs {
				w = strings.ReplaceAll(w, r[0], r[1])
			}
			if got != w {
				t.Errorf("got\n%s\nwant\n%s", got, w)
			}
		})
	}
}

var logHead = regexp.MustCompile(`^.*? postfix/[a-z0-9]+\[[0-9]+\]: `)

// oracle runs the cases against the smtp of the machine's postfix.
func oracle(t *testing.T) {
	const spool = "/var/spool/postfix"
	var master strings.Builder
	for n, c := range cases {
		program := "smtp"
		if c.lmtp {
			program = "lmtp"
		}
		fmt.Fprintf(&master, "t%d unix - - n - 1 %s", n, program)
		settings := map[string]string{"bounce_service_name": "tbounce", "defer_service_name": "tdefer", "trace_service_name": "ttrace", "notify_classes": "", "inet_interfaces": "loopback-only",
			"smtp_tls_security_level": "", "myhostname": "mail.example.com"}
		for k, v := range c.settings {
			settings[k] = v
		}
		for k, v := range settings {
			fmt.Fprintf(&master, " -o { %s = %s }", k, v)
		}
		fmt.Fprintf(&master, " %s\n", strings.Join(c.args, " "))
	}
	f, err := os.OpenFile("/etc/postfix/master.cf", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(master.String())
	f.Close()
	if out, err := exec.Command("postfix", "start").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("postfix", "stop").Run()
	time.Sleep(time.Second)
	w := newSpoolWorld(t, spool)
	var all strings.Builder
	for n, c := range cases {
		req, list, ports := c.prepare(t, w, n)
		exec.Command("chown", "postfix", filepath.Join(spool, "active", req.ID)).Run()
		logged, _ := os.ReadFile("/var/log/mail.log")
		reply := ask(t, fmt.Sprintf("%s/private/t%d", spool, n), req)
		if c.again {
			reply = ask(t, fmt.Sprintf("%s/private/t%d", spool, n), req)
		}
		heard := c.heard(list)
		time.Sleep(150 * time.Millisecond)
		now, _ := os.ReadFile("/var/log/mail.log")
		var lines []string
		for line := range strings.Lines(string(now[len(logged):])) {
			if !strings.Contains(line, "/smtp[") && !strings.Contains(line, "/lmtp[") && !strings.Contains(line, fmt.Sprintf("/t%d/", n)) {
				continue
			}
			lines = append(lines, logHead.ReplaceAllString(strings.TrimSuffix(line, "\n"), ""))
		}
		out := mask(outcome(lines, w.take(), reply, w.marks(req), heard), ports)
		fmt.Fprintf(&all, "=== %s\n%s", c.name, out)
		os.Remove(filepath.Join(spool, "active", req.ID))
	}
	os.MkdirAll("testdata", 0o755)
	out := os.Getenv("ORACLE")
	if err := os.WriteFile(out, []byte(all.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func ask(t *testing.T, path string, req *deliver.Request) deliver.Reply {
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := dial.NewConn(nc, 60*time.Second, path)
	if err := c.Expect(deliver.Protocol); err != nil {
		t.Fatal(err)
	}
	if err := deliver.WriteRequest(c.Out, req); err != nil {
		t.Fatal(err)
	}
	reply, err := deliver.ReadReply(c.In)
	if err != nil {
		reply.Trouble.Reason = "malformed: " + err.Error()
	}
	return reply
}
