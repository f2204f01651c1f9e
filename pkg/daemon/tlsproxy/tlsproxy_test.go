package tlsproxy

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	protocol "posthaste/pkg/ipc/tlsproxy"
	"posthaste/pkg/sys/fdpass"
	"posthaste/pkg/sys/maillog"
	mailtls "posthaste/pkg/wire/tls"
)

// bench is a daemon with a certificate.
type bench struct {
	*daemon
	t    *testing.T
	log  *maillog.Buffer
	pem  string
	conf *conf.Config
}

func newBench(t *testing.T, settings ...string) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{t: t, pem: filepath.Join(dir, "server.pem")}
	if err := os.WriteFile(b.pem, certificate(t, "mx.good.test"), 0o600); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": b.pem, "smtpd_tls_loglevel": "1"}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, " = ")
		values[name] = value
	}
	b.conf = conf.FromMap(values)
	logger, log := maillog.Capture()
	b.log, b.daemon = log, &daemon{log: logger}
	if err := b.server.load(b.conf, logger); err != nil {
		t.Fatal(err)
	}
	if err := b.client.load(b.conf, logger); err != nil {
		t.Fatal(err)
	}
	return b
}

// unixPair is a pair of connected sockets.
func unixPair(t testing.TB, network, address string) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	a.SetDeadline(time.Now().Add(20 * time.Second))
	b.SetDeadline(time.Now().Add(20 * time.Second))
	return a, b
}

// program is who uses the daemon.
type program struct {
	t    *testing.T
	conn net.Conn
	in   *attr.Reader
	out  *attr.Writer
	done chan error
}

func (b *bench) connect() *program {
	b.t.Helper()
	client, server := unixPair(b.t, "unix", filepath.Join(b.t.TempDir(), "s"))
	p := &program{b.t, client, attr.NewReader(client, attr.Null, "tlsproxy"), attr.NewWriter(client, attr.Null), make(chan error, 1)}
	go func() {
		err := b.serve(b.t.Context(), server.(stream), func() {})
		server.Close()
		p.done <- err
	}()
	if err := attr.Expect(p.in, protocol.Protocol); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// start sends a request and passes the network connection.
func (p *program) start(r protocol.Request, c *protocol.Client, network net.Conn) int {
	p.t.Helper()
	r.Handshake, r.Session = 5*time.Second, 5*time.Second
	r.Write(p.out)
	if c != nil {
		c.Write(p.out)
	}
	status := -1
	if err := p.in.Scan(attr.Int("status", &status)); err != nil {
		p.t.Fatal(err)
	}
	if status == protocol.Ready {
		f, err := network.(*net.TCPConn).File()
		if err != nil {
			p.t.Fatal(err)
		}
		network.Close()
		if err := fdpass.Send(p.conn.(stream), int(f.Fd())); err != nil {
			p.t.Fatal(err)
		}
		f.Close()
	}
	return status
}

// converse sends a megabyte there and back.
func converse(t *testing.T, near, far io.ReadWriter) {
	t.Helper()
	text := strings.Repeat("posthaste\r\n", 100_000)
	for _, way := range [][2]io.ReadWriter{{near, far}, {far, near}} {
		go io.WriteString(way[0], text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(way[1], got); err != nil || string(got) != text {
			t.Fatal("data was changed on its way", err)
		}
	}
}

// Both roles at once: one tlsproxy accepts what the other one connects.
func TestBothRoles(t *testing.T) {
	b := newBench(t)
	dialed, accepted := unixPair(t, "tcp", "127.0.0.1:0")
	server, client := b.connect(), b.connect()
	if got := server.start(protocol.Request{Endpoint: "[192.0.2.1]:99", Flags: protocol.ServerRole}, nil, accepted); got != protocol.Ready {
		t.Fatal(got)
	}
	c := b.wants()
	if got := client.start(protocol.Request{Endpoint: "[192.0.2.2]:25", Flags: protocol.ClientRole | protocol.SendContext}, c, dialed); got != protocol.Ready {
		t.Fatal(got)
	}
	result, err := protocol.ReadContext(client.in)
	if err != nil || result.PeerCN != "mx.good.test" || result.Status != protocol.CertPresent|protocol.CertTrusted|protocol.CertMatched|protocol.PolicySecured || result.Protocol != "TLSv1.3" || result.NamAddr != c.NamAddr {
		t.Errorf("%+v %v", result, err)
	}
	near := struct {
		io.Reader
		io.Writer
	}{client.in.Buffered(), client.conn}
	converse(t, near, server.conn)
	client.conn.Close()
	if n, err := server.conn.Read(make([]byte, 1)); err != io.EOF {
		t.Error(n, err)
	}
	for _, p := range []*program{server, client} {
		if err := <-p.done; err != nil {
			t.Error(err)
		}
	}
	text := strings.Join(b.log.Lines(), "\n")
	for _, want := range []string{"CONNECT from [192.0.2.1]:99", "CONNECT to [192.0.2.2]:25", "DISCONNECT [192.0.2.1]:99", "DISCONNECT [192.0.2.2]:25",
		"Anonymous TLS connection established from [192.0.2.1]:99: TLSv1.3", "Verified TLS connection established to mx.good.test[192.0.2.2]:25: TLSv1.3"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// wants is a client that trusts the bench's certificate.
func (b *bench) wants() *protocol.Client {
	c := &protocol.Client{Parameters: map[string]string{}, LogParam: "smtp_tls_loglevel", LogLevel: "1", Depth: 9, CAFile: b.pem, Digest: "sha256",
		Level: mailtls.LevelSecure, NamAddr: "mx.good.test[192.0.2.2]:25", Protocols: ">=TLSv1", Grade: "medium", Match: []string{"mx.good.test"}}
	for name, value := range b.client.parameters {
		c.Parameters[name] = value
	}
	return c
}

// The wrong name, trust by TLSA record, and by digest.
func TestJudgements(t *testing.T) {
	b := newBench(t)
	cert, err := tls.LoadX509KeyPair(b.pem, b.pem)
	if err != nil {
		t.Fatal(err)
	}
	sha256, _ := mailtls.ParseDigest("sha256")
	secured := protocol.CertPresent | protocol.CertTrusted | protocol.CertMatched | protocol.PolicySecured
	for _, c := range []struct {
		name   string
		change func(*protocol.Client)
		status int
	}{
		{"name", func(c *protocol.Client) { c.Match = []string{"other.test"} }, protocol.CertPresent},
		{"no anchor", func(c *protocol.Client) { c.CAFile = "" }, protocol.CertPresent},
		{"encrypt", func(c *protocol.Client) { c.Level, c.CAFile = mailtls.LevelEncrypt, "" }, protocol.CertPresent},
		{"dane-ee", func(c *protocol.Client) {
			c.Level, c.CAFile, c.HasTLSA = mailtls.LevelDane, "", true
			c.TLSA = []mailtls.TLSA{{Usage: 3, Selector: 0, MatchType: 1, Data: sha256.Sum(cert.Leaf.Raw)}}
		}, secured},
		{"dane-ta", func(c *protocol.Client) {
			c.Level, c.CAFile, c.HasTLSA = mailtls.LevelDaneOnly, "", true
			c.TLSA = []mailtls.TLSA{{Usage: 2, Selector: 1, MatchType: 1, Data: sha256.Sum(cert.Leaf.RawSubjectPublicKeyInfo)}}
		}, protocol.CertPresent}, // the server's own certificate is no anchor (RFC 7671 §5.2)
		{"dane-none", func(c *protocol.Client) {
			c.Level, c.HasTLSA = mailtls.LevelDane, true
			c.TLSA = []mailtls.TLSA{{Usage: 3, Selector: 0, MatchType: 1, Data: make([]byte, 32)}}
		}, protocol.CertPresent},
		{"fingerprint", func(c *protocol.Client) {
			c.Level, c.Match = mailtls.LevelFingerprint, []string{sha256.Cert(cert.Leaf)}
		}, secured},
		{"fingerprint by record", func(c *protocol.Client) {
			c.Level, c.Match, c.HasTLSA = mailtls.LevelFingerprint, nil, true
			c.TLSA = []mailtls.TLSA{{Usage: 3, Selector: 1, MatchType: mailtls.MatchPrivate, Data: sha256.Sum(cert.Leaf.RawSubjectPublicKeyInfo)}}
		}, secured},
		{"nexthop", func(c *protocol.Client) { c.Match, c.NextHop = []string{"hostname", "nexthop"}, "mx.good.test" }, secured},
	} {
		t.Run(c.name, func(t *testing.T) {
			dialed, accepted := unixPair(t, "tcp", "127.0.0.1:0")
			go func() {
				s := tls.Server(accepted, &tls.Config{Certificates: []tls.Certificate{cert}})
				s.Handshake()
				io.Copy(s, s)
			}()
			p, wants := b.connect(), b.wants()
			c.change(wants)
			p.start(protocol.Request{Endpoint: "[192.0.2.2]:25", Flags: protocol.ClientRole | protocol.SendContext}, wants, dialed)
			if result, err := protocol.ReadContext(p.in); err != nil || result.Status != c.status {
				t.Errorf("%+v %v", result, err)
			}
		})
	}
}

// What cannot be had is answered, and what is malformed ends the connection.
func TestUnavailable(t *testing.T) {
	b := newBench(t, "tlsproxy_tls_security_level = none")
	if got := b.connect().start(protocol.Request{Flags: protocol.ServerRole}, nil, nil); got != protocol.Unavailable {
		t.Error(got)
	}
	if got := b.connect().start(protocol.Request{Flags: 7}, nil, nil); got != protocol.Unavailable {
		t.Error(got)
	}
	c := b.wants()
	c.Parameters["tls_high_cipherlist"], c.CAFile = "X", "/nonexistent"
	if got := b.connect().start(protocol.Request{Flags: protocol.ClientRole}, c, nil); got != protocol.Unavailable {
		t.Error(got)
	}
	p := b.connect()
	io.WriteString(p.conn, "foo\x00bar\x00\x00")
	if err := <-p.done; err != nil {
		t.Error(err)
	}
	text := strings.Join(b.log.Lines(), "\n")
	for _, want := range []string{"TLS server role is disabled with tlsproxy_tls_security_level or tlsproxy_use_tls", "unexpected attribute foo from plaintext (expecting: remote_endpoint)", "tlsp_get_request_event: bad request flags: 0x7", "TLS handshake failed for service= peer=", "(server) 'tls_high_cipherlist=aNULL:-aNULL:HIGH:@STRENGTH' != (client) 'tls_high_cipherlist=X'", "cannot load Certification Authority data"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// FuzzRequest sends anything up to the passing of the socket.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("remote_endpoint\x00[::1]:1\x00flags\x001\x00timeout\x001\x00timeout\x001\x00serverid\x00smtpd\x00\x00"))
	f.Add([]byte("remote_endpoint\x00[::1]:1\x00flags\x006\x00timeout\x001\x00timeout\x001\x00serverid\x00smtp\x00\x00config_file\x00\x00\x00"))
	logger, _ := maillog.Capture()
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &daemon{log: logger}
		d.client = clientRole{log: logger, usual: &protocol.Client{}, connectors: map[string]*mailtls.Client{}, sessions: mailtls.NewSessionCache(0)}
		client, server := unixPair(t, "unix", filepath.Join(t.TempDir(), "s"))
		done := make(chan bool)
		go func() { d.serve(t.Context(), server.(stream), func() {}); server.Close(); close(done) }()
		go io.Copy(io.Discard, client)
		client.Write(data)
		client.(*net.UnixConn).CloseWrite()
		<-done
	})
}
