package postscreen

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"posthaste/test/world"
)

// zones are the DNS lists of the tests: what every address in them is listed
// as, and how the server behaves.
var zones = map[string]struct {
	addrs []string
	rcode int
	soa   uint32
	delay time.Duration
	ttl   uint32
}{
	"two.test.":      {addrs: []string{"127.0.0.2"}, ttl: 960},
	"multi.test.":    {addrs: []string{"127.0.0.2", "127.0.0.5"}, ttl: 1440},
	"good.test.":     {addrs: []string{"127.0.0.9"}, ttl: 1800},
	"goodlate.test.": {addrs: []string{"127.0.0.9"}, ttl: 1800, delay: 300 * time.Millisecond},
	"long.test.":     {addrs: []string{"127.0.0.2"}, ttl: 86400},
	"short.test.":    {addrs: []string{"127.0.0.2"}, ttl: 5},
	"none.test.":     {rcode: mdns.RcodeNameError, soa: 720},
	"nosoa.test.":    {rcode: mdns.RcodeNameError},
	"fail.test.":     {rcode: mdns.RcodeServerFailure},
	"slow.test.":     {addrs: []string{"127.0.0.2"}, ttl: 960, delay: 2500 * time.Millisecond},
	"late.test.":     {addrs: []string{"127.0.0.2"}, ttl: 960, delay: 300 * time.Millisecond},
}

// serveDNS is the machine's DNS server.
func serveDNS(t testing.TB, w *world.World) {
	t.Helper()
	pc, err := w.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	s := &mdns.Server{PacketConn: pc, Handler: mdns.HandlerFunc(answer)}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
}

func answer(w mdns.ResponseWriter, q *mdns.Msg) {
	m := new(mdns.Msg)
	m.SetReply(q)
	m.Rcode = mdns.RcodeNameError
	name := q.Question[0].Name
	for domain, z := range zones {
		if !strings.HasSuffix(name, "."+domain) {
			continue
		}
		time.Sleep(z.delay)
		m.Rcode = z.rcode
		if q.Question[0].Qtype == mdns.TypeA {
			for _, a := range z.addrs {
				m.Answer = append(m.Answer, &mdns.A{Hdr: mdns.RR_Header{Name: name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: z.ttl}, A: net.ParseIP(a)})
			}
		}
		if z.soa > 0 {
			m.Ns = append(m.Ns, &mdns.SOA{Hdr: mdns.RR_Header{Name: domain, Rrtype: mdns.TypeSOA, Class: mdns.ClassINET, Ttl: z.soa}, Ns: domain, Mbox: domain, Minttl: z.soa})
		}
	}
	w.WriteMsg(m)
}

// common are the settings of all rows; a row's own come after them.
var common = []string{"mynetworks = 192.0.2.9", "postscreen_greet_wait = 2s", "smtpd_tls_chain_files = /etc/postfix/server.pem",
	"smtpd_tls_cert_file =", "smtpd_tls_key_file =", "smtpd_tls_security_level = may", "smtpd_peername_lookup = no", "smtpd_relay_restrictions = reject_unauth_destination",
	"virtual_mailbox_domains = inbox.test", "virtual_mailbox_maps = static:all", "virtual_transport = discard:", "smtpd_client_connection_count_limit = 0",
	"postscreen_client_connection_count_limit = 50", "default_process_limit = 200", "smtpd_forbid_bare_newline = no", "smtpd_forbid_unauth_pipelining = no"}

const services = `
smtpd     pass  -       -       y       -       -       smtpd
busy      pass  -       -       y       -       1       smtpd
dnsblog   unix  -       -       y       -       0       dnsblog
lateblog  unix  -       -       y       -       0       dnsblog -o dnsblog_reply_delay=3
tlsproxy  unix  -       -       n       -       0       tlsproxy
`

// files are what the settings of scenarios name.
var files = map[string]string{
	"access.cidr":   "127.3.0.0/28 permit\n127.3.0.16/28 reject\n::1 reject\n0.0.0.0/0 dunno\n",
	"filter.regexp": "/^XYZZY (.*)$/ NOOP $1\n/^DROPME/ QUIT\n/^HELO there$/ EHLO there\n",
	"replymap":      "two.test list.example\n",
	"footers":       "/rcpt/ never\n/Service currently/ \\c. Call $$client_address:$$client_port at $$server_name\n",
	"ehlo.cidr":     "127.0.0.0/8 chunking, dsn, silent-discard\n",
	"bad.cidr":      "127.0.0.0/8 maybe\n",
}

// screens starts a machine with the rows.
func screens(t testing.TB, o world.Options, rows []*row) *world.World {
	t.Helper()
	o.Memory = true
	w := world.Test(t, o)
	put := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(w.Path(name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	put("/etc/postfix/server.pem", certificate(t), 0o600)
	for name, text := range files {
		put("/etc/postfix/"+name, text, 0o644)
	}
	master, err := os.ReadFile(w.Path("/etc/postfix/master.cf"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.Write(regexp.MustCompile(`(?m)^smtp +inet.*$`).ReplaceAll(master, nil))
	b.WriteString(services)
	seeds := "umask 022\n"
	for _, r := range rows {
		fmt.Fprintf(&b, "%d inet n - %s - 1 postscreen\n -o syslog_name=%s\n -o postscreen_cache_map=btree:$data_directory/ps_%s\n", r.port, "y", r.name, r.name)
		for _, s := range r.settings {
			fmt.Fprintf(&b, " -o { %s }\n", s)
		}
		var seed strings.Builder
		for _, s := range r.scenarios {
			if s.seed != "" {
				fmt.Fprintf(&seed, "%s %s\n", s.from, seedTimes(s.seed))
			}
		}
		if seed.Len() > 0 {
			put("/tmp/seed_"+r.name, seed.String(), 0o644)
			seeds += fmt.Sprintf("postmap -i btree:/var/lib/postfix/ps_%s </tmp/seed_%s && chown postfix: /var/lib/postfix/ps_%s.db || exit 1\n", r.name, r.name, r.name)
		}
	}
	put("/etc/postfix/master.cf", b.String(), 0o644)
	if err := w.Set(common...); err != nil {
		t.Fatal(err)
	}
	if r := w.Sh(seeds); r.Code != 0 {
		t.Fatal(r)
	}
	serveDNS(t, w)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// seedTimes puts the time now in for "now" ("now+300;1;now-10").
func seedTimes(text string) string {
	return regexp.MustCompile(`now([+-]\d+)?`).ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.Atoi(strings.TrimPrefix(s, "now"))
		return strconv.FormatInt(time.Now().Unix()+int64(n), 10)
	})
}

// masks hide what differs from run to run.
var masks = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\]:\d{4,5}\b`), "]:PORT"},
	{regexp.MustCompile(`after \d+(\.\d+)? from`), "after T from"},
	{regexp.MustCompile(`TLS_AES_\d+_GCM_SHA\d+ \(\d+/\d+ bits\)`), "CIPHER"},
	{regexp.MustCompile(`key-exchange \S+`), "key-exchange K"},
	{regexp.MustCompile(`(queued as |smtpd: |cleanup: |qmgr: )[0-9A-F]{6,16}\b`), "${1}ID"},
	{regexp.MustCompile(` port \d{4,5}`), " port PORT"},
	{regexp.MustCompile(`:\d{4,5} at mail`), ":PORT at mail"},
	{regexp.MustCompile(`[A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d`), "DATE"},
}

func mask(line string) string {
	for _, m := range masks {
		line = m.what.ReplaceAllString(line, m.by)
	}
	return line
}

// result is what a suite did.
type result struct {
	said map[string][]string // by row/scenario: what the client saw, then what was logged about it
	logs map[string][]string // by row: records that name no client
}

// run plays all rows on a machine.
func run(t testing.TB, o world.Options, rows []*row) result {
	w := screens(t, o, rows)
	res := result{said: map[string][]string{}, logs: map[string][]string{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	places := make(chan struct{}, 32)
	start := time.Now()
	for _, r := range rows {
		for _, s := range r.scenarios {
			wg.Add(1)
			go func() {
				defer wg.Done()
				places <- struct{}{}
				defer func() { <-places }()
				said := (&player{w: w, row: r, s: s}).play()
				mu.Lock()
				defer mu.Unlock()
				res.said[r.name+"/"+s.name] = said
			}()
		}
	}
	wg.Wait()
	time.Sleep(1500 * time.Millisecond)
	if err := w.Stop(); err != nil {
		t.Error(err)
	}
	log := w.Syslog()
	for _, r := range rows {
		cache := w.Run("", "postmap", "-s", "btree:/var/lib/postfix/ps_"+r.name).Out
		for _, s := range r.scenarios {
			key := r.name + "/" + s.name
			res.said[key] = append(res.said[key], logged(log, r.name, s.from)...)
			for line := range strings.Lines(cache) {
				if k, v, _ := strings.Cut(strings.TrimSpace(line), "\t"); k == s.from {
					res.said[key] = append(res.said[key], "cache "+relative(v, start))
				}
			}
			for i, line := range res.said[key] {
				res.said[key][i] = mask(strings.TrimRight(line, "\r\n"))
			}
		}
		re := regexp.MustCompile(` ` + r.name + `/postscreen\[\d+\]: (.*)`)
		for line := range strings.Lines(log) {
			if m := re.FindStringSubmatch(strings.TrimSpace(line)); m != nil && !strings.Contains(m[1], " cleanup: ") && !strings.Contains(m[1], "[127.") && !strings.Contains(m[1], "[::1]") {
				res.logs[r.name] = append(res.logs[r.name], mask(m[1]))
			}
		}
		slices.Sort(res.logs[r.name])
		res.logs[r.name] = slices.Compact(res.logs[r.name])
	}
	return res
}

// logged are the records that have to do with a client.
func logged(log, row, addr string) []string {
	re := regexp.MustCompile(`^.*? ([a-z0-9.-]+/[a-z]+)\[\d+\]: (.*)`)
	var lines []string
	for line := range strings.Lines(log) {
		m := re.FindStringSubmatch(strings.TrimSpace(line))
		if m != nil && !strings.HasPrefix(m[2], "SSL_accept error") && (program(m[1]) != "postscreen" || m[1] == row+"/postscreen") && (strings.Contains(m[2], "["+addr+"]") || strings.Contains(m[2], "addr "+addr+" ")) {
			lines = append(lines, m[1]+": "+m[2])
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(program(a), program(b)) })
	for i, line := range lines {
		if program(line) == "dnsblog" {
			slices.Sort(lines[i:lastOf(lines, "dnsblog")])
			break
		}
	}
	return lines
}

func lastOf(lines []string, name string) int {
	for i := len(lines); i > 0; i-- {
		if program(lines[i-1]) == name {
			return i
		}
	}
	return 0
}

func program(line string) string {
	_, rest, _ := strings.Cut(line, "/")
	name, _, _ := strings.Cut(rest, ":")
	return name
}

// relative gives the times of a cache entry as seconds from the start of the
// test, in steps of two minutes.
func relative(value string, start time.Time) string {
	return regexp.MustCompile(`\b\d{8,10}\b`).ReplaceAllStringFunc(value, func(f string) string {
		n, _ := strconv.ParseInt(f, 10, 64)
		return fmt.Sprintf("%+d", (n-start.Unix()+1200)/120*120-1200)
	})
}
