package mailtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseProtocols(t *testing.T) {
	const t10, t11, t12, t13 = tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13
	for _, c := range []struct {
		list string
		want Protocols
		low  uint16
		high uint16
	}{
		{"", Protocols{t10, t11, t12, t13}, t10, t13},
		{">=TLSv1", Protocols{t10, t11, t12, t13}, t10, t13},
		{">=TLSv1.2", Protocols{t12, t13}, t12, t13},
		{">=tlsv1.2, <=TLSv1.2", Protocols{t12}, t12, t12},
		{">=0x0303", Protocols{t12, t13}, t12, t13},
		{"<=0303", nil, 0, 0},
		{">=None:<=None", Protocols{t10, t11, t12, t13}, t10, t13},
		{"!SSLv2, !SSLv3", Protocols{t10, t11, t12, t13}, t10, t13},
		{"!TLSv1 !TLSv1.1", Protocols{t12, t13}, t12, t13},
		{"TLSv1.2:TLSv1.3", Protocols{t12, t13}, t12, t13},
		{"TLSv1.2 !TLSv1.2", Protocols{}, 0, 0},
		{"!TLSv1.2", Protocols{t10, t11, t13}, t13, t13},
		{"!TLSv1.3,!TLSv1.1", Protocols{t10, t12}, t12, t12},
		{"<=SSLv3", Protocols{}, 0, 0},
		{">=SSLv2", nil, 0, 0},
		{">=TLSv1, bogus", nil, 0, 0},
		{"!", nil, 0, 0},
		{">=", nil, 0, 0},
	} {
		got, err := ParseProtocols(c.list)
		if c.want == nil {
			if want := fmt.Sprintf("Invalid TLS protocol list \"%s\"", c.list); err == nil || err.Error() != want {
				t.Errorf("%q: %v, %v", c.list, got, err)
			}
			continue
		}
		low, high, ok := got.Range()
		if err != nil || !slices.Equal(got, c.want) || low != c.low || high != c.high || ok != (len(c.want) > 0) {
			t.Errorf("%q: %x %x-%x %v", c.list, got, low, high, err)
		}
	}
	p := Protocols{t10, t12}
	if p.Choose([]uint16{t13, t12, t11}) != t12 || p.Choose([]uint16{t13, t11}) != 0 {
		t.Error("Choose")
	}
}

func TestLevels(t *testing.T) {
	order := []string{"none", "may", "encrypt", "fingerprint", "dane", "dane-only", "verify", "secure"}
	last := LevelInvalid
	for _, name := range order {
		l, err := ParseLevel(strings.ToUpper(name))
		if err != nil || l <= last || l.String() != name || l.Mandatory() != (l > LevelMay) || l.MustMatch() != (l > LevelEncrypt) {
			t.Error(name, l, err)
		}
		last = l
	}
	for _, bad := range []string{"half-dane", "", "x"} {
		if _, err := ParseLevel(bad); err == nil || err.Error() != fmt.Sprintf("Invalid TLS level \"%s\"", bad) {
			t.Error(bad, err)
		}
	}
}

func TestParseLogLevel(t *testing.T) {
	for text, want := range map[string]LogMask{"0": 0, "": 0, ",": 0, "none": 0, "1": LogSummary, "routine": LogSummary,
		"summary, untrusted": LogSummary | LogUntrusted, "2": logDebug, "Debug": logDebug, "3": logExpert, "ssl-developer": logDeveloper, "1 peercert": LogSummary | LogPeerCert} {
		if got, err := ParseLogLevel("smtpd_tls_loglevel", text); got != want || err != nil {
			t.Errorf("%q: %b %v", text, got, err)
		}
	}
	if _, err := ParseLogLevel("p", "1 x"); err == nil {
		t.Error("accepted")
	}
	if logDebug.Has(LogUntrusted) {
		t.Error("level 2 tells of untrusted peers; the original's does not")
	}
}

func names(ids []uint16) string {
	var out []string
	for _, id := range ids {
		out = append(out, CipherName(id))
	}
	return strings.Join(out, " ")
}

func TestCiphers(t *testing.T) {
	g := Grades{High: "aNULL:-aNULL:HIGH:@STRENGTH", Medium: "aNULL:-aNULL:HIGH:MEDIUM:+RC4:@STRENGTH", Null: "eNULL:!aNULL"}
	for _, c := range []struct {
		grade   string
		exclude []string
		want    string
		list    string
	}{
		{"medium", []string{"AES128 SHA1,SHA256", "kRSA"}, "ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-RSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-CHACHA20-POLY1305",
			"aNULL:-aNULL:HIGH:MEDIUM:+RC4:@STRENGTH:!AES128:!SHA1:!SHA256:!kRSA"},
		{"HIGH", []string{"aECDSA", "kECDHE", "AES128"}, "AES256-GCM-SHA384 AES256-SHA", "aNULL:-aNULL:HIGH:@STRENGTH:!aECDSA:!kECDHE:!AES128"},
		{"null", nil, "", "eNULL:!aNULL"},
		{"high", []string{"AESGCM:CHACHA20", "RSA", "SHA256+AES", "ECDHE-RSA-AES256-SHA", "aECDSA"}, "ECDHE-RSA-AES128-SHA", "aNULL:-aNULL:HIGH:@STRENGTH:!AESGCM:!CHACHA20:!RSA:!SHA256+AES:!ECDHE-RSA-AES256-SHA:!aECDSA"},
	} {
		list, err := g.List(c.grade, c.exclude...)
		if err != nil || list != c.list || names(Suites(list)) != c.want {
			t.Errorf("%v: %v\n%s\n%s", c.grade, err, list, names(Suites(list)))
		}
	}
	for _, c := range []struct{ list, want string }{
		{"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384"},
		{"kRSA+AESGCM:-AES128:AES128-GCM-SHA256", "AES256-GCM-SHA384 AES128-GCM-SHA256"},
		{"kRSA+AESGCM:!AES128:AES128-GCM-SHA256", "AES256-GCM-SHA384"},
		{"kRSA+AESGCM:+AES256", "AES128-GCM-SHA256 AES256-GCM-SHA384"},
		{"RC4:3DES:bogus", ""},
	} {
		if got := names(Suites(c.list)); got != c.want {
			t.Errorf("%s: %s", c.list, got)
		}
	}
	if Suites("") == nil {
		t.Error("nil means the default")
	}
	for _, c := range []struct{ grade, exclude, want string }{
		{"bogus", "", "invalid cipher grade: \"bogus\""},
		{"high", "!RC4", "invalid unary '!+-@' in cipher exclusion: !RC4"},
	} {
		if _, err := g.List(c.grade, c.exclude); err == nil || err.Error() != c.want {
			t.Error(err)
		}
	}
	for _, s := range tls.CipherSuites() { // each has a name of OpenSSL's
		if name, bits, _ := suiteInfo(s.ID); bits == 0 {
			t.Error("unknown suite", name)
		}
	}
	if got := Curves("X25519 X448 prime256v1, secp521r1:secp384r1"); !reflect.DeepEqual(got, []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP521, tls.CurveP384}) {
		t.Error(got)
	}
}

// authority makes certificates for tests.
type authority struct {
	t    testing.TB
	key  crypto.Signer
	cert *x509.Certificate
}

var serial int64

func (a *authority) issue(key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	serial++
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(3e9, 0), Subject: pkix.Name{CommonName: "leaf.example"}}
	change(c)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func newKey(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) child(name string, change func(*x509.Certificate)) *authority {
	key := newKey(a.t)
	return &authority{a.t, key, a.issue(key, func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.BasicConstraintsValid, c.KeyUsage = pkix.Name{CommonName: name}, true, true, x509.KeyUsageCertSign
		if change != nil {
			change(c)
		}
	})}
}

func TestVerify(t *testing.T) {
	now := time.Unix(2e9, 0)
	nobody := &authority{t: t}
	root, other := nobody.child("Root", nil), nobody.child("Other", nil)
	middle := root.child("Middle", nil)
	low := middle.child("Low", nil)
	oldCA := root.child("Old CA", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })
	key := newKey(t)
	usual := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	leaf := middle.issue(key, usual)
	self := nobody.issue(key, usual)
	v := &Verifier{Roots: NewRoots(root.cert), Depth: 9, Usage: x509.ExtKeyUsageClientAuth}
	const p = "certificate verification failed for p[1]: "
	for name, c := range map[string]struct {
		v     *Verifier
		chain []*x509.Certificate
		want  string
		trace string
	}{
		"trusted":         {v, []*x509.Certificate{leaf, middle.cert}, "", "2/1 1/1 0/1"},
		"with root":       {v, []*x509.Certificate{leaf, root.cert, middle.cert}, "", "2/1 1/1 0/1"},
		"no intermediate": {v, []*x509.Certificate{leaf}, p + "untrusted issuer /CN=Middle", "0/0 0/0 0/1"},
		"self":            {v, []*x509.Certificate{self}, p + "self-signed certificate", "0/0 0/1"},
		"self, known":     {&Verifier{Roots: NewRoots(self), Usage: v.Usage}, []*x509.Certificate{self}, "", "0/1"},
		"unknown root":    {v, []*x509.Certificate{other.issue(key, usual), other.cert}, p + "untrusted issuer /CN=Other", "1/0 1/1 0/1"},
		"no roots":        {&Verifier{Usage: v.Usage}, []*x509.Certificate{leaf, middle.cert}, p + "untrusted issuer /CN=Root", "1/0 0/1"},
		"expired":         {v, []*x509.Certificate{root.issue(key, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) })}, "client " + p + "certificate has expired", "1/1 0/0 0/1"},
		"not yet":         {v, []*x509.Certificate{root.issue(key, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) })}, "client " + p + "certificate not yet valid", "1/1 0/0 0/1"},
		"expired CA":      {v, []*x509.Certificate{oldCA.issue(key, usual), oldCA.cert}, "CA " + p + "certificate has expired", "2/1 1/0 1/1 0/1"},
		"usage":           {v, []*x509.Certificate{root.issue(key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, p + "not designated for use as a client certificate", "0/0 1/1 0/1"},
		"long":            {&Verifier{Roots: v.Roots, Usage: v.Usage}, []*x509.Certificate{low.issue(key, usual), low.cert, middle.cert}, p + "certificate chain longer than limit(1)", "2/0 2/0 1/1 0/1"},
		"not long":        {&Verifier{Roots: v.Roots, Usage: v.Usage, Depth: 1}, []*x509.Certificate{low.issue(key, usual), low.cert, middle.cert}, "", "3/1 2/1 1/1 0/1"},
	} {
		verdict := c.v.Verify(c.chain, now)
		var trace []string
		for _, line := range verdict.Trace() {
			var depth, ok int
			fmt.Sscanf(line, "depth=%d verify=%d subject=", &depth, &ok)
			trace = append(trace, fmt.Sprintf("%d/%d", depth, ok))
		}
		if verdict.Message("client", "p[1]") != c.want || verdict.Trusted() != (c.want == "") || strings.Join(trace, " ") != c.trace {
			t.Errorf("%s: %q %v %v", name, verdict.Message("client", "p[1]"), verdict.Trusted(), trace)
		}
	}
	if none := v.Verify(nil, now); none.Trusted() || none.Message("client", "p") != "" || none.Trace() != nil {
		t.Error("no certificate:", none)
	}
}

func TestNames(t *testing.T) {
	nobody := &authority{t: t}
	key := newKey(t)
	c := nobody.issue(key, func(c *x509.Certificate) {
		c.Subject = pkix.Name{Country: []string{"DE"}, Organization: []string{"Bäcker"}}
		c.DNSNames = []string{"mail.example.com", "*.wild.example"}
	})
	if SubjectCN(c) != "" || CommonName(c) != "mail.example.com" || IssuerName(c) != "Bäcker" {
		t.Errorf("%q %q %q", SubjectCN(c), CommonName(c), IssuerName(c))
	}
	if got := DistinguishedName(c.Subject); got != `/C=DE/O=B\xC3\xA4cker` {
		t.Error(got)
	}
	for _, m := range []struct {
		ref   string
		multi bool
		want  string
	}{
		{"mail.example.com", true, "mail.example.com"}, {"MAIL.example.COM.", true, "mail.example.com"}, {"example.com", true, ""}, {".example.com", true, "mail.example.com"},
		{".mail.example.com", true, ""}, {"a.wild.example", false, "*.wild.example"}, {"a.b.wild.example", false, ""}, {"a.b.wild.example", true, "*.wild.example"},
		{"wild.example", true, ""}, {".wild.example", true, "*.wild.example"}, {"", true, ""}, {".", true, ""},
	} {
		if got, _, ok := MatchNames(c, []string{m.ref}, m.multi); got != m.want || ok != (m.want != "") {
			t.Errorf("%+v: %q", m, got)
		}
	}
	bad := nobody.issue(key, func(c *x509.Certificate) {
		c.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidCommonName, Value: "evil\x00.example"}, {Type: oidCommonName, Value: "second.example"}}}
	})
	if SubjectCN(bad) != "second.example" {
		t.Errorf("%q", SubjectCN(bad))
	}
	if _, _, ok := MatchNames(bad, []string{"second.example"}, true); !ok {
		t.Error("common name does not match")
	}
}

func TestDigests(t *testing.T) {
	for name, want := range map[string]string{
		"md5": "90:01:50:98:3C:D2:4F:B0:D6:96:3F:7D:28:E1:7F:72", "SHA1": "A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D",
		"sha-256": "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD",
	} {
		d, err := ParseDigest(name)
		if err != nil || d.Fingerprint([]byte("abc")) != want {
			t.Error(name, err, d.Fingerprint([]byte("abc")))
		}
	}
	for _, name := range []string{"sha224", "sha384", "sha512"} {
		if d, err := ParseDigest(name); err != nil || d.String() != name {
			t.Error(name, err)
		}
	}
	if _, err := ParseDigest("x"); err == nil || err.Error() != "Digest algorithm \"x\" not found" {
		t.Error(err)
	}
	if !SameFingerprint("AB:cd", "abCD") || SameFingerprint("AB", "AC") {
		t.Error("SameFingerprint")
	}
}

// Each kind of key is summarised as OpenSSL's users know it, on both sides.
func TestSummary(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	nobody := &authority{t: t}
	cert := func(key crypto.Signer) tls.Certificate {
		c := nobody.issue(key, func(*x509.Certificate) {})
		return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
	}
	for _, c := range []struct {
		server, client crypto.Signer
		curve          tls.CurveID
		max            uint16
		want           string
		lines          int
	}{
		{rsaKey, nil, tls.X25519, 0, "TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128/128 bits) key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256", 2},
		{newKey(t), rsaKey, tls.CurveP256, 0, "TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128/128 bits) key-exchange ECDHE (P-256) server-signature ECDSA (prime256v1) server-digest SHA256 client-signature RSA-PSS (2048 bits) client-digest SHA256", 3},
		{edKey, p384, tls.X25519MLKEM768, 0, "TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 (128/128 bits) key-exchange X25519MLKEM768 server-signature ED25519 client-signature ECDSA (secp384r1) client-digest SHA384", 3},
		{rsaKey, rsaKey, tls.X25519, tls.VersionTLS12, "TLSv1.2 with cipher ECDHE-RSA-AES128-GCM-SHA256 (128/128 bits)", 1},
	} {
		var recorders [2]Recorder
		server := &tls.Config{Certificates: recorders[0].WrapAll([]tls.Certificate{cert(c.server)}), ClientAuth: tls.RequestClientCert, MaxVersion: c.max, CurvePreferences: []tls.CurveID{c.curve}}
		client := &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{c.curve}}
		if c.client != nil {
			client.Certificates = []tls.Certificate{recorders[1].Wrap(cert(c.client))}
		}
		a, b := net.Pipe()
		x, y := tls.Server(a, server), tls.Client(b, client)
		failed := make(chan error, 1)
		go func() {
			err := y.Handshake()
			if err == nil { // TLS 1.3: the server's ticket
				go y.Read(make([]byte, 1))
			}
			failed <- err
		}()
		if err := x.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		sx, sy := x.ConnectionState(), y.ConnectionState()
		got := Describe(&sx, ServerSide, &recorders[0])
		other := Describe(&sy, ClientSide, &recorders[1])
		want := strings.ReplaceAll(c.want, "TLS_AES_128_GCM_SHA256 (128/128", got.Cipher+fmt.Sprintf(" (%d/%[1]d", got.UseBits))
		if got.String() != want || other.String() != want || len(got.HeaderLines()) != c.lines {
			t.Errorf("\n%s\n%s\n%s\n%q", got, other, want, got.HeaderLines())
		}
		if c.client != nil && got.Client == (Signature{}) && c.max == 0 {
			t.Error("no client signature")
		}
		a.Close()
		b.Close()
	}
	s := Summary{Protocol: "TLSv1.2", Cipher: "C", UseBits: 1, AlgBits: 2}
	if got := s.Line(Anonymous, "established from", "p[1]", "n.example"); got != "Anonymous TLS connection established from p[1] to n.example: TLSv1.2 with cipher C (1/2 bits)" {
		t.Error(got)
	}
}

func pemText(t testing.TB, kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// Files in all the orders that have a message of their own; the messages were
// compared with Debian's by the sessions of pkg/daemon/smtpd.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	nobody := &authority{t: t}
	root := nobody.child("Root", nil)
	key, key2 := newKey(t), newKey(t)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	text := func(k crypto.Signer) string {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return pemText(t, "PRIVATE KEY", der)
	}
	cert := func(k crypto.Signer) string {
		return pemText(t, "CERTIFICATE", root.issue(k, func(*x509.Certificate) {}).Raw)
	}
	ca := pemText(t, "CERTIFICATE", root.cert.Raw)
	for name, content := range map[string]string{
		"good": text(key) + cert(key) + ca, "ed": text(edKey) + cert(edKey), "second": text(key2) + cert(key2), "cert": cert(key) + ca, "key": text(key),
		"backwards": cert(key) + ca + text(key), "two": text(key) + cert(key) + text(key2), "wrong": text(key2) + cert(key), "empty": "", "odd": pemText(t, "FOO", nil) + text(key) + cert(key),
		"badcert": text(key) + pemText(t, "CERTIFICATE", []byte("x")), "badkey": pemText(t, "PRIVATE KEY", []byte("x")) + cert(key),
	} {
		os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)
	}
	for _, c := range []struct {
		files Files
		certs int
		want  string
	}{
		{Files{Chain: "D/good, D/ed"}, 2, ""},
		{Files{Chain: "D/key, D/cert"}, 1, ""},
		{Files{Chain: "D/odd"}, 1, "loading D/odd: ignoring PEM type: FOO"},
		{Files{Chain: "D/none"}, 0, "error opening chain file: D/none: No such file or directory"},
		{Files{Chain: "D/cert"}, 0, "error loading chain from D/cert: key not first|error loading private keys and certificates from: D/cert"},
		{Files{Chain: "D/key"}, 0, "No certs for key at index 1 in D/key|error loading private keys and certificates from: D/key"},
		{Files{Chain: "D/key D/good"}, 0, "error loading certificate chain: key at index 1 in D/key not followed by a certificate|error loading private keys and certificates from: D/key D/good"},
		{Files{Chain: "D/good D/second"}, 0, "key at index 1 in D/second does not match next certificate|error loading private keys and certificates from: D/good D/second"},
		{Files{Chain: "D/wrong"}, 0, "key at index 1 in D/wrong does not match next certificate|error loading private keys and certificates from: D/wrong"},
		{Files{Chain: "D/empty"}, 0, "No PEM data in D/empty|error loading private keys and certificates from: D/empty"},
		{Files{Chain: "D/badcert"}, 0, "error loading certificate (PEM object number 2) from D/badcert|error loading private keys and certificates from: D/badcert"},
		{Files{Chain: "D/badkey"}, 0, "error loading private key (PEM object number 1) from D/badkey|error loading private keys and certificates from: D/badkey"},
		{Files{Cert: "D/backwards", Key: "D/backwards", ECCert: "D/ed", ECKey: "D/ed"}, 2, ""},
		{Files{Cert: "D/two", Key: "D/two"}, 1, "ignoring 2nd key at index 3 in D/two after 1st at 1"},
		{Files{Cert: "D/cert", Key: "D/cert"}, 0, "No private key found in D/cert|error loading private keys and certificates from: D/cert"},
		{Files{Cert: "D/none", Key: "D/none"}, 0, "error opening chain file: D/none: No such file or directory|cannot load certificates"},
		{Files{Cert: "D/cert", Key: "D/key"}, 1, ""},
		{Files{Cert: "D/none", Key: "D/key"}, 0, "cannot get RSA certificate from file \"D/none\""},
		{Files{ECCert: "D/cert", ECKey: "D/ed"}, 0, "cannot get ECDSA private key from file \"D/ed\""},
		{Files{Cert: "none", Key: "none"}, 0, ""},
	} {
		var said []string
		place := func(s string) string { return strings.ReplaceAll(s, "D/", dir+"/") }
		f := Files{Chain: place(c.files.Chain), Cert: place(c.files.Cert), Key: place(c.files.Key), ECCert: place(c.files.ECCert), ECKey: place(c.files.ECKey)}
		certs, err := f.Load(func(format string, a ...any) { said = append(said, fmt.Sprintf(format, a...)) })
		if err != nil {
			said = append(said, err.Error())
		}
		if got := strings.ReplaceAll(strings.Join(said, "|"), dir+"/", "D/"); got != c.want || len(certs) != c.certs {
			t.Errorf("%+v: %d certificates, %s", c.files, len(certs), got)
		}
	}
	if w := (Files{Chain: "a", ECCert: "b"}).Conflict("smtp_tls"); !strings.HasPrefix(w, "Both smtp_tls_chain_files and one or more of the legacy  smtp_tls_cert_file, ") {
		t.Error(w)
	}
	certs, err := Files{Chain: dir + "/good, " + dir + "/ed"}.Load(t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if got := Prefer(certs, []tls.SignatureScheme{tls.Ed25519, tls.ECDSAWithP256AndSHA256}, tls.VersionTLS13); got[0].Leaf != certs[1].Leaf || got[1].Leaf != certs[0].Leaf {
		t.Error("Prefer does not sort")
	}
}

func TestLoadRoots(t *testing.T) {
	dir := t.TempDir()
	nobody := &authority{t: t}
	a, b := nobody.child("A", nil), nobody.child("B", nil)
	os.WriteFile(filepath.Join(dir, "ca.pem"), []byte(pemText(t, "CERTIFICATE", a.cert.Raw)), 0o600)
	os.WriteFile(filepath.Join(dir, "0123abcd.0"), []byte(pemText(t, "CERTIFICATE", b.cert.Raw)), 0o600)
	os.WriteFile(filepath.Join(dir, "readme"), []byte("x"), 0o600)
	r, err := LoadRoots(filepath.Join(dir, "ca.pem"), dir, false)
	if err != nil || !r.has(a.cert) || !r.has(b.cert) || !r.Names().Equal(NewRoots(a.cert).pool) {
		t.Error(err, r)
	}
	if r, err := LoadRoots("", "/nonexistent", false); err != nil || r.Names() != nil {
		t.Error(err)
	}
	for _, c := range [][2]string{{"/none", ""}, {filepath.Join(dir, "readme"), "/p"}} {
		want := "cannot load Certification Authority data, CAfile=\"" + c[0] + "\""
		if c[1] != "" {
			want += ", CApath=\"/p\""
		}
		if _, err := LoadRoots(c[0], c[1], false); err == nil || err.Error() != want {
			t.Error(err)
		}
	}
}

func FuzzParseProtocols(f *testing.F) {
	f.Add(">=TLSv1.2, !TLSv1.3:0x0303 <=None")
	f.Fuzz(func(t *testing.T, list string) {
		p, err := ParseProtocols(list)
		if !slices.IsSorted(p) || err != nil && p != nil {
			t.Error(p, err)
		}
	})
}

func FuzzSuites(f *testing.F) {
	f.Add("aNULL:-aNULL:HIGH:MEDIUM:+RC4:@STRENGTH:!kRSA+AES")
	f.Fuzz(func(t *testing.T, list string) {
		seen := map[uint16]bool{}
		for _, id := range Suites(list) {
			if seen[id] {
				t.Error("twice:", CipherName(id))
			}
			seen[id] = true
		}
	})
}

func FuzzParseChain(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := ParseChain(data, "x", func(string, ...any) {})
		if (err == nil) != (len(certs) > 0) {
			t.Error(len(certs), err)
		}
	})
}
