package posttlsfinger

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

	"posthaste/test/tlspeer"
	"posthaste/test/world"
)

// fingerCase is a run of the command against a server. In args, PORT is the
// server's port, DIR the directory of certificates and CERT:x, KEY:x and
// SHA1:x are fingerprints of certificate x.
type fingerCase struct {
	name    string
	server  string // words for tlspeer.New; "" is no server
	zone    string
	args    string
	differs [][2]string // what is other with us, in Debian's output
	says    string      // what ours says where Debian's is not to be compared with
}

const (
	dom = "good.test:PORT"
	lit = "[mx.good.test]:PORT"
)

var fingers = []fingerCase{
	{name: "usage", args: ""},
	{name: "unknown option", args: "-Z x"},
	{name: "missing value", args: "-l"},
	{name: "bad level", args: "-l what " + dom},
	{name: "bad level half", args: "-l half-dane " + dom},
	{name: "bad family", args: "-a x " + dom},
	{name: "bad host lookup", args: "-h x " + dom},
	{name: "bad -M", args: "-M x " + dom},
	{name: "bad -m", args: "-m x good.test:1"},
	{name: "bad -m 0", args: "-m 0 good.test:1"},
	{name: "bad -r", args: "-r x good.test:1"},
	{name: "bad -t", args: "-t x good.test:1"},
	{name: "bad -t 0", args: "-t 0 good.test:1"},
	{name: "bad -T", args: "-T x good.test:1"},
	{name: "bad -o", args: "-o x " + dom},
	{name: "bad -d", server: "good", args: "-d crc " + dom},
	{name: "bad -g", server: "good", args: "-g huge -l encrypt " + dom},
	{name: "bad -p", server: "good", args: "-p TLSv9 -l encrypt " + dom},
	{name: "bad -L", server: "good", args: "-L what -l encrypt " + dom},
	{name: "chain and cert", server: "good", args: "-H DIR/client.full -k DIR/client.pem " + dom},
	{name: "bad destination", args: "-l may [x"},
	{name: "bad port", args: "-l may x:y"},
	{name: "unix with SMTP", args: "-l may unix:/x"},
	{name: "plain dane", server: "good", zone: "mx.good.test TLSA 3 1 1 good", args: dom},
	{name: "dane mismatch", server: "good", zone: "mx.good.test TLSA 3 1 1 other", args: dom},
	{name: "dane ta", server: "good", zone: "mx.good.test TLSA 2 1 1 inter", args: dom},
	{name: "dane ta wrong name", server: "cnsan", zone: "mx.good.test TLSA 2 1 1 inter", args: dom},
	{name: "dane no TLSA", server: "good", args: dom},
	{name: "dane no TLSA CA", server: "good", args: "-F DIR/root.pem " + dom},
	{name: "dane-only no TLSA", server: "good", args: "-l dane-only " + dom},
	{name: "dane-only", server: "good", zone: "mx.good.test TLSA 3 1 1 good", args: "-l dane-only " + dom},
	{name: "dane unusable", server: "good", zone: "mx.good.test TLSA 1 1 1 good", args: dom},
	{name: "dane-only unusable", server: "good", zone: "mx.good.test TLSA 1 1 1 good", args: "-l dane-only " + dom},
	{name: "dane short digest", server: "good", zone: "mx.good.test TLSA 3 1 1 hex:0102", args: dom},
	{name: "dane servfail", server: "good", zone: "servfail _tlsa.mx.good.test", args: dom},
	{name: "dane insecure MX", server: "good", zone: "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX", args: dom},
	{name: "dane insecure MX may", server: "good", zone: "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX", args: "-M may " + dom},
	{name: "dane insecure MX encrypt", server: "good", zone: "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX", args: "-M encrypt " + dom},
	{name: "dane-only insecure MX", server: "good", zone: "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX", args: "-l dane-only " + dom},
	{name: "dane insecure host", server: "good", zone: "mx.good.test TLSA 3 1 1 good\ninsecure mx.good.test", args: dom},
	{name: "dane insecure host -f", server: "good", zone: "mx.good.test TLSA 3 1 1 good\ninsecure mx.good.test", args: "-f " + dom},
	{name: "dane all insecure", server: "good", zone: "insecure *", args: dom},
	{name: "dane alias", server: "good", zone: "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nmx.good.test TLSA 3 1 1 good", args: dom},
	{name: "dane literal", server: "good", args: "[127.0.0.1]:PORT"},
	{name: "dane native", server: "good", args: "-h native " + lit},
	{name: "dane match ignored", server: "good", zone: "mx.good.test TLSA 2 1 1 inter", args: dom + " other.test"},
	{name: "dane verbose", server: "good", zone: "mx.good.test TLSA 2 1 1 root", args: "-L verbose,summary " + dom},
	{name: "none", server: "good", args: "-l none " + dom},
	{name: "may", server: "good", args: "-l may " + dom},
	{name: "may not offered", server: "good nooffer", args: "-l may " + dom},
	{name: "may refused", server: "good refuse", args: "-l may " + dom},
	{name: "encrypt", server: "good", args: "-l encrypt " + dom},
	{name: "encrypt not offered", server: "good nooffer", args: "-l encrypt " + dom},
	{name: "encrypt refused", server: "good refuse", args: "-l encrypt " + dom},
	{name: "encrypt CA", server: "good", args: "-l encrypt -F DIR/root.pem " + dom},
	{name: "encrypt hangup", server: "good hangup", args: "-l encrypt " + dom},
	{name: "encrypt noise", server: "good noise", args: "-l encrypt " + dom},
	{name: "encrypt late", server: "good late", args: "-l encrypt " + dom},
	{name: "verify", server: "good", args: "-l verify -F DIR/root.pem " + dom},
	{name: "verify self", server: "self", args: "-l verify -F DIR/root.pem " + dom},
	{name: "verify foreign", server: "foreign", args: "-l verify -F DIR/root.pem " + dom},
	{name: "verify without CA", server: "good", args: "-l verify " + dom},
	{name: "verify expired", server: "expired", args: "-l verify -F DIR/root.pem " + dom},
	{name: "verify wrong name", server: "cnsan", args: "-l verify -F DIR/root.pem " + dom},
	{name: "verify match", server: "cnsan", args: "-l verify -F DIR/root.pem " + dom + " other.test"},
	{name: "verify match strategies", server: "domain", args: "-l verify -F DIR/root.pem " + dom + " hostname nexthop"},
	{name: "secure", server: "good", args: "-l secure -F DIR/root.pem " + dom},
	{name: "secure domain", server: "domain", args: "-l secure -F DIR/root.pem " + dom},
	{name: "secure wrong", server: "good", args: "-l secure -F DIR/root.pem other.test:PORT"},
	{name: "secure CApath missing", server: "good", args: "-l secure -P DIR/nothing " + dom},
	{name: "secure CAfile missing", server: "good", args: "-l secure -F DIR/nothing.pem " + dom, differs: [][2]string{{"posttls-finger: warning: TLS library problem: X\n", ""}}},
	{name: "secure anchor", server: "foreign", args: "-l verify -A DIR/other.pem " + dom},
	{name: "secure anchor missing", server: "foreign", args: "-l verify -A DIR/nothing.pem " + dom},
	{name: "secure two anchors", server: "foreign", args: "-l verify -A DIR/root.pem -A DIR/other.pem " + dom},
	{name: "fingerprint", server: "self", args: "-l fingerprint -d sha256 " + dom + " CERT:self"},
	{name: "fingerprint key", server: "self", args: "-l fingerprint -d sha256 " + dom + " KEY:self"},
	{name: "fingerprint sha1", server: "self", args: "-l fingerprint -d sha1 " + dom + " SHA1:self"},
	{name: "fingerprint wrong", server: "self", args: "-l fingerprint -d sha256 " + dom + " CERT:good"},
	{name: "fingerprint none", server: "self", args: "-l fingerprint -d sha256 " + dom},
	{name: "fingerprint several", server: "self", args: "-l fingerprint -d sha256 " + dom + " CERT:good|CERT:self"},
	{name: "chain", server: "good", args: "-l encrypt -C " + dom},
	{name: "chain only", server: "good", args: "-cC -L none -l encrypt " + dom},
	{name: "chain CA", server: "good", args: "-C -l secure -F DIR/root.pem " + dom},
	{name: "chain augmented", server: "nochain", args: "-C -l secure -F DIR/root.pem " + dom},
	{name: "chain self sha1", server: "self", args: "-C -l encrypt -d sha1 " + dom},
	{name: "chain dane", server: "good", zone: "mx.good.test TLSA 3 1 1 good", args: "-C " + dom},
	{name: "chain dane ta", server: "nochain", zone: "mx.good.test TLSA 2 0 0 inter", args: "-C " + dom},
	{name: "no chat", server: "good", args: "-c -l encrypt " + dom},
	{name: "no chat not offered", server: "good nooffer", args: "-c -l encrypt " + dom},
	{name: "no chat none", server: "good", args: "-c -l none " + dom},
	{name: "log none", server: "good", args: "-L none -l encrypt " + dom},
	{name: "log 0 1", server: "good", args: "-L 1 -l encrypt -F DIR/root.pem " + dom},
	{name: "log peercert", server: "good", args: "-L peercert -l encrypt " + dom},
	{name: "log verbose", server: "good", args: "-L verbose -l secure -F DIR/root.pem " + dom},
	{name: "log untrusted", server: "self", args: "-L untrusted -l encrypt " + dom},
	{name: "log cache", server: "good", args: "-L cache -l encrypt " + dom},
	{name: "reconnect", server: "good", args: "-r 1 -l encrypt " + dom},
	{name: "reconnect 12", server: "good tls12", args: "-r 1 -l encrypt " + dom},
	{name: "reconnect no chat", server: "good", args: "-c -r 1 -l encrypt " + dom},
	{name: "reconnect count", server: "good", args: "-r 1 -m 1 -l encrypt " + dom},
	{name: "reconnect dane", server: "good", zone: "mx.good.test TLSA 3 1 1 good", args: "-r 1 " + dom},
	{name: "tls12", server: "good tls12", args: "-l encrypt " + dom},
	{name: "protocols", server: "good", args: "-p <=TLSv1.2 -l encrypt " + dom},
	{name: "protocols conflict", server: "good tls12", args: "-p >=TLSv1.3 -l encrypt " + dom},
	{name: "grade high", server: "good", args: "-g high -l encrypt -L verbose " + dom},
	{name: "client cert", server: "good ask", args: "-k DIR/client.pem -K DIR/client.key -l encrypt " + dom},
	{name: "client cert one", server: "good ask", args: "-k DIR/client.chain -l encrypt " + dom},
	{name: "client key one", server: "good ask", args: "-K DIR/client.chain -l encrypt " + dom},
	{name: "client chain", server: "good ask", args: "-H DIR/client.full -l encrypt " + dom},
	{name: "client cert missing", server: "good ask", args: "-k DIR/nothing.pem -l encrypt " + dom},
	{name: "client cert missing may", server: "good ask", args: "-k DIR/nothing.pem -l may " + dom},
	{name: "sni", server: "good", args: "-s sni.test -l encrypt " + dom},
	{name: "sni dane", server: "good", zone: "mx.good.test TLSA 3 1 1 good", args: "-s sni.test " + dom},
	{name: "sni bad", server: "good", args: "-s -bad- -l encrypt " + dom},
	{name: "wrapper", server: "good wrapper", args: "-w -l encrypt " + dom},
	{name: "wrapper may", server: "good wrapper", args: "-w -l may " + dom},
	{name: "wrapper plain", server: "good", args: "-w -T 1 -l encrypt " + dom},
	{name: "wrapper none", server: "good wrapper", args: "-w -l none " + dom},
	{name: "lmtp", server: "good", args: "-S -l encrypt inet:mx.good.test:PORT"},
	{name: "lmtp domain", server: "good", args: "-S -l encrypt mx.good.test:PORT"},
	{name: "lmtp unix", server: "good unix", args: "-S -l encrypt unix:PORT", says: "Untrusted TLS connection established to mail.example.com[PORT]"},
	{name: "lmtp unix dane", server: "good unix", args: "-S unix:PORT", says: "Untrusted TLS connection established to mail.example.com[PORT]"},
	{name: "lmtp unix missing", args: "-S -l encrypt unix:/nothing"},
	{name: "-o myhostname", server: "good", args: "-o myhostname=foo.test -l encrypt " + dom},
	{name: "-o digests", server: "good", zone: "mx.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 2 other", args: "-o tls_dane_digests=sha256 " + dom},
	{name: "verbose", server: "nothing", args: "-l may missing.test"},
	{name: "no host", args: "-l may missing.test"},
	{name: "no host literal", args: "-l may [missing.test]"},
	{name: "no connection", args: "-l may [mx.good.test]:1"},
	{name: "no connection two", zone: "good.test MX 20 other.test", args: "-l may good.test:1"},
	{name: "null MX", zone: "good.test MX 10 .", args: "-l may good.test"},
	{name: "two hosts", server: "good", zone: "good.test MX 20 other.test", args: "-l encrypt " + dom},
	{name: "native", server: "good", args: "-h native -l encrypt " + lit},
	{name: "native dns", server: "good", args: "-h native,dns -l encrypt " + lit},
	{name: "ipv4", server: "good", args: "-a ipv4 -l encrypt " + lit},
	{name: "ipv6", server: "good", args: "-a ipv6 -l encrypt " + lit},
	{name: "MX servfail", zone: "servfail good.test MX", args: "-l may good.test", differs: [][2]string{{"asked:  NS\n", ""}}},
	{name: "busy", server: "good busy", args: "-l may " + dom},
	{name: "busy no chat", server: "good busy", args: "-c -l may " + dom},
	{name: "closed", server: "good closed", args: "-l may " + dom},
	{name: "closed two", server: "good closed", zone: "good.test MX 20 other.test", args: "-l may " + dom},
	{name: "busy two", server: "good busy", zone: "good.test MX 20 other.test", args: "-l may " + dom},
	{name: "mute", server: "good mute", args: "-t 1 -l may " + dom},
	{name: "noehlo", server: "good noehlo", args: "-l may " + dom},
	{name: "noehlo lmtp", server: "good noehlo", args: "-S -l may mx.good.test:PORT"},
	{name: "wrapper noehlo", server: "good noehlo wrapper", args: "-w -l encrypt " + dom},
	{name: "reconnect notickets", server: "good notickets", args: "-r 1 -l encrypt " + dom},
	{name: "reconnect names", server: "good names", args: "-r 1 -m 2 -l encrypt " + dom},
	{name: "reconnect wrapper", server: "good wrapper", args: "-w -r 1 -l encrypt " + dom},
	{name: "reconnect plain", server: "good nooffer", args: "-r 1 -l may " + dom},
	{name: "reconnect chain", server: "good", args: "-C -r 1 -l encrypt " + dom},
	{name: "reconnect lmtp", server: "good", args: "-S -r 1 -l encrypt mx.good.test:PORT"},
	{name: "dane no TLSA match", server: "cnsan", args: "-F DIR/root.pem " + dom + " other.test"},
	{name: "dane no TLSA domain", server: "domain", args: "-F DIR/root.pem " + dom},
	{name: "dane -L none", server: "good", zone: "mx.good.test TLSA 3 1 1 other", args: "-L none " + dom},
	{name: "fingerprint -L 1", server: "self", args: "-L 1 -l fingerprint -d sha256 " + dom + " CERT:good"},
	{name: "tlsproxy", server: "good", args: "-X -l encrypt " + dom},
	{name: "tlsproxy verify", server: "good", args: "-X -l verify -F DIR/root.pem " + dom},
	{name: "tlsproxy dane", server: "good", zone: "mx.good.test TLSA 3 1 1 good", args: "-X " + dom},
	{name: "tlsproxy hangup", server: "good hangup", args: "-X -l encrypt " + dom},
	{name: "tlsproxy chain", server: "good", args: "-X -C -l encrypt " + dom},
}

var fingerMasks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`with cipher \S+ \(\d+/\d+ bits\)`), "with cipher C"},
	{regexp.MustCompile(`(warning: TLS library problem: ).*`), "${1}X"},
	{regexp.MustCompile(`/\S*/posttls-finger`), "BIN/posttls-finger"},
	{regexp.MustCompile(`&[0-9A-F]{64}`), "&KEY"},
	{regexp.MustCompile(`(?m)^C: [^\n]*[^ -~\n].*\n`), ""},
	{regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----\n(.*?)-----END`), "-----BEGIN CERTIFICATE-----\n-----END"},
	{regexp.MustCompile(`\b[0-9A-F]{64}\.\.\.[0-9A-F]{64}\b`), "LONG"},
}

// shards is how many machines share the cases, each with a name server.
const shards = 4

// Debian's posttls-finger and ours against the same servers.
func TestFingers(t *testing.T) {
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			fingersOf(t, shard)
		})
	}
}

func fingersOf(t *testing.T, shard int) {
	w := world.Test(t, world.Options{Suite: world.Debian})
	const inside = "/etc/pki-test"
	dir := w.Path(inside)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := tlspeer.NewPKI(t, dir)
	delete(p.Mask, dir)
	p.Mask[inside] = "DIR"
	names := startWorld(t, w, p)
	defer w.Stop()
	for n, c := range fingers {
		if n%shards != shard {
			continue
		}
		if only := os.Getenv("ONLY"); only != "" && !regexp.MustCompile(only).MatchString(c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			debian := c.run(t, w, names, p, n, "/usr/sbin/posttls-finger")
			for _, d := range c.differs {
				debian = strings.ReplaceAll(debian, d[0], d[1])
			}
			ours := c.run(t, w, names, p, n, filepath.Join(world.Inside(world.Ours), "usr/sbin/posttls-finger"))
			if c.says != "" && strings.Contains(ours, c.says) {
				return // Debian's connects, says nothing and ends with status 0
			}
			if ours != debian {
				t.Errorf("got\n%s\nwant\n%s", ours, debian)
			}
		})
	}
}

// startWorld starts the machine's mail system, for its tlsproxy, and its name
// server.
func startWorld(t *testing.T, w *world.World, p *tlspeer.PKI) *tlspeer.NameServer {
	hosts := ""
	for _, name := range tlspeer.Names {
		hosts += "127.0.0.1 " + name + "\n"
	}
	if r := w.Sh("cat >>/etc/hosts <<X\n" + hosts + "X\necho 'tlsproxy unix - - n - 0 tlsproxy' >>/etc/postfix/master.cf"); r.Code != 0 {
		t.Fatal(r.Err)
	}
	if err := w.Set("smtp_tls_CAfile =", "inet_protocols = ipv4", "tlsproxy_client_security_level = may", "smtp_tls_session_cache_database =", "myhostname = mail.example.com"); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	pc, err := w.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	names := &tlspeer.NameServer{PKI: p}
	names.Start(t, pc)
	return names
}

// run starts a server and the program, and returns all that can be seen.
func (c fingerCase) run(t *testing.T, w *world.World, names *tlspeer.NameServer, p *tlspeer.PKI, n int, program string) string {
	t.Helper()
	masks := map[string]string{}
	for k, v := range p.Mask {
		masks[k] = v
	}
	var peer *tlspeer.Peer
	if c.server != "" {
		var l net.Listener
		var err error
		port := fmt.Sprintf("/tmp/f%d", n)
		if strings.Contains(c.server, "unix") {
			os.Remove(w.Path(port))
			l, err = net.Listen("unix", w.Path(port))
			os.Chmod(w.Path(port), 0o666)
		} else if l, err = w.Listen("tcp", "127.0.0.1:0"); err == nil {
			_, port, _ = net.SplitHostPort(l.Addr().String())
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		masks[port] = "PORT"
		peer = tlspeer.New(l, p, c.server)
	}
	names.Set(t, c.zone)
	var fill, mask []string
	for k, v := range masks {
		fill, mask = append(fill, v, k), append(mask, k, v)
	}
	cmd := w.Command(append([]string{"timeout", "20", program}, strings.Fields(strings.NewReplacer(longestFirst(fill)...).Replace(c.args))...)...)
	r := world.Do(cmd, "")
	out := fmt.Sprintf("exit %d\nout: %s\nerr: %s\n", r.Code, r.Out, r.Err)
	if peer != nil {
		time.Sleep(20 * time.Millisecond)
		out += strings.Join(peer.Lines(false), "\n") + "\n"
	}
	out = strings.NewReplacer(longestFirst(mask)...).Replace(out + names.Questions())
	for _, m := range fingerMasks {
		out = m.pattern.ReplaceAllString(out, m.with)
	}
	return out
}

// longestFirst sorts pairs so that no word eats the start of another.
func longestFirst(pairs []string) []string {
	type pair struct{ k, v string }
	var list []pair
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, pair{pairs[i], pairs[i+1]})
	}
	sort.Slice(list, func(i, j int) bool { return len(list[i].k) > len(list[j].k) })
	var out []string
	for _, p := range list {
		out = append(out, p.k, p.v)
	}
	return out
}
