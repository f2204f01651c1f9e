// Package tlspeer has what tests of TLS clients need on the other side: a small
// world of certificates, mail servers that show them, and a name server that
// seems to validate.
package tlspeer

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// PKI is a small world of certificates, by name; its files lie in one
// directory.
type PKI struct {
	Keys  map[string]tls.Certificate
	Leafs map[string]*x509.Certificate
	Mask  map[string]string // what differs from run to run, and its name
}

// certKind says how a certificate differs from a plain good one.
type certKind struct {
	name, issuer string // without issuer: self-signed
	cn           string
	san          []string
	from, until  time.Duration
	ca           bool
	usage        x509.ExtKeyUsage
	bare         bool // sent without the rest of its chain
}

var certKinds = []certKind{
	{name: "root", ca: true},
	{name: "inter", issuer: "root", ca: true},
	{name: "inter2", issuer: "inter", ca: true},
	{name: "deep", issuer: "inter2", san: []string{"mx.good.test"}},
	{name: "oldother", issuer: "inter", san: []string{"other.test"}, until: -time.Hour},
	{name: "oldinter", issuer: "root", ca: true, until: -time.Hour},
	{name: "other", ca: true},
	{name: "foreignother", issuer: "other", san: []string{"other.test"}},
	{name: "good", issuer: "inter", san: []string{"mx.good.test", "*.wild.test"}},
	{name: "nochain", issuer: "inter", san: []string{"mx.good.test"}, bare: true},
	{name: "cnonly", issuer: "inter", cn: "mx.good.test"},
	{name: "cnsan", issuer: "inter", cn: "mx.good.test", san: []string{"other.test"}},
	{name: "domain", issuer: "inter", san: []string{"good.test"}},
	{name: "self", san: []string{"mx.good.test"}},
	{name: "foreign", issuer: "other", san: []string{"mx.good.test"}},
	{name: "expired", issuer: "inter", san: []string{"mx.good.test"}, until: -time.Hour},
	{name: "future", issuer: "inter", san: []string{"mx.good.test"}, from: time.Hour},
	{name: "belowold", issuer: "oldinter", san: []string{"mx.good.test"}},
	{name: "client", issuer: "root", cn: "client.test", usage: x509.ExtKeyUsageClientAuth},
	{name: "partial", issuer: "inter", san: []string{"f*.good.test", "*"}},
	{name: "oldbare", issuer: "inter", san: []string{"mx.good.test"}, until: -time.Hour, bare: true},
}

// NewPKI makes the certificates; the files of certificate x are x.pem, x.key,
// x.pub, x.chain (with its issuers and the key) and x.full (the key first).
func NewPKI(t testing.TB, dir string) *PKI {
	t.Helper()
	p := &PKI{Keys: map[string]tls.Certificate{}, Leafs: map[string]*x509.Certificate{}, Mask: map[string]string{dir: "DIR"}}
	for i, k := range certKinds {
		if err := p.make(k, i); err != nil {
			t.Fatal(err)
		}
		cert := p.Keys[k.name]
		var chain []byte
		for _, der := range cert.Certificate {
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		leaf := p.Leafs[k.name]
		pub := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: leaf.RawSubjectPublicKeyInfo})
		one := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
		for suffix, data := range map[string][]byte{".pem": one, ".chain": append(chain, key...), ".full": append(key, chain...), ".key": key, ".pub": pub} {
			if err := os.WriteFile(filepath.Join(dir, k.name+suffix), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		c256, k256, c1 := sha256.Sum256(leaf.Raw), sha256.Sum256(leaf.RawSubjectPublicKeyInfo), sha1.Sum(leaf.Raw)
		p.Mask[hexPairs(c256[:])], p.Mask[hexPairs(k256[:])], p.Mask[hexPairs(c1[:])] = "CERT:"+k.name, "KEY:"+k.name, "SHA1:"+k.name
		c512, k512 := sha512.Sum512(leaf.Raw), sha512.Sum512(leaf.RawSubjectPublicKeyInfo)
		for name, sum := range map[string][]byte{"C256": c256[:], "K256": k256[:], "C512": c512[:], "K512": k512[:]} {
			p.Mask[fmt.Sprintf("%X", sum)] = name + ":" + k.name
		}
	}
	return p
}

func hexPairs(b []byte) string { return strings.ReplaceAll(fmt.Sprintf("% X", b), " ", ":") }

func (p *PKI) make(k certKind, n int) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(n + 1)), NotBefore: now.Add(k.from - 2*time.Hour), NotAfter: now.Add(24 * time.Hour),
		Subject: pkix.Name{CommonName: k.cn, Organization: []string{k.name}}, DNSNames: k.san, KeyUsage: x509.KeyUsageDigitalSignature}
	if k.from != 0 {
		tmpl.NotBefore = now.Add(k.from)
	}
	if k.until != 0 {
		tmpl.NotAfter = now.Add(k.until)
	}
	switch {
	case k.ca:
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
		tmpl.Subject.CommonName = "CA " + k.name
	case k.usage != 0:
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{k.usage}
	}
	parent, signer := tmpl, crypto.Signer(key)
	var rest [][]byte
	if k.issuer != "" {
		parent, signer = p.Leafs[k.issuer], p.Keys[k.issuer].PrivateKey.(crypto.Signer)
		rest = p.Keys[k.issuer].Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	if k.bare {
		rest = nil
	}
	p.Keys[k.name] = tls.Certificate{Certificate: append([][]byte{der}, rest...), PrivateKey: key}
	p.Leafs[k.name], err = x509.ParseCertificate(der)
	return err
}

// Peer is a server that speaks TLS as its script says.
type Peer struct {
	l   net.Listener
	cfg *tls.Config
	how map[string]bool
	mu  sync.Mutex
	got [][]string // what each connection brought
	wg  sync.WaitGroup
}

// New serves on l. how holds words: a certificate's name, and
//
//	nooffer   STARTTLS is not announced
//	refuse    STARTTLS is answered with 454
//	hangup    the connection is closed after the reply to STARTTLS
//	noise     something that is not TLS follows the reply to STARTTLS
//	late      the connection is closed after the handshake, at EHLO
//	latemail  the connection is closed under TLS at MAIL
//	wrapper   TLS from the start
//	ask       the client is asked for a certificate
//	askca     the same, and a CA is named that is not the client's
//	tls12     nothing newer than TLS 1.2
//	onlyold   nothing newer than TLS 1.0
//	early     a reply to MAIL is sent before MAIL is
//	busy      the banner is 421
//	closed    the connection is closed at once
//	mute      nothing is ever said
//	noehlo    EHLO and LHLO are refused
//	notickets no TLS sessions to resume
//	names     each connection is with another server, by its reply to EHLO
//	unix      (of the case) the server listens on a socket
func New(l net.Listener, p *PKI, how string) *Peer {
	s := &Peer{l: l, how: map[string]bool{}, cfg: &tls.Config{MaxVersion: tls.VersionTLS13, MinVersion: tls.VersionTLS10}}
	for _, w := range strings.Fields(how) {
		s.how[w] = true
		if cert, ok := p.Keys[w]; ok {
			s.cfg.Certificates = []tls.Certificate{cert}
		}
	}
	if s.how["ask"] {
		s.cfg.ClientAuth = tls.RequestClientCert
	}
	if s.how["askca"] {
		s.cfg.ClientAuth, s.cfg.ClientCAs = tls.RequestClientCert, x509.NewCertPool()
		s.cfg.ClientCAs.AddCert(p.Leafs["other"])
	}
	if s.how["tls12"] {
		s.cfg.MaxVersion = tls.VersionTLS12
	}
	s.cfg.SessionTicketsDisabled = s.how["notickets"]
	if s.how["onlyold"] {
		s.cfg.MaxVersion = tls.VersionTLS10
	}
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Add(1)
			s.mu.Lock()
			s.got = append(s.got, []string{"-- connection"})
			s.mu.Unlock()
			go func() {
				defer s.wg.Done()
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				name := "peer.test"
				if s.how["names"] {
					name = fmt.Sprintf("peer%d.test", n)
				}
				s.talk(c, name, func(format string, a ...any) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.got[n] = append(s.got[n], fmt.Sprintf(format, a...))
				})
			}()
		}
	}()
	return s
}

// note writes down what a connection brought.
type note func(format string, a ...any)

func (s *Peer) handshake(c net.Conn, say note) (net.Conn, bool) {
	t := tls.Server(c, s.cfg)
	if err := t.Handshake(); err != nil {
		say("handshake failed")
		return nil, false
	}
	st := t.ConnectionState()
	client := "none"
	if len(st.PeerCertificates) > 0 {
		client = fmt.Sprintf("%s of %d", st.PeerCertificates[0].Subject.CommonName, len(st.PeerCertificates))
	}
	say("TLS sni=%q resumed=%v client=%s", st.ServerName, st.DidResume, client)
	return t, true
}

func (s *Peer) talk(c net.Conn, name string, say note) {
	secure, data := false, false
	if s.how["closed"] {
		return
	}
	if s.how["mute"] {
		c.Read(make([]byte, 1))
		return
	}
	if s.how["wrapper"] {
		t, ok := s.handshake(c, say)
		if !ok {
			return
		}
		c, secure = t, true
	}
	if s.how["busy"] {
		fmt.Fprint(c, "421 4.3.2 peer.test is busy\r\n")
		c.Read(make([]byte, 100))
		return
	}
	fmt.Fprint(c, "220 peer.test ESMTP\r\n")
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		if !data {
			say("C: %s", line)
		}
		switch {
		case data && line == ".":
			data = false
			fmt.Fprintf(c, "250 2.0.0 secure=%v\r\n", secure)
		case data:
		case verb == "STARTTLS" && s.how["refuse"]:
			fmt.Fprint(c, "454 4.7.0 TLS not available\r\n")
		case verb == "STARTTLS":
			fmt.Fprint(c, "220 2.0.0 go\r\n")
			if s.how["hangup"] {
				c.Read(make([]byte, 10000)) // otherwise the connection would be reset
				return
			}
			if s.how["noise"] {
				time.Sleep(200 * time.Millisecond)
				fmt.Fprint(c, "this is not TLS at all, but it is long enough\r\n")
				c.Read(make([]byte, 10000))
				return
			}
			t, ok := s.handshake(c, say)
			if !ok {
				return
			}
			c, in, secure = t, bufio.NewReader(t), true
			if s.how["speak"] {
				fmt.Fprint(c, "250 peer.test\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n")
				time.Sleep(50 * time.Millisecond)
			}
			if s.how["speak1"] {
				fmt.Fprint(c, "250 peer.test\r\n")
				time.Sleep(50 * time.Millisecond)
			}
		case s.how["noehlo"] && (verb == "EHLO" || verb == "LHLO"):
			fmt.Fprint(c, "502 5.5.2 what\r\n")
		case verb == "EHLO" || verb == "LHLO":
			if secure && s.how["late"] {
				return
			}
			if secure && s.how["early"] {
				if s.how["pipe"] {
					fmt.Fprint(c, "250-peer.test\r\n250 PIPELINING\r\n250 2.1.0 early\r\n")
					continue
				}
				fmt.Fprint(c, "250 peer.test\r\n")
				fmt.Fprint(c, "250 2.1.0 early\r\n")
				continue
			}
			offer := "250-" + name + "\r\n"
			if !secure && !s.how["nooffer"] || s.how["wrapper"] {
				offer += "250-STARTTLS\r\n"
			}
			fmt.Fprint(c, offer+"250 8BITMIME\r\n")
		case verb == "MAIL" && secure && s.how["latemail"]:
			return
		case verb == "DATA":
			data = true
			fmt.Fprint(c, "354 go\r\n")
		case verb == "QUIT":
			fmt.Fprint(c, "221 2.0.0 bye\r\n")
			return
		default:
			fmt.Fprint(c, "250 2.0.0 ok\r\n")
		}
	}
}

// Lines is what the peer heard. idle says that a connection may stay open.
func (s *Peer) Lines(idle bool) []string {
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	wait := 3 * time.Second
	if idle {
		wait = 300 * time.Millisecond
	}
	select {
	case <-done:
	case <-time.After(wait):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.got...)
}
