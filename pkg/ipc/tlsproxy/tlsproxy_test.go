package tlsproxy

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	mailtls "posthaste/pkg/wire/tls"
)

func reader(text string) *attr.Reader {
	return attr.NewReader(strings.NewReader(strings.ReplaceAll(text, "|", "\x00")), attr.Null, "plaintext")
}

// golden is what Debian's smtp sent (spec ipc.md §2.12).
const golden = "config_file|default|config_name||tls_high_cipherlist|H|tls_medium_cipherlist|M|tls_low_cipherlist|L|tls_export_cipherlist|E|tls_null_cipherlist|N|" +
	"tls_eecdh_auto_curves|X25519|tls_eecdh_strong_curve|a|tls_eecdh_ultra_curve|b|tls_disable_workarounds||tls_ssl_options||tls_dane_digests|sha512 sha256|" +
	"tlsmgr_service_name|tlsmgr|tls_session_ticket_cipher|aes-256-cbc|tls_daemon_random_bytes|32|tls_append_default_CA|0|tls_legacy_public_key_fingerprints|0|" +
	"tls_preempt_cipherlist|0|tls_wildcard_matches_multiple_labels|1|log_param|smtp_tls_loglevel|log_level|1|verifydepth|9|cache_type|smtp|chain_files||cert_file|c|key_file|k|" +
	"dcert_file||dkey_file||eccert_file||eckey_file||CAfile|ca|CApath||mdalg|sha256|timeout|300|tls_level|6|nexthop|n|host|h|namaddr|h[127.0.0.1]:25|sni|h|" +
	"serverid|smtp&h|helo|tls.test|protocols|>=TLSv1|cipher_grade|medium|cipher_exclusions|aNULL|argv_size|2|argv_value|h|argv_value|n|mdalg|sha256|" +
	"dane|1|domain|h|count|1|usage|3|selector|1|mtype|1|data|AAEC||"

func TestClient(t *testing.T) {
	c, err := ReadClient(reader(golden))
	if err != nil {
		t.Fatal(err)
	}
	if c.Level != mailtls.LevelDaneOnly || c.Depth != 9 || c.Files.Cert != "c" || c.CAFile != "ca" || strings.Join(c.Match, " ") != "h n" || c.Exclusions != "aNULL" ||
		len(c.TLSA) != 1 || !reflect.DeepEqual(c.TLSA[0], mailtls.TLSA{Usage: 3, Selector: 1, MatchType: 1, Data: []byte{0, 1, 2}}) || c.Parameters["tls_wildcard_matches_multiple_labels"] != "1" {
		t.Errorf("%+v", c)
	}
	var b bytes.Buffer
	if err := c.Write(attr.NewWriter(&b, attr.Null)); err != nil {
		t.Fatal(err)
	}
	if again, err := ReadClient(attr.NewReader(&b, attr.Null, "x")); err != nil || !reflect.DeepEqual(again, c) {
		t.Errorf("%+v %v", again, err)
	}
	for _, change := range [][2]string{
		{"tls_level|6", "tls_level|9"}, {"tls_level|6", "tls_level|0"}, {"argv_size|2", "argv_size|-1"}, {"argv_size|2", "argv_size|99999999"}, {"argv_size|2", "argv_size|3"},
		{"count|1|", "count|999|"}, {"count|1|", "count|2|"}, {"data|AAEC", "data|!"}, {"verifydepth|9", "verifydepth|x"}, {"CAfile|ca|", ""},
	} {
		if _, err := ReadClient(reader(strings.Replace(golden, change[0], change[1], 1))); err == nil {
			t.Errorf("%q was read", change[1])
		}
	}
}

func TestRequest(t *testing.T) {
	r, err := ReadRequest(reader("remote_endpoint|[127.0.0.1]:22990|flags|6|timeout|300|timeout|600|serverid|smtp||"))
	if want := (Request{"[127.0.0.1]:22990", ClientRole | SendContext, 5 * time.Minute, 10 * time.Minute, "smtp"}); err != nil || r != want {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := ReadRequest(reader("foo|bar||")); err == nil || err.Error() != "unexpected attribute foo from plaintext (expecting: remote_endpoint)" {
		t.Error(err)
	}
}

func TestContext(t *testing.T) {
	c := &Context{PeerCN: "cn", IssuerCN: "ca", Fingerprint: "AA", KeyFingerprint: "BB", Level: mailtls.LevelSecure, Status: CertPresent | CertTrusted, NamAddr: "n",
		Summary: mailtls.Summary{Protocol: "TLSv1.3", Cipher: "C", UseBits: 256, AlgBits: 128, Exchange: "ECDHE", ExchangeCurve: "prime256v1",
			Client: mailtls.Signature{Name: "RSA-PSS", Bits: 2048, Digest: "SHA256"}, Server: mailtls.Signature{Name: "ECDSA", Curve: "prime256v1"}}}
	var b bytes.Buffer
	if err := c.Write(attr.NewWriter(&b, attr.Null)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "peer_CN\x00cn\x00issuer_CN\x00ca\x00peer_fingerprint\x00AA\x00peer_pubkey_fingerprint\x00BB\x00level\x008\x00peer_status\x005\x00cipher_protocol\x00TLSv1.3\x00") {
		t.Errorf("%q", b.String())
	}
	if again, err := ReadContext(attr.NewReader(&b, attr.Null, "x")); err != nil || !reflect.DeepEqual(again, c) {
		t.Errorf("%+v %v", again, err)
	}
}

func FuzzClient(f *testing.F) {
	f.Add([]byte(strings.ReplaceAll(golden, "|", "\x00")))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ReadClient(attr.NewReader(bytes.NewReader(data), attr.Null, "x"))
		if err == nil && (len(c.Match) > maxMatch || len(c.TLSA) > maxTLSA || c.Level <= mailtls.LevelNone) {
			t.Errorf("%+v", c)
		}
	})
}
