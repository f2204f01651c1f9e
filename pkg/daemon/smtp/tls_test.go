package smtp

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/deliver"
)

// tlsServer is a server that takes STARTTLS; with broken set it hangs up then.
func tlsServer(t *testing.T, broken bool) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				talkTLS(c, cfg, broken)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func talkTLS(c net.Conn, cfg *tls.Config, broken bool) {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, "220 x ESMTP\r\n")
	in := bufio.NewReader(c)
	secure, data := false, false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(strings.TrimSpace(line)); {
		case data && verb == ".":
			data = false
			fmt.Fprintf(c, "250 2.0.0 secure=%v\r\n", secure)
		case data:
		case verb == "STARTTLS":
			fmt.Fprint(c, "220 go\r\n")
			if broken {
				return
			}
			s := tls.Server(c, cfg)
			c, in, secure = s, bufio.NewReader(s), true
		case strings.HasPrefix(verb, "EHLO") && !secure:
			fmt.Fprint(c, "250-x\r\n250 STARTTLS\r\n")
		case verb == "DATA":
			data = true
			fmt.Fprint(c, "354 go\r\n")
		default:
			fmt.Fprint(c, "250 ok\r\n")
		}
	}
}

func TestTLS(t *testing.T) {
	for _, c := range []struct {
		name   string
		broken bool
		level  string
		age    time.Duration
		want   string
	}{
		{"may", false, "may", 0, "status=sent (250 2.0.0 secure=true)"},
		{"encrypt", false, "encrypt", 0, "status=sent (250 2.0.0 secure=true)"},
		{"none", false, "none", 0, "status=sent (250 2.0.0 secure=false)"},
		{"broken, fresh", true, "may", 0, "dsn=4.7.5, status=deferred (Cannot start TLS: handshake failure)"},
		{"broken, old", true, "may", time.Hour, "status=sent (250 2.0.0 secure=false)"},
		{"broken, encrypt", true, "encrypt", time.Hour, "dsn=4.7.5, status=deferred (Cannot start TLS: handshake failure)"},
		{"verify", false, "verify", 0, "dsn=4.7.5, status=deferred (Server certificate not verified)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOurs(t, false, map[string]string{"smtp_tls_security_level": c.level, "smtp_tls_loglevel": "1"})
			now := time.Now()
			req := &deliver.Request{Flags: 3, Queue: "active", ID: "ABC1", NextHop: "[127.0.0.1]:" + tlsServer(t, c.broken), Sender: "s@x",
				Recipients: []deliver.Recipient{{Address: "a@x"}}, Stats: deliver.Stats{Incoming: now.Add(-c.age), Active: now}}
			o.message(req, "Subject: x\n\nhi\n")
			o.deliver(req)
			log := strings.Join(o.lines.Lines(), "\n")
			if !strings.Contains(log, c.want) {
				t.Errorf("got\n%s\nwant %s", log, c.want)
			}
		})
	}
}

// Many deliveries at a time share the process and its cache.
func TestConcurrent(t *testing.T) {
	o := newOurs(t, false, nil)
	f := newFakeServer(t, "tcp", pipe)
	const n = 100
	done := make(chan deliver.Reply)
	for i := range n {
		req := &deliver.Request{Flags: 3 | deliver.ConnLoad | deliver.ConnStore, Queue: "active", ID: fmt.Sprintf("ABC%03X", i), NextHop: "[127.0.0.1]:" + f.port(), Sender: "s@x",
			Recipients: []deliver.Recipient{{Address: "a@x"}}}
		o.message(req, "Subject: x\n\nhi\n")
		go func() { done <- o.deliver(req) }()
	}
	for range n {
		if r := <-done; r.Status != deliver.Done {
			t.Errorf("%+v", r)
		}
	}
	o.d.cache.mu.Lock()
	defer o.d.cache.mu.Unlock()
	if o.d.cache.count > n || o.d.cache.count == 0 {
		t.Errorf("%d sessions cached", o.d.cache.count)
	}
}

// BenchmarkDeliver is one small message over a cached session, without the
// queue manager.
func BenchmarkDeliver(b *testing.B) {
	o := newOurs(b, false, nil)
	f := newFakeServer(b, "tcp", pipe)
	req := &deliver.Request{Flags: 3 | deliver.ConnLoad | deliver.ConnStore, Queue: "active", ID: "ABC123", NextHop: "[127.0.0.1]:" + f.port(), Sender: "s@x",
		Recipients: []deliver.Recipient{{Address: "a@x"}}}
	o.message(req, "Subject: x\n\n"+strings.Repeat("this is a line of the body\n", 100))
	b.ReportAllocs()
	for b.Loop() {
		if r := o.deliver(req); r.Status != deliver.Done {
			b.Fatalf("%+v", r)
		}
	}
}
