package smtpd

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

	mdns "github.com/miekg/dns"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/verify"
	"posthaste/pkg/wire/dns"
	"posthaste/test/world"
)

// restrictionBase is added to baseConfig for testdata/restrictions.txt.
var restrictionBase = [][2]string{{"smtpd_authorized_xclient_hosts", "static:all"}}

// readRestrictions reads sessions like those of testdata/restrictions.txt.
func readRestrictions(t testing.TB, path string) []script {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []script
	for line := range strings.Lines(string(data)) {
		line = probeNames(strings.TrimSuffix(line, "\n"), true)
		word, rest, _ := strings.Cut(line, " ")
		if word == "==" {
			all = append(all, script{name: rest, options: restrictionBase[:len(restrictionBase):len(restrictionBase)]})
			continue
		}
		if len(all) == 0 || line == "" || line[0] == '#' {
			continue
		}
		s := &all[len(all)-1]
		switch word {
		case "o:":
			name, value, _ := strings.Cut(rest, "=")
			s.options = append(s.options, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
		case "client":
			addr, name, _ := strings.Cut(rest, " ")
			if name == unknown {
				name = "[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE]"
			}
			s.steps = append(s.steps, "C: RSET", "C: EHLO x", "C: XCLIENT NAME="+name+" ADDR="+addr, "C: EHLO x")
		case "mail":
			s.steps = append(s.steps, "C: MAIL FROM:<"+rest+">")
		case "rcpt":
			s.steps = append(s.steps, "C: RCPT TO:<"+rest+">")
		default:
			s.steps = append(s.steps, line)
		}
	}
	return all
}

// restrictionZone is the DNS of these sessions.
func restrictionZone() *dns.Fake {
	f := corpusZone()
	f.Add("1.2.0.192.bl.example", "A 127.0.0.2", "TXT see http://bl.example/?ip=192.0.2.1")
	f.Add("2.2.0.192.bl.example", "A 127.0.0.2", "A 127.0.0.10", "TXT first reason", "TXT second reason")
	f.Add("3.2.0.192.bl.example", "A 127.0.0.2")
	f.Add("5.2.0.192.bl.example", "A 127.0.0.2")
	f.Add("6.2.0.192.bl.example", "A 127.0.0.2", "TXT it is $client {braces} UPPER 100% of <x> A-Z")
	f.Add("7.2.0.192.bl.example", "A 127.0.0.2", "TXT "+strings.Repeat("0123456789", 24), "TXT "+strings.Repeat("abcdefghij", 24), "TXT "+strings.Repeat("ABCDEFGHIJ", 24))
	f.Add("1.0.0.127.bl.example", "A 127.0.0.2", "TXT local")
	f.Add("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example", "A 127.0.0.2", "TXT six")
	f.Add("bad.example.rhs.example", "A 127.0.0.2", "TXT bad domain")
	f.Add("bad_.example.rhs.example", "A 127.0.0.2")
	f.Add("1.2.0.192.wl.example", "A 127.0.5.3").Add("friend.example.wl.example", "A 127.0.0.1")
	f.Add("evil.example", "MX 10 good.mx.example", "MX 20 mx.evil.example", "NS ns.evil.example").Add("mx.evil.example", "A 192.0.2.70")
	f.Add("good.mx.example", "A 192.0.2.71").Add("ns.evil.example", "A 192.0.2.72")
	f.Add("evil2.example", "MX 10 plain.mx.example", "NS ns2.evil.example").Add("plain.mx.example", "A 192.0.2.66").Add("ns2.evil.example", "A 192.0.2.67")
	f.Add("evil3.example", "MX 10 private.mx.example").Add("private.mx.example", "A 10.0.0.1")
	f.Add("sub.evil.example", "A 192.0.2.73").Add("sub.sub.evil.example", "A 192.0.2.73")
	f.Add("nomx.example", "A 192.0.2.74").Add("ahost.example", "A 198.51.100.1")
	f.Add("mxfail.example", "MX 10 fail.example")
	f.Add("bad.example", "A 192.0.2.75").Add("good.example", "A 192.0.2.75")
	// For permit_mx_backup; this system is 192.0.2.200.
	f.Add("self.example", "A 192.0.2.200")
	f.Add("backup.example", "MX 10 mx.b.example", "MX 20 self.example")
	f.Add("backup2.example", "MX 10 mx.b.example", "MX 10 plain.mx.example", "MX 20 self.example")
	f.Add("backup3.example", "MX 10 in28.example", "MX 20 self.example").Add("in28.example", "A 192.0.2.33")
	f.Add("backupfail.example", "MX 10 fail.example", "MX 20 self.example")
	f.Add("backupnx.example", "MX 10 nxdomain.example", "MX 20 self.example")
	f.Add("primary.example", "MX 10 self.example", "MX 20 mx.b.example")
	f.Add("onlya.example", "A 192.0.2.76").Add("selfa.example", "A 192.0.2.200")
	f.Fail["4.2.0.192.bl.example"] = dns.Temporary
	f.Fail["5.2.0.192.bl.example TXT"] = dns.Temporary
	f.Fail["4.2.0.192.wl.example"] = dns.Temporary
	f.Fail["trouble.example.rhs.example"] = dns.Temporary
	f.Fail["trouble.example.wl.example"] = dns.Temporary
	for name, records := range f.Records {
		for i, r := range records {
			records[i].TTL = 60
			if r.Type == dns.A {
				f.Hosts[name] = append(f.Hosts[name], r.Addr.String())
			}
		}
	}
	return f
}

// zoneHandler answers questions from a Fake.
func zoneHandler(fake *dns.Fake) mdns.HandlerFunc {
	return func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		m.RecursionAvailable = true // else glibc takes an empty answer for a lame server's
		name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
		qtype := dns.Type(q.Question[0].Qtype)
		records, exists := fake.Records[name]
		switch {
		case fake.Fail[name] == dns.Temporary, fake.Fail[name+" "+qtype.String()] == dns.Temporary:
			m.Rcode = mdns.RcodeServerFailure
		case !exists:
			m.Rcode = mdns.RcodeNameError
		}
		for _, r := range records {
			if r.Type != qtype || m.Rcode != mdns.RcodeSuccess {
				continue
			}
			data := r.Host + "."
			if r.Host == "" {
				data = "."
			}
			switch r.Type {
			case dns.MX:
				data = fmt.Sprintf("%d %s", r.Pref, data)
			case dns.A, dns.AAAA:
				data = r.Addr.String()
			case dns.TXT:
				data = fmt.Sprintf("%q", r.Text)
			}
			if rr, err := mdns.NewRR(fmt.Sprintf("%s. 60 IN %s %s", name, r.Type, data)); err == nil {
				m.Answer = append(m.Answer, rr)
			}
		}
		w.WriteMsg(m)
	}
}

// policyScript is how one of the policy servers behaves.
type policyScript struct {
	name  string
	reply string // "%s": the request's policy_context, or DUNNO
	close bool   // hangs up after its reply
	hang  bool
}

var policyScripts = []policyScript{
	{name: "%GOOD", reply: "action=%s\n\n"},
	{name: "%HANG", hang: true},
	{name: "%EMPTY", reply: "action=\n\n"},
	{name: "%NOACTION", reply: "result=REJECT\n\n"},
	{name: "%OTHER", reply: "result=OK\naction=REJECT other\nx=y\n\n"},
	{name: "%PARTIAL", reply: "action=REJ", close: true},
	{name: "%GARBAGE", reply: "what do you want\n\n"},
	{name: "%CLOSE", close: true},
	{name: "%ONCE", reply: "action=DUNNO\n\n", close: true},
	{name: "%EXTRA", reply: "action=DUNNO\n\naction=REJECT\n\n"},
	{name: "%UTF8", reply: "action=REJECT \xff\xfe bad\n\n"},
	{name: "%REFUSED"},
}

// policyServers are all of them; requests says what they were asked, by the
// port of the server in the request.
type policyServers struct {
	addrs map[string]string // name to host:port
	mu    sync.Mutex
	asked map[string]string
}

func startPolicyServers(t testing.TB, listen func(i int) (net.Listener, error)) *policyServers {
	p := &policyServers{addrs: map[string]string{}, asked: map[string]string{}}
	for i, s := range policyScripts {
		l, err := listen(i)
		if err != nil {
			t.Fatal(err)
		}
		p.addrs[s.name] = l.Addr().String()
		if s.name == "%REFUSED" {
			l.Close()
			continue
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go p.serve(s, c)
			}
		}()
	}
	return p
}

func (p *policyServers) serve(s policyScript, c net.Conn) {
	defer c.Close()
	in := attr.NewReader(bufio.NewReader(c), attr.Plain, "policy client")
	for {
		list, err := in.List()
		if err != nil || len(list) == 0 {
			return
		}
		server, _ := list.Get("server_port")
		text := ""
		for _, a := range list {
			text += "P: " + a.Name + "=" + a.Value + "\n"
		}
		p.mu.Lock()
		p.asked[server] += text + "P:\n"
		p.mu.Unlock()
		if s.hang {
			continue
		}
		action, _ := list.Get("policy_context")
		if action == "" {
			action = "DUNNO"
		}
		fmt.Fprint(c, strings.ReplaceAll(s.reply, "%s", action))
		if s.close {
			return
		}
	}
}

// requests are those of a session, by the port of its server.
func (p *policyServers) requests(port string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maskPolicy.ReplaceAllString(p.asked[port], "P: $1=MASKED")
}

var maskPolicy = regexp.MustCompile(`(?m)^P: (client_port|server_port|instance|queue_id)=.+$`)

// probeNames replaces "%PROBE+1" and the like by the probe sender of another
// time, or the reverse.
func probeNames(text string, addresses bool) string {
	for shift := -2; shift <= 2; shift++ {
		name := fmt.Sprintf("%%PROBE%+d", shift)
		addr := verify.ProbeSender("probe@virt.example", probeTTL, testStart.Add(time.Duration(shift)*probeTTL))
		if !addresses {
			name, addr = addr, name
		}
		text = strings.ReplaceAll(text, name, addr)
	}
	return text
}

var (
	testStart = time.Now()
	probeTTL  = steadyTTL(testStart)
)

// steadyTTL is a lifetime of probe senders of which none ends in the next ten
// minutes.
func steadyTTL(now time.Time) time.Duration {
	for _, s := range []int64{3600, 4001, 5003} {
		if now.Unix()%s < s-600 {
			return time.Duration(s) * time.Second
		}
	}
	return 6007 * time.Second
}

// names replaces the servers' addresses by their names in a transcript,
// addresses the reverse in a configuration.
func (p *policyServers) names(text string) string {
	for name, addr := range p.addrs {
		text = strings.ReplaceAll(text, addr, name)
	}
	return probeNames(text, false)
}

func (p *policyServers) addresses(options [][2]string) [][2]string {
	out := append([][2]string(nil), options...)
	for i := range out {
		for name, addr := range p.addrs {
			out[i][1] = strings.ReplaceAll(out[i][1], name, addr)
		}
		out[i][1] = strings.ReplaceAll(out[i][1], "%PROBETTL", fmt.Sprintf("%.0fs", probeTTL.Seconds()))
	}
	return out
}

// verifyAnswer is the address verification service of the sessions: the local
// part says what is known. asked counts the questions about an address.
func verifyAnswer(addr string, asked int) (verify.Result, string, error) {
	switch user, _, _ := strings.Cut(addr, "@"); user {
	case "bounce":
		return verify.Undeliverable, "host mx.b.example[192.0.2.25] said: 550 5.1.1 unknown (in reply to RCPT TO command)", nil
	case "defer":
		return verify.Deferred, "connect to mx.b.example[192.0.2.25]:25: Connection refused", nil
	case "long":
		return verify.Deferred, strings.Repeat("0123456789", 40), nil
	case "longbounce":
		return verify.Undeliverable, strings.Repeat("0123456789", 60), nil
	case "todo":
		return verify.Probing, "Address verification in progress", nil
	case "third":
		if asked < 2 {
			return verify.Probing, "Address verification in progress", nil
		}
	case "odd":
		return verify.Result(7), "odd", nil
	case "echo":
		return verify.Deferred, "asked about " + addr, nil
	case "broken":
		return 0, "", fmt.Errorf("status %d", verify.Bad)
	}
	return verify.Deliverable, "250 2.1.5 Ok", nil
}

// serveVerify is verifyAnswer on a socket.
func serveVerify(t testing.TB, path string) {
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	os.Chmod(path, 0o666)
	var mu sync.Mutex
	asked := map[string]int{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in, out := attr.NewReader(c, attr.Null, "verify client"), attr.NewWriter(c, attr.Null)
				attr.Announce(out, verify.Protocol)
				for {
					q, err := verify.ReadRequest(in)
					if err != nil {
						return
					}
					mu.Lock()
					asked[q.Address]++
					n := asked[q.Address]
					mu.Unlock()
					r, reason, err := verifyAnswer(q.Address, n)
					if err != nil {
						out.Int("status", verify.Failed).Int("recipient_status", 0).Str("reason", "").Send()
						continue
					}
					verify.WriteAnswer(out, r, reason)
				}
			}()
		}
	}()
}

// fakeVerify is verifyAnswer in the process.
type fakeVerify struct {
	mu    sync.Mutex
	asked map[string]int
}

func (f *fakeVerify) Query(_ context.Context, addr string) (verify.Result, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked == nil {
		f.asked = map[string]int{}
	}
	f.asked[addr]++
	return verifyAnswer(addr, f.asked[addr])
}

// skipInWorld are log lines that depend on the machine.
func machineNoise(line string) bool {
	return unimportant(line) || strings.Contains(line, "hostname localhost") || strings.Contains(line, "statistics:")
}

// playWorld plays the sessions in a world of a suite.
func playWorld(t *testing.T, suite world.Suite, sessions []script) []string {
	w := world.Test(t, world.Options{Suite: suite})
	pc, err := w.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	dnsServer := &mdns.Server{PacketConn: pc, Handler: zoneHandler(restrictionZone())}
	go dnsServer.ActivateAndServe()
	t.Cleanup(func() { dnsServer.Shutdown() })
	servers := startPolicyServers(t, func(i int) (net.Listener, error) {
		return w.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 4000+i))
	})
	w.Sh("echo 127.0.0.1 localhost > /etc/hosts; mkdir -p /var/spool/postfix/private; chown postfix /var/spool/postfix/private; chmod 755 /var/spool/postfix/private")
	serveVerify(t, w.Path("/var/spool/postfix/private/fake"))
	settings := []string{"defer_transports = smtp,relay,local,virtual", "maillog_file ="}
	for _, p := range baseConfig {
		settings = append(settings, p[0]+" = "+p[1])
	}
	if err := w.Set(settings...); err != nil {
		t.Fatal(err)
	}
	master := ""
	for i, s := range sessions {
		master += fmt.Sprintf("127.0.0.1:%d inet n - n - - smtpd -o syslog_name=s%d\n", 3000+i, i)
		for _, o := range servers.addresses(s.options) {
			master += fmt.Sprintf("  -o {%s = %s}\n", o[0], o[1])
		}
	}
	path := w.Path("/etc/postfix/master.cf")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(old, master...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	talks := make([]string, len(sessions))
	var group sync.WaitGroup
	limit := make(chan bool, 8)
	for i, s := range sessions {
		group.Add(1)
		limit <- true
		go func() {
			defer func() { <-limit; group.Done() }()
			conn, err := w.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", 3000+i))
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
				return
			}
			talks[i] = play(t, s, conn)
		}()
	}
	group.Wait()
	log := w.Syslog()
	for deadline := time.Now().Add(10 * time.Second); strings.Count(log, "/smtpd[") > 0 && strings.Count(log, "]: disconnect from ") < len(sessions) && time.Now().Before(deadline); log = w.Syslog() {
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	log = w.Syslog()
	out := make([]string, len(sessions))
	for i := range sessions {
		out[i] = maskTalk(talks[i]) + servers.requests(fmt.Sprint(3000+i))
		marker := fmt.Sprintf(" s%d/smtpd[", i)
		for _, line := range strings.Split(log, "\n") {
			_, rest, ok := strings.Cut(line, marker)
			if !ok {
				_, rest, ok = strings.Cut(line, marker[1:])
			}
			if !ok {
				continue
			}
			_, rest, _ = strings.Cut(rest, "]: ")
			if !machineNoise(rest) {
				out[i] += "L: " + mask(rest) + "\n"
			}
		}
		out[i] = resolverTrouble.ReplaceAllString(servers.names(out[i]), "${1}Temporary failure in name resolution")
	}
	return out
}

// resolverTrouble is what the C library's resolver makes of a server failure:
// it asks for two types at once, and what it says depends on which answer is
// there first.
var resolverTrouble = regexp.MustCompile(`(Unable to look up [^\n]* host fail\.example[^\n:]*: )Name or service not known`)

func restrictionGolden(name string) string {
	return filepath.Join("testdata", "restrictions", name+".txt")
}

// TestRestrictionsWorld plays testdata/restrictions.txt against Debian's smtpd
// and ours on machines of their own, with real name and policy servers. With
// SMTPD_RECORD=restrictions it writes down what Debian's does, which
// TestRestrictions compares our smtpd to everywhere.
func TestRestrictionsWorld(t *testing.T) {
	sessions := readRestrictions(t, "testdata/restrictions.txt")
	for _, suite := range []world.Suite{world.Debian, world.Ours} {
		t.Run(suite.String(), func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("starts a mail system")
			}
			got := playWorld(t, suite, sessions)
			for i, s := range sessions {
				if suite == world.Debian && os.Getenv("SMTPD_RECORD") == "restrictions" {
					os.MkdirAll(filepath.Dir(restrictionGolden("x")), 0o755)
					if err := os.WriteFile(restrictionGolden(s.name), []byte(got[i]), 0o644); err != nil {
						t.Error(err)
					}
					continue
				}
				want, err := os.ReadFile(restrictionGolden(s.name))
				if err != nil || got[i] != string(want) {
					t.Errorf("%s: %v %s", s.name, err, difference(string(want), got[i]))
				}
			}
		})
	}
}

// TestRestrictions plays testdata/restrictions.txt against our session in this
// process; replies, log lines and requests to policy servers must be those of
// Debian's smtpd.
func TestRestrictions(t *testing.T) {
	for _, s := range readRestrictions(t, "testdata/restrictions.txt") {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(restrictionGolden(s.name))
			if err != nil {
				t.Fatal(err)
			}
			servers := startPolicyServers(t, func(int) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") })
			srv, _, log := newTestServer(t, servers.addresses(s.options))
			zone := restrictionZone()
			srv.native, srv.verify = zone, &fakeVerify{}
			client := dns.NewServers(serveLocal(t, zoneHandler(zone)))
			srv.filterReplies(client)
			srv.dns = client
			conn, done := connect(t, srv)
			_, port, _ := net.SplitHostPort(conn.RemoteAddr().String())
			got := maskTalk(play(t, s, conn))
			waitFor(t, done)
			got += servers.requests(port)
			for _, line := range log.Lines() {
				if !machineNoise(line) {
					got += "L: " + mask(line) + "\n"
				}
			}
			if got = servers.names(got); got != string(want) {
				t.Error(difference(string(want), got))
			}
		})
	}
}

// serveLocal is a name server on the loopback interface.
func serveLocal(t testing.TB, h mdns.Handler) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network:", err)
	}
	server := &mdns.Server{PacketConn: pc, Handler: h}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return pc.LocalAddr().String()
}
