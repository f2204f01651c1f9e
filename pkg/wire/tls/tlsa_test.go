package mailtls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestTLSADigests(t *testing.T) {
	for _, c := range []struct{ list, want, warning string }{
		{"sha512 sha256", "2=sha512 1=sha256", ""},
		{"sha256", "1=sha256", ""},
		{"sha384=7, sha256", "7=sha384 1=sha256", ""},
		{"sha512=1 sha256", "1=sha256", "tls_dane_digests: matching type 1 can only be sha256"},
		{"crc sha256", "1=sha256", "tls_dane_digests: digest algorithm crc needs an explicit number"},
		{"crc=9", "", `tls_dane_digests: digest algorithm "crc"(9) unknown`},
		{"sha384=255", "", "Invalid matching type number in tls_dane_digests: sha384=255"},
		{"sha384=0", "", "Reserved matching type number in tls_dane_digests: sha384=0"},
		{"sha256 sha256", "1=sha256", "tls_dane_digests: matching type 1 specified more than once"},
	} {
		warning := ""
		var got []string
		for _, d := range ParseTLSADigests(c.list, func(format string, a ...any) { warning = fmt.Sprintf(format, a...) }) {
			got = append(got, fmt.Sprintf("%d=%s", d.matchType, d.digest))
		}
		if strings.Join(got, " ") != c.want || warning != c.warning {
			t.Errorf("%s: %v %q", c.list, got, warning)
		}
	}
}

func TestTLSAUse(t *testing.T) {
	long := TLSA{3, 0, 0, make([]byte, 65)}.String()
	if want := "3 0 0 " + strings.Repeat("00", 32) + "..." + strings.Repeat("00", 32); long != want {
		t.Error(long)
	}
	d := StandardDigests()
	good, bad := d.Usable([]TLSA{{3, 1, 1, make([]byte, 32)}, {3, 1, 1, nil}, {3, 1, 2, make([]byte, 32)}, {3, 2, 1, make([]byte, 32)}, {1, 1, 1, make([]byte, 32)},
		{3, 0, 0, []byte{0x30}}, {3, 1, 0, []byte{0x30}}, {2, 1, 2, make([]byte, 64)}, {3, 1, 255, make([]byte, 32)}})
	if len(good) != 2 || len(bad) != 7 {
		t.Error(good, bad)
	}
	// The best digest is chosen for each usage and selector by itself.
	best := d.best([]TLSA{{3, 1, 1, nil}, {3, 1, 2, nil}, {3, 0, 1, nil}, {2, 1, 1, nil}, {3, 1, 0, nil}})
	if len(best) != 4 || best[0].MatchType != 2 {
		t.Error(best)
	}
}

// A certificate or key that crypto/x509 cannot read is no reason to verify
// nothing: another server must not pass.
func TestTLSAUnreadable(t *testing.T) {
	cert := mxCertificate(t)
	negative := bytes.Replace(cert.Raw, []byte{2, 1, 2, 2, 1, 1}, []byte{2, 1, 2, 2, 1, 0xff}, 1) // the serial number
	if _, err := x509.ParseCertificate(negative); err == nil {
		t.Fatal("a negative serial number is readable")
	}
	ed448 := append([]byte{0x30, 0x43, 0x30, 5, 6, 3, 0x2b, 0x65, 0x71, 3, 0x3a, 0}, make([]byte, 57)...)
	for _, r := range []TLSA{{3, 0, 0, negative}, {2, 0, 0, negative}, {3, 1, 0, ed448}, {2, 1, 0, ed448}} {
		if good, _ := StandardDigests().Usable([]TLSA{r}); len(good) != 1 {
			t.Errorf("%s is of no use", r)
		}
		if v := (&Judge{Level: LevelDane, Match: []string{"mx.test"}, TLSA: []TLSA{r}}).Verdict([]*x509.Certificate{cert}, "mx.test", time.Now()); v.Trust != Untrusted {
			t.Errorf("%s: %+v", r, v)
		}
	}
	for _, data := range [][]byte{cert.Raw[:100], append(bytes.Clone(cert.Raw), 0), {0x30, 0}, {0x30, 3, 2, 1, 1}} {
		if good, _ := StandardDigests().Usable([]TLSA{{3, 0, 0, data}, {3, 1, 0, data}}); len(good) != 0 {
			t.Errorf("%x is of use", data)
		}
	}
}

// mxCertificate makes a certificate.
func mxCertificate(t testing.TB) *x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mx.test"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// FuzzTLSA judges a certificate by what anybody may write into DNS.
func FuzzTLSA(f *testing.F) {
	cert := mxCertificate(f)
	der := cert.Raw
	f.Add(3, 0, 0, der)
	f.Add(2, 0, 0, der)
	f.Add(2, 1, 0, cert.RawSubjectPublicKeyInfo)
	f.Add(3, 1, 1, make([]byte, 32))
	f.Fuzz(func(t *testing.T, usage, selector, match int, data []byte) {
		record := TLSA{usage, selector, match, data}
		v := (&Judge{Level: LevelDane, Match: []string{"mx.test"}, TLSA: []TLSA{record}}).Verdict([]*x509.Certificate{cert}, "mx.test", time.Now())
		own := selector == 0 && string(data) == string(der) || selector == 1 && string(data) == string(cert.RawSubjectPublicKeyInfo)
		if v.Trust == Verified && !own && match == 0 {
			t.Fatal(record, v)
		}
	})
}
