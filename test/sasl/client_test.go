package sasl

import (
	"bufio"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/test/world"
)

const password = "s3cret:pw"

// clientCases are servers and settings of one delivery each. replies answer
// the lines of the AUTH dialogue; after them it is 535.
var clientCases = []struct {
	name    string
	offer   string // EHLO lines, separated by "|"
	opts    string // of the transport
	replies []string
}{
	{"all", "AUTH LOGIN PLAIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-512 XOAUTH2 GSSAPI EXTERNAL ANONYMOUS", "", nil},
	{"no-sha2", "AUTH PLAIN LOGIN SCRAM-SHA-1 CRAM-MD5 DIGEST-MD5", "", nil},
	{"sha256-1", "AUTH SCRAM-SHA-1 SCRAM-SHA-256", "", nil},
	{"md5", "AUTH PLAIN CRAM-MD5 LOGIN DIGEST-MD5", "", nil},
	{"md5-2", "AUTH DIGEST-MD5 CRAM-MD5", "", nil},
	{"cram", "AUTH PLAIN LOGIN CRAM-MD5", "", nil},
	{"clear", "AUTH LOGIN PLAIN", "", nil},
	{"clear-2", "AUTH LOGIN PLAIN ANONYMOUS", "-o smtp_sasl_security_options=", nil},
	{"anon", "AUTH ANONYMOUS LOGIN", "-o smtp_sasl_security_options=", nil},
	{"login", "AUTH LOGIN", "", []string{"334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0 ok"}},
	{"plain", "AUTH=PLAIN|AUTH PLAIN", "", []string{"235 ok"}},
	{"plain-334", "AUTH PLAIN", "", []string{"334 ", "235 ok"}},
	{"noplain", "AUTH LOGIN PLAIN", "-o smtp_sasl_security_options=noplaintext", nil},
	{"mutual", "AUTH PLAIN CRAM-MD5 DIGEST-MD5", "-o smtp_sasl_security_options=mutual_auth", nil},
	{"noactive", "AUTH PLAIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1", "-o smtp_sasl_security_options=noactive", nil},
	{"nodict", "AUTH PLAIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1", "-o smtp_sasl_security_options=nodictionary", nil},
	{"none", "AUTH", "", nil},
	{"nothing", "SIZE 1000000", "", nil},
	{"filtered", "AUTH PLAIN LOGIN", "-o smtp_sasl_mechanism_filter=cram-md5", nil},
	{"filter", "AUTH CRAM-MD5 PLAIN LOGIN", "-o smtp_sasl_mechanism_filter=!cram-md5,login", nil},
	{"two-lists", "AUTH PLAIN|AUTH CRAM-MD5", "", nil},
	{"unknown", "AUTH NONESUCH OTHER", "", nil},
	{"hard", "AUTH PLAIN", "-o smtp_sasl_auth_soft_bounce=no", []string{"535 5.7.8 no such luck"}},
	{"soft", "AUTH PLAIN", "", []string{"535-5.7.8 no|535 5.7.8 such luck"}},
	{"temp", "AUTH PLAIN", "", []string{"454 4.7.0 later"}},
	{"nodsn", "AUTH PLAIN", "", []string{"535 nope"}},
	{"close", "AUTH PLAIN", "", []string{"close"}},
	{"badb64", "AUTH CRAM-MD5", "", []string{"334 !!!!", "501 x"}},
	{"badb64-2", "AUTH CRAM-MD5", "", []string{"334 !!", "501 x"}},
	{"cram-empty", "AUTH CRAM-MD5", "", []string{"334 ", "501 x"}},
	{"cram-twice", "AUTH CRAM-MD5", "", []string{"334 PHg+", "334 PHg+", "501 x"}},
	{"digest-bad", "AUTH DIGEST-MD5", "", []string{"334 eA==", "501 x"}},
	{"digest-liar", "AUTH DIGEST-MD5", "", []string{"334 " + b64(`nonce="abc",realm="r.example",qop="auth",charset=utf-8,algorithm=md5-sess`), "334 " + b64("rspauth=0123456789abcdef0123456789abcdef"), "501 x"}},
	{"digest-noalgo", "AUTH DIGEST-MD5", "", []string{"334 " + b64(`nonce="abc",realm="r.example",qop="auth"`), "501 x"}},
	{"scram-bad", "AUTH SCRAM-SHA-1", "", []string{"334 eA==", "501 x"}},
	{"scram-liar", "AUTH SCRAM-SHA-1", "", []string{"334 " + b64("r=evil,s=QSXCR+Q6sek8bf92,i=4096"), "501 x"}},
	{"plain-more", "AUTH PLAIN", "", []string{"334 eA==", "501 x"}},
	{"login-more", "AUTH LOGIN", "", []string{"334 eA==", "334 eA==", "334 eA==", "501 x"}},
	{"authzid", "AUTH PLAIN", "-o send_cyrus_sasl_authzid=yes", nil},
	{"long", "AUTH PLAIN", "-o smtp_sasl_password_maps=inline:{127.0.0.1={u:" + strings.Repeat("p", 400) + "}}", []string{"334 ", "235 ok"}},
	{"long-2", "AUTH PLAIN", "-o smtp_sasl_password_maps=inline:{127.0.0.1={u:" + strings.Repeat("p", 400) + "}}", []string{"334 eA==", "501 x"}},
	{"nocolon", "AUTH PLAIN", "-o smtp_sasl_password_maps=inline:{127.0.0.1=user}", nil},
	{"emptyuser", "AUTH PLAIN", "-o smtp_sasl_password_maps=inline:{{127.0.0.1=:pw}}", nil},
	{"notfound", "AUTH PLAIN", "-o smtp_sasl_password_maps=inline:{other=user}", nil},
	{"maperror", "AUTH PLAIN", "-o smtp_sasl_password_maps=fail:x", nil},
	{"verbose", "AUTH PLAIN LOGIN", "-v -o smtp_sasl_mechanism_filter=login", []string{"334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "500 5.5.1 protocol trouble"}},
	{"sender", "AUTH PLAIN", "-o smtp_sender_dependent_authentication=yes -o smtp_sasl_password_maps=inline:{{root@mail.example.com=bysender:x}}", nil},
	{"senderdomain", "AUTH PLAIN", "-o smtp_sender_dependent_authentication=yes -o smtp_sasl_password_maps=inline:{{@mail.example.com=bydomain:x}}", nil},
	{"cached", "AUTH PLAIN", "-o smtp_sasl_auth_cache_name=proxy:btree:/var/lib/postfix/authcache -o smtp_sasl_auth_soft_bounce=no", nil},
	{"badoption", "AUTH PLAIN", "-o smtp_sasl_security_options=bogus", nil},
}

// peer is a scripted SMTP server.
type peer struct {
	mu  sync.Mutex
	got []string
}

func (p *peer) note(s string) { p.mu.Lock(); p.got = append(p.got, s); p.mu.Unlock() }

func (p *peer) serve(l net.Listener, offer string, replies []string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		p.session(c, offer, replies)
		c.Close()
	}
}

func (p *peer) session(c net.Conn, offer string, replies []string) {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	say := func(s string) { fmt.Fprint(c, strings.ReplaceAll(s, "|", "\r\n")+"\r\n") }
	say("220 peer ESMTP")
	in := bufio.NewScanner(c)
	in.Buffer(nil, 1<<20)
	dialogue, data := false, false
	for in.Scan() {
		line := in.Text()
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		if data {
			if data = line != "."; !data {
				say("250 2.0.0 taken")
			}
			continue
		}
		if dialogue || verb == "AUTH" {
			p.note(line)
			reply := "535 5.7.8 no"
			if len(replies) > 0 {
				reply, replies = replies[0], replies[1:]
			}
			if reply == "close" {
				return
			}
			say(reply)
			dialogue = strings.HasPrefix(reply, "334")
			continue
		}
		switch verb {
		case "EHLO":
			say("250-peer|250-" + strings.ReplaceAll(offer, "|", "|250-") + "|250 8BITMIME")
		case "DATA":
			data = true
			say("354 go")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

var (
	delivered = regexp.MustCompile(`to=<u@([a-z0-9-]+)\.c\.example>.*(dsn=.*)`)
	ports     = regexp.MustCompile(`(127\.0\.0\.1\]?):\d+`)
	initial   = regexp.MustCompile(`non-empty initial .*`) // Debian's shows the password
	longText  = regexp.MustCompile(`[A-Za-z0-9+/]{55,}=*|am8g[A-Za-z0-9+/=]{20,}`)
)

func TestClient(t *testing.T) {
	t.Parallel()
	var out [2]string
	var secret string
	var wg sync.WaitGroup
	for i, swap := range [][]string{nil, {"smtp"}} {
		w := world.Test(t, world.Options{Suite: world.Debian, Swap: swap, Main: []string{"smtp_sasl_auth_enable = yes", "smtp_sasl_security_options = noanonymous", "proxy_write_maps = proxy:btree:/var/lib/postfix/authcache",
			"notify_classes = protocol,resource,software",
			"smtp_sasl_password_maps = inline:{{127.0.0.1=jo:" + password + "}}", "transport_maps = regexp:/etc/postfix/transport"}})
		var rows, routes strings.Builder
		peers := make([]*peer, len(clientCases))
		for n, c := range clientCases {
			l, err := w.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			peers[n] = &peer{}
			go peers[n].serve(l, c.offer, c.replies)
			fmt.Fprintf(&rows, "t-%s unix - - n - - smtp %s -o syslog_name=c-%s\n", c.name, c.opts, c.name)
			fmt.Fprintf(&routes, "/@%s\\.c\\.example$/ t-%s:[%s]\n", c.name, c.name, strings.ReplaceAll(l.Addr().String(), ":", "]:"))
		}
		r := w.Sh(`printf '%s' "$1" >>/etc/postfix/master.cf; printf '%s' "$2" | sed 's/\]$//' >/etc/postfix/transport`, rows.String(), routes.String())
		if r.Code != 0 {
			t.Fatal(r)
		}
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			script := ""
			for _, c := range clientCases {
				script += "echo x | sendmail u@" + c.name + ".c.example\n"
			}
			w.Sh(script)
			for range 100 {
				time.Sleep(200 * time.Millisecond)
				if len(delivered.FindAllString(w.Syslog(), -1)) >= len(clientCases)-1 {
					break
				}
			}
			w.Sh("echo x | sendmail u2@cached.c.example")
			if line, err := w.WaitLog(10*time.Second, "to=<u2@cached.c.example>"); err == nil {
				_, line, _ = strings.Cut(line, "dsn=")
				out[i] = line + w.Sh("postmap -s btree:/var/lib/postfix/authcache | sed 's/[0-9]\\{10\\}/TIME/'").Out
			}
			log := w.Syslog()
			results := map[string]string{}
			for _, m := range delivered.FindAllStringSubmatch(log, -1) {
				results[m[1]] = initial.ReplaceAllString(longText.ReplaceAllString(ports.ReplaceAllString(m[2], "$1:P"), "*"), "")
			}
			var b strings.Builder
			for n, c := range clientCases {
				fmt.Fprintf(&b, "== %s\n%s\n", c.name, results[c.name])
				peers[n].mu.Lock()
				for _, line := range peers[n].got {
					b.WriteString(longText.ReplaceAllString(line, "*") + "\n")
				}
				peers[n].mu.Unlock()
				for _, line := range strings.Split(log, "\n") {
					if i := strings.Index(line, " c-"+c.name+"/"); i >= 0 && (strings.Contains(line, "warning") || strings.Contains(line, "fatal")) && c.name != "verbose" {
						b.WriteString(logVaries.ReplaceAllString(ports.ReplaceAllString(line[i+1:], "$1:P"), "") + "\n")
					}
				}
			}
			out[i] += b.String()
			if i == 1 {
				time.Sleep(time.Second)
				secret = log + w.Sh("cat /var/mail/*").Out
			}
			if i == 0 {
				debianSecret := log + w.Sh("cat /var/mail/*").Out
				t.Log("Debian shows passwords: ", leaks(debianSecret))
			}
		}()
	}
	wg.Wait()
	compare(t, out)
	if !strings.Contains(secret, "Out: AUTH LOGIN") {
		t.Error("no transcript was made")
	}
	if l := leaks(secret); len(l) > 0 {
		t.Error("passwords shown:", l)
	}
}

// leaks are the lines that show a password.
func leaks(text string) (lines []string) {
	for _, line := range strings.Split(text, "\n") {
		for _, s := range []string{password, b64(password), b64("\x00jo\x00" + password)} {
			if strings.Contains(line, s) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}
