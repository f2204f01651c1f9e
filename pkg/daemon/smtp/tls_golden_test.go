package smtp

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/wire/dns"
	"posthaste/test/tlspeer"
	"posthaste/test/world"
)

// What Debian's smtp 3.7.11 did in tlsCases. UPDATE=1 makes it anew.
const tlsGolden = "testdata/tls.txt"

// instance is a case with its server and all words filled in.
type instance struct {
	tlsCase
	server *tlspeer.Peer
	main   mp
	req    *deliver.Request
	masks  map[string]string
}

func (c tlsCase) instance(l net.Listener, port string, p *tlspeer.PKI, n int) *instance {
	i := &instance{tlsCase: c, server: tlspeer.New(l, p, c.server), main: mp{}, masks: map[string]string{}}
	for k, v := range p.Mask {
		i.masks[k] = v
	}
	i.masks[port] = "PORT"
	if lower := strings.ToLower(port); lower != port {
		i.masks[lower] = "PORT"
	}
	var words []string
	for k, v := range i.masks {
		if v != "PORT" || k == port {
			words = append(words, v, k)
		}
	}
	fill := strings.NewReplacer(sortPairs(words)...)
	hop := c.nexthop
	if hop == "" {
		hop = "[mx.good.test]:PORT"
	}
	hop = fill.Replace(hop)
	prefix := "smtp_"
	if c.lmtp {
		prefix = "lmtp_"
	}
	i.main = mp{"myhostname": "mail.example.com", "compatibility_level": "3.6", "notify_classes": "", "smtp_dns_support_level": "disabled", "lmtp_dns_support_level": "disabled",
		"inet_protocols": "ipv4", "smtp_tls_CAfile": "", "lmtp_tls_CAfile": "", "smtp_tls_loglevel": "0", "lmtp_tls_loglevel": "0", "smtp_tls_session_cache_database": sessionDB, "lmtp_tls_session_cache_database": sessionDB + "_l", "smtp_tls_security_level": c.level, "lmtp_tls_security_level": c.level, "smtp_tls_CApath": "", "tls_append_default_CA": "no"}
	for k, v := range c.settings {
		if c.lmtp {
			k = strings.Replace(k, "smtp_", prefix, 1)
		}
		i.main[k] = fill.Replace(v)
	}
	if c.policy != "" {
		entry := fill.Replace(c.policy)
		if !strings.Contains(entry, " = ") {
			entry = strings.TrimPrefix(strings.TrimPrefix(hop, "unix:"), "inet:") + " = " + entry
		}
		name := prefix + "tls_policy_maps"
		if c.perSite {
			name = prefix + "tls_per_site"
		}
		i.main[name] = "inline:{ { " + entry + " } }"
		if c.policy == "FAIL" {
			i.main[name] = "fail:x"
		}
	}
	now := time.Now()
	i.req = &deliver.Request{Flags: 3 | c.flags, Queue: "active", ID: fmt.Sprintf("ABC%03X", n), NextHop: hop, Sender: "s@ok.test",
		Recipients: []deliver.Recipient{{Address: "a@dest.test"}}, Stats: deliver.Stats{Incoming: now.Add(-c.age), Active: now}}
	return i
}

// pause is between two deliveries: the QUIT of the first shall arrive.
const pause = 100 * time.Millisecond

const sessionDB = "btree:${data_directory}/smtp_scache"

// sortPairs puts longer words first: PORT must not eat the start of another.
func sortPairs(words []string) []string {
	type pair struct{ k, v string }
	var list []pair
	for i := 0; i < len(words); i += 2 {
		list = append(list, pair{words[i], words[i+1]})
	}
	sort.Slice(list, func(i, j int) bool { return len(list[i].k) > len(list[j].k) })
	var out []string
	for _, p := range list {
		out = append(out, p.k, p.v)
	}
	return out
}

var tlsMasks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`with cipher \S+ \(\d+/\d+ bits\)`), "with cipher C"},
	// An encrypted QUIT may be lost when its sender does not wait for the reply.
	{regexp.MustCompile(`(?m)(server 1: C: STARTTLS\nserver 1: TLS .*\n)server 1: C: QUIT\n`), "$1"},
	{regexp.MustCompile(`(?s)(-- connection\nserver 1: TLS [^\n]*\n)server 1: C: QUIT\n`), "$1"},
	{regexp.MustCompile(`(Matched fingerprint: )\S+`), "${1}X"},
	{regexp.MustCompile(`(?m)^server 1: C: [^\n]*[^ -~\n].*\n`), ""},
	{regexp.MustCompile(`(warning: TLS library problem: ).*`), "${1}X"},
	{regexp.MustCompile(`(disabling TLS support\n)(log: warning: TLS library problem: X\n)+`), "$1"},
	{regexp.MustCompile(`\b[0-9A-F]{64}\.\.\.[0-9A-F]{64}\b`), "LONG"},
	// Debian's has numbers after it, of memory that is not the record's.
	{regexp.MustCompile(`( IN TLSA \d \d \d )[0-9a-f]{64,}(?:- -(?: \d+)+)?`), "${1}DATA"},
	{regexp.MustCompile(`DIR/[^ ]*/DIR`), "DIR"},
}

func (i *instance) mask(s string) string {
	var words []string
	for k, v := range i.masks {
		words = append(words, k, v)
	}
	s = strings.NewReplacer(sortPairs(words)...).Replace(s)
	s = mask(s, nil)
	for _, m := range tlsMasks {
		s = m.pattern.ReplaceAllString(s, m.with)
	}
	return s
}

func (i *instance) outcome(log, notes []string, reply deliver.Reply, marks string) string {
	heard := i.server.Lines(i.flags&deliver.ConnStore != 0)
	return i.mask(outcome(log, notes, reply, marks, [][]string{heard}))
}

func hashedDir(t testing.TB, p *tlspeer.PKI, dir string) {
	// The name is what "openssl rehash" makes of the subject.
	if err := os.MkdirAll(filepath.Join(dir, "capath"), 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "capath", rootHash), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// rootHash is OpenSSL's file name for the subject of the certificate "root".
const rootHash = "3380f907.0"

func TestTLSGolden(t *testing.T) {
	if os.Getenv("UPDATE") != "" {
		tlsOracle(t)
		return
	}
	text, err := os.ReadFile(tlsGolden)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, part := range strings.Split(string(text), "=== ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		want[name] = body
	}
	dir := t.TempDir()
	p := tlspeer.NewPKI(t, dir)
	hashedDir(t, p, dir)
	for n, c := range tlsCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, port := listen(t, nil, c.server, n)
			i := c.instance(l, port, p, n)
			o := newOurs(t, c.lmtp, i.main)
			o.d.native = &dns.Fake{Hosts: names}
			o.d.service = fmt.Sprintf("t%d", n)
			o.message(i.req, "Subject: x\n\nhi\n")
			reply := o.deliver(i.req)
			for range c.again {
				time.Sleep(pause)
				reply = o.deliver(i.req)
			}
			got := i.outcome(o.lines.Lines(), o.take(), reply, o.marks(i.req))
			w := c.own + want[c.name]
			for _, r := range c.differs {
				w = strings.ReplaceAll(w, r[0], r[1])
			}
			if got != w {
				t.Errorf("got\n%s\nwant\n%s", got, w)
			}
		})
	}
}

// listen makes a listener, in the machine if there is one.
// It returns the port or path as well.
func listen(t testing.TB, w *world.World, server string, n int) (net.Listener, string) {
	t.Helper()
	var l net.Listener
	var err error
	path := ""
	switch unix := strings.Contains(server, "unix"); {
	case unix && w != nil:
		path = fmt.Sprintf("/tmp/s%d", n)
		if l, err = net.Listen("unix", w.Path(path)); err == nil {
			os.Chmod(w.Path(path), 0o666)
		}
	case unix:
		path = filepath.Join(t.TempDir(), "s")
		l, err = net.Listen("unix", path)
	case w != nil:
		l, err = w.Listen("tcp", "127.0.0.1:0")
	default:
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if path != "" {
		return l, path
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return l, port
}

// tlsOracle asks Debian's smtp.
func tlsOracle(t *testing.T) {
	askOracle(t, tlsGolden, tlsCases, func(*world.World, *tlspeer.PKI) (func(int), func() string) {
		return func(int) {}, func() string { return "" }
	})
}

// askOracle writes down what Debian's smtp does in the cases. What begin
// returns is called before each of them and after it, when there may be more
// to write down.
func askOracle(t *testing.T, golden string, cases []tlsCase, begin func(*world.World, *tlspeer.PKI) (before func(n int), after func() string)) {
	w := world.Test(t, world.Options{Suite: world.Debian})
	const inside = "/etc/pki-test"
	dir := w.Path(inside)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := tlspeer.NewPKI(t, dir)
	hashedDir(t, p, dir)
	p.Mask = withDir(p.Mask, dir, inside)
	var hosts, master strings.Builder
	for name, addrs := range names {
		fmt.Fprintf(&hosts, "%s %s\n", addrs[0], name)
	}
	appendTo(t, w.Path("/etc/hosts"), hosts.String())
	before, after := begin(w, p)
	var list []*instance
	for n, c := range cases {
		l, port := listen(t, w, c.server, n)
		i := c.instance(l, port, p, n)
		list = append(list, i)
		program := "smtp"
		if c.lmtp {
			program = "lmtp"
		}
		fmt.Fprintf(&master, "t%d unix - - n - 1 %s -o { bounce_service_name = tbounce } -o { defer_service_name = tdefer } -o { trace_service_name = ttrace } -o { inet_interfaces = loopback-only }", n, program)
		for k, v := range i.main {
			fmt.Fprintf(&master, " -o { %s = %s }", k, v)
		}
		master.WriteByte('\n')
	}
	master.WriteString("tlsproxy unix - - n - 0 tlsproxy\n")
	appendTo(t, w.Path("/etc/postfix/master.cf"), master.String())
	if err := w.Set("smtp_tls_security_level = may", "smtp_tls_CAfile = "+inside+"/root.pem", "smtp_tls_loglevel = 1", "smtp_tls_session_cache_database = "+sessionDB, "lmtp_tls_session_cache_database = "+sessionDB+"_l"); err != nil {
		t.Fatal(err)
	}
	if r := w.Sh("sed -i -E '/^(qmgr|pickup) /d' /etc/postfix/master.cf"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	spool := newSpoolWorld(t, w.Path("/var/spool/postfix"))
	var all strings.Builder
	for n, i := range list {
		before(n)
		spool.message(i.req, "Subject: x\n\nhi\n")
		w.Sh("chown postfix /var/spool/postfix/active/" + i.req.ID)
		logged := len(w.Syslog())
		reply := ask(t, fmt.Sprintf("%s/private/t%d", w.Path("/var/spool/postfix"), n), i.req)
		for range i.again {
			time.Sleep(pause)
			reply = ask(t, fmt.Sprintf("%s/private/t%d", w.Path("/var/spool/postfix"), n), i.req)
		}
		heard := i.server.Lines(i.flags&deliver.ConnStore != 0)
		_ = heard
		time.Sleep(100 * time.Millisecond)
		var lines []string
		for line := range strings.Lines(w.Syslog()[logged:]) {
			if !strings.Contains(line, "/smtp[") && !strings.Contains(line, "/lmtp[") && !strings.Contains(line, fmt.Sprintf("/t%d/", n)) || strings.Contains(line, "/tlsproxy[") {
				continue
			}
			lines = append(lines, logHead.ReplaceAllString(strings.TrimSuffix(line, "\n"), ""))
		}
		fmt.Fprintf(&all, "=== %s\n%s%s", i.name, i.outcome(lines, spool.take(), reply, spool.marks(i.req)), i.mask(after()))
		os.Remove(filepath.Join(w.Path("/var/spool/postfix"), "active", i.req.ID))
	}
	if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func withDir(m map[string]string, old, dir string) map[string]string {
	delete(m, old)
	m[dir] = "DIR"
	return m
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
