package smtp

import (
	"time"

	"posthaste/pkg/ipc/deliver"
)

// tlsCase is a delivery to a TLS server. In nexthop, settings and policy PORT
// is the server's port, DIR the directory of certificates, and CERT:x, KEY:x
// and SHA1:x are fingerprints of certificate x.
type tlsCase struct {
	name     string
	server   string // words for newPeer
	nexthop  string // "[mx.good.test]:PORT" when empty
	level    string
	policy   string // one entry, of the next hop or "key = value"
	settings mp
	age      time.Duration
	flags    deliver.Flags
	lmtp     bool
	again    int  // further deliveries
	perSite  bool // policy is for smtp_tls_per_site
	differs  [][2]string
	own      string // a line that Debian's tlsproxy logs, and we ourselves
}

const ca = "DIR/root.pem"

const old = 2 * time.Hour

var (
	log1  = mp{"smtp_tls_CAfile": ca, "smtp_tls_loglevel": "1"}
	names = map[string][]string{"mx.good.test": {"127.0.0.1"}, "a.wild.test": {"127.0.0.1"}, "a.b.wild.test": {"127.0.0.1"},
		"other.test": {"127.0.0.1"}, "good.test": {"127.0.0.1"}, "b.wild.test": {"127.0.0.1"}, "wild.test": {"127.0.0.1"}, "sub.good.test": {"127.0.0.1"}, "foo.good.test": {"127.0.0.1"}}
)

func with(settings ...mp) mp {
	m := mp{}
	for _, s := range settings {
		for k, v := range s {
			m[k] = v
		}
	}
	return m
}

var tlsCases = []tlsCase{
	{name: "none", server: "good", level: "none", settings: mp{"smtp_tls_note_starttls_offer": "yes"}},
	{name: "note", server: "good", level: "", settings: mp{"smtp_tls_note_starttls_offer": "yes"}},
	{name: "note at may", server: "good", level: "may", settings: mp{"smtp_tls_note_starttls_offer": "yes"}},
	{name: "may", server: "good", level: "may", settings: log1},
	{name: "may without CA", server: "good", level: "may", settings: mp{"smtp_tls_loglevel": "1"}},
	{name: "may self", server: "self", level: "may", settings: log1},
	{name: "may refused", server: "good refuse", level: "may", settings: log1},
	{name: "may not offered", server: "good nooffer", level: "may", settings: log1},
	{name: "may loglevel 0", server: "good", level: "may"},
	{name: "use_tls", server: "good", settings: with(log1, mp{"smtp_use_tls": "yes"})},
	{name: "enforce_tls", server: "good", settings: with(log1, mp{"smtp_enforce_tls": "yes"})},
	{name: "enforce_tls wrong name", server: "cnsan", settings: with(log1, mp{"smtp_enforce_tls": "yes"})},
	{name: "enforce_tls no peername", server: "cnsan", settings: with(log1, mp{"smtp_enforce_tls": "yes", "smtp_tls_enforce_peername": "no"})},
	{name: "encrypt", server: "self", level: "encrypt", settings: log1},
	{name: "encrypt refused", server: "good refuse", level: "encrypt", settings: log1},
	{name: "encrypt not offered", server: "good nooffer", level: "encrypt", settings: log1},
	{name: "hangup fresh", server: "good hangup", level: "may", settings: log1},
	{name: "hangup old", server: "good hangup", level: "may", settings: log1, age: old},
	{name: "hangup probe", server: "good hangup", level: "may", settings: log1, flags: deliver.UsrVerify},
	{name: "hangup encrypt", server: "good hangup", level: "encrypt", settings: log1, age: old},
	{name: "noise", server: "good noise", level: "encrypt", settings: log1, age: old},
	{name: "late fresh", server: "good late", level: "may", settings: log1},
	{name: "late old", server: "good late", level: "may", settings: log1, age: old},
	{name: "latemail fresh", server: "good latemail", level: "may", settings: log1},
	{name: "latemail old", server: "good latemail", level: "may", settings: log1, age: old},
	{name: "latemail encrypt", server: "good latemail", level: "encrypt", settings: log1, age: old},
	{name: "zearly", server: "good early pipe tls12", level: "may", settings: with(log1, mp{"smtp_tls_block_early_mail_reply": "yes"})},
	{name: "zspeak", server: "good speak tls12", level: "may", settings: with(log1, mp{"smtp_tls_block_early_mail_reply": "yes"})},
	{name: "tls12", server: "good tls12", level: "encrypt", settings: log1},
	{name: "too old", server: "good onlyold", level: "encrypt", settings: with(log1, mp{"smtp_tls_mandatory_protocols": ">=TLSv1.2"})},
	{name: "bad protocols", server: "good", level: "encrypt", settings: with(log1, mp{"smtp_tls_mandatory_protocols": "TLSv9"})},
	{name: "bad grade", server: "good", level: "encrypt", settings: with(log1, mp{"smtp_tls_mandatory_ciphers": "huge"})},

	{name: "verify", server: "good", level: "verify", settings: log1},
	{name: "verify self", server: "self", level: "verify", settings: log1},
	{name: "verify foreign", server: "foreign", level: "verify", settings: log1},
	{name: "verify nochain", server: "nochain", level: "verify", settings: log1},
	{name: "verify expired", server: "expired", level: "verify", settings: log1},
	{name: "verify future", server: "future", level: "verify", settings: log1},
	{name: "verify below expired", server: "belowold", level: "verify", settings: log1},
	{name: "verify client cert", server: "client", level: "verify", settings: log1},
	{name: "verify cn only", server: "cnonly", level: "verify", settings: log1},
	{name: "verify cn ignored", server: "cnsan", level: "verify", settings: log1},
	{name: "verify without CA", server: "good", level: "verify", settings: mp{"smtp_tls_loglevel": "1"}},
	{name: "verify loglevel 0", server: "self", level: "verify"},
	{name: "verify wrong name loglevel 0", server: "cnsan", level: "verify", settings: mp{"smtp_tls_CAfile": ca}},
	{name: "verify depth", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_scert_verifydepth": "0"})},
	{name: "verify depth 1", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_scert_verifydepth": "1"})},
	{name: "verify deep 0", server: "deep", level: "verify", settings: with(log1, mp{"smtp_tls_scert_verifydepth": "0"})},
	{name: "verify deep 1", server: "deep", level: "verify", settings: with(log1, mp{"smtp_tls_scert_verifydepth": "1"})},
	{name: "verify deep 2", server: "deep", level: "verify", settings: with(log1, mp{"smtp_tls_scert_verifydepth": "2"})},
	{name: "may deep 0", server: "deep", level: "may", settings: with(log1, mp{"smtp_tls_scert_verifydepth": "0"})},
	{name: "verify expired and wrong", server: "oldother", level: "verify", settings: log1},
	{name: "verify foreign and wrong", server: "foreignother", level: "verify", settings: log1},
	{name: "loglevel peercert", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_loglevel": "peercert"})},
	{name: "loglevel certmatch", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_loglevel": "certmatch"})},
	{name: "loglevel certmatch fingerprint", server: "self", level: "fingerprint", settings: with(log1, mp{"smtp_tls_fingerprint_cert_match": "CERT:self", "smtp_tls_loglevel": "certmatch"})},
	{name: "verify not offered", server: "good nooffer", level: "verify", settings: log1},
	{name: "verify hangup", server: "good hangup", level: "verify", settings: log1},
	{name: "verify wildcard", server: "good", nexthop: "[a.wild.test]:PORT", level: "verify", settings: log1},
	{name: "verify wildcard two labels", server: "good", nexthop: "[a.b.wild.test]:PORT", level: "verify", settings: log1},
	{name: "verify wildcard two labels off", server: "good", nexthop: "[a.b.wild.test]:PORT", level: "verify", settings: with(log1, mp{"tls_wildcard_matches_multiple_labels": "no"})},
	{name: "verify partial wildcard", server: "partial", nexthop: "[foo.good.test]:PORT", level: "verify", settings: log1},
	{name: "verify CApath", server: "good", level: "verify", settings: mp{"smtp_tls_CApath": "DIR/capath", "smtp_tls_loglevel": "1"}},
	{name: "verify log untrusted", server: "self", level: "may", settings: with(log1, mp{"smtp_tls_loglevel": "untrusted"})},
	{name: "verify log untrusted foreign", server: "foreign", level: "encrypt", settings: with(log1, mp{"smtp_tls_loglevel": "summary,untrusted"})},
	{name: "secure", server: "domain", nexthop: "good.test:PORT", level: "secure", settings: log1},
	{name: "secure dot", server: "good", nexthop: "good.test:PORT", level: "secure", settings: log1},
	{name: "secure two below", server: "good", nexthop: "b.wild.test:PORT", level: "secure", settings: log1},
	{name: "secure wildcard of dot", server: "good", nexthop: "wild.test:PORT", level: "secure", settings: log1},
	{name: "secure wrong", server: "good", nexthop: "other.test:PORT", level: "secure", settings: log1},
	{name: "secure main list", server: "good", nexthop: "other.test:PORT", level: "secure", settings: with(log1, mp{"smtp_tls_secure_cert_match": ".good.test"})},
	{name: "secure main exact", server: "good", nexthop: "other.test:PORT", level: "secure", settings: with(log1, mp{"smtp_tls_secure_cert_match": "mx.good.test"})},
	{name: "secure main hostname", server: "good", level: "secure", settings: with(log1, mp{"smtp_tls_secure_cert_match": "hostname"})},
	{name: "verify wildcard two labels on", server: "good", nexthop: "[a.b.wild.test]:PORT", level: "verify", settings: with(log1, mp{"tls_wildcard_matches_multiple_labels": "yes"})},
	{name: "secure ip", server: "good", nexthop: "[127.0.0.1]:PORT", level: "secure", settings: log1},
	{name: "secure empty match", server: "good", level: "secure", settings: with(log1, mp{"smtp_tls_secure_cert_match": " , "})},
	{name: "lmtp secure", lmtp: true, server: "good", nexthop: "inet:mx.good.test:PORT", level: "secure", settings: log1},
	{name: "lmtp secure dot", lmtp: true, server: "good", nexthop: "inet:good.test:PORT", level: "secure", settings: log1},
	{name: "lmtp unix may", lmtp: true, server: "good unix", nexthop: "unix:PORT", level: "may", settings: log1},
	{name: "lmtp unix encrypt", lmtp: true, server: "good unix", nexthop: "unix:PORT", level: "encrypt", settings: log1},
	{name: "lmtp unix verify", lmtp: true, server: "good unix", nexthop: "unix:PORT", level: "verify", settings: log1},
	{name: "lmtp unix dane", lmtp: true, server: "good unix", nexthop: "unix:PORT", level: "dane", settings: log1},
	{name: "lmtp unix bad policy", lmtp: true, server: "good unix", nexthop: "unix:PORT", level: "may", policy: "what", settings: log1},

	{name: "fingerprint", server: "self", level: "fingerprint", settings: with(log1, mp{"smtp_tls_fingerprint_cert_match": "CERT:self"})},
	{name: "fingerprint key", server: "self", level: "fingerprint", settings: with(log1, mp{"smtp_tls_fingerprint_cert_match": "CERT:good KEY:self"})},
	{name: "fingerprint expired", server: "expired", level: "fingerprint", settings: with(log1, mp{"smtp_tls_fingerprint_cert_match": "CERT:expired"})},
	{name: "fingerprint sha1", server: "self", level: "fingerprint", settings: with(log1, mp{"smtp_tls_fingerprint_digest": "sha1", "smtp_tls_fingerprint_cert_match": "SHA1:self"})},
	{name: "fingerprint wrong", server: "self", level: "fingerprint", settings: with(log1, mp{"smtp_tls_fingerprint_cert_match": "CERT:good"})},
	{name: "fingerprint wrong trusted", server: "good", level: "fingerprint", settings: with(log1, mp{"smtp_tls_fingerprint_cert_match": "CERT:self"})},
	{name: "fingerprint none", server: "self", level: "fingerprint", settings: log1},
	{name: "fingerprint bad digest", server: "self", level: "fingerprint", settings: with(log1, mp{"smtp_tls_fingerprint_digest": "crc9", "smtp_tls_fingerprint_cert_match": "CERT:self"})},

	{name: "client cert", server: "good ask", level: "encrypt", settings: with(log1, mp{"smtp_tls_cert_file": "DIR/client.pem", "smtp_tls_key_file": "DIR/client.key"})},
	{name: "client chain", server: "good ask", level: "encrypt", settings: with(log1, mp{"smtp_tls_chain_files": "DIR/client.full"})},
	{name: "client eccert", server: "good ask", level: "encrypt", settings: with(log1, mp{"smtp_tls_eccert_file": "DIR/client.chain"})},
	{name: "client cert missing", server: "good ask", level: "may", settings: with(log1, mp{"smtp_tls_cert_file": "DIR/missing.pem"}), age: old,
		differs: [][2]string{{"error opening chain file: DIR/missing.pem: No such file or directory", "cannot get RSA certificate from file \"DIR/missing.pem\": disabling TLS support"}}},
	{name: "client cert wrong key", server: "good ask", level: "encrypt", settings: with(log1, mp{"smtp_tls_cert_file": "DIR/client.pem", "smtp_tls_key_file": "DIR/good.key"})},
	{name: "CAfile missing", server: "good", level: "encrypt", settings: mp{"smtp_tls_CAfile": "DIR/missing.pem"}},
	{name: "CAfile missing may", server: "good", level: "may", settings: mp{"smtp_tls_CAfile": "DIR/missing.pem"}},
	{name: "servername", server: "good", level: "encrypt", settings: with(log1, mp{"smtp_tls_servername": "sni.test"})},
	{name: "servername hostname", server: "good", level: "encrypt", settings: with(log1, mp{"smtp_tls_servername": "hostname"})},
	{name: "servername nexthop", server: "good", level: "encrypt", settings: with(log1, mp{"smtp_tls_servername": "nexthop"})},
	{name: "servername bad", server: "good", level: "encrypt", settings: with(log1, mp{"smtp_tls_servername": "-bad-"})},
	{name: "no engine not offered", server: "good nooffer", level: "encrypt", settings: mp{"smtp_tls_CAfile": "DIR/missing.pem"}},
	{name: "wrapper", server: "good wrapper", level: "encrypt", settings: with(log1, mp{"smtp_tls_wrappermode": "yes"})},
	{name: "wrapper verify", server: "self wrapper", level: "verify", settings: with(log1, mp{"smtp_tls_wrappermode": "yes"})},
	{name: "wrapper may", server: "good wrapper", level: "may", settings: with(log1, mp{"smtp_tls_wrappermode": "yes"})},
	{name: "wrapper none", server: "good wrapper", level: "", settings: with(log1, mp{"smtp_tls_wrappermode": "yes"})},
	{name: "wrapper plain server", server: "good", level: "encrypt", settings: with(log1, mp{"smtp_tls_wrappermode": "yes", "smtp_starttls_timeout": "1s"})},

	{name: "trust anchor file", server: "foreign", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/other.pem"})},
	{name: "trust anchor file wrong", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/other.pem"})},
	{name: "trust anchor self wrong", server: "self", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/other.pem"})},
	{name: "trust anchor expired", server: "expired", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/inter.pem"})},
	{name: "trust anchor expired leaf", server: "expired", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/expired.pem"})},
	{name: "trust anchor nochain", server: "nochain", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/inter.pem"})},
	{name: "trust anchor nochain key", server: "nochain", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/inter.pub"})},
	{name: "trust anchor leaf key", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/good.pub"})},
	{name: "trust anchor name", server: "domain", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/root.pem"})},
	{name: "trust anchor at may", server: "foreign", level: "may", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/other.pem"})},
	{name: "trust anchor leaf", server: "self", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/self.pem"})},
	{name: "trust anchor inter", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/inter.pem"})},
	{name: "trust anchor key", server: "foreign", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/other.pub"})},
	{name: "trust anchor missing", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/missing.pem"})},
	{name: "trust anchor empty", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_trust_anchor_file": "DIR/good.key"})},

	{name: "policy level", server: "good", level: "none", policy: "encrypt", settings: log1},
	{name: "policy upper case level", server: "good", level: "none", policy: "ENCRYPT", settings: log1},
	{name: "policy none", server: "good", level: "encrypt", policy: "none", settings: log1},
	{name: "policy none attributes", server: "good", level: "encrypt", policy: "none match=x ciphers=high", settings: log1},
	{name: "policy match", server: "good", level: "none", policy: "verify match=x.test:.good.test", settings: log1},
	{name: "policy match twice", server: "good", level: "none", policy: "verify match=x.test match=mx.good.test", settings: log1},
	{name: "policy match wrong", server: "good", level: "none", policy: "secure match=x.test", settings: log1},
	{name: "policy match encrypt", server: "good", level: "none", policy: "encrypt match=x.test", settings: log1},
	{name: "policy match empty", server: "good", level: "none", policy: "verify match=", settings: log1},
	{name: "policy match keywords", server: "good", level: "none", policy: "verify match=nexthop:hostname:dot-nexthop", settings: log1},
	{name: "policy fingerprint", server: "self", level: "none", policy: "fingerprint match=CERT:good|KEY:self", settings: log1},
	{name: "policy fingerprint none", server: "self", level: "none", policy: "fingerprint", settings: log1},
	{name: "policy bad level", server: "good", level: "none", policy: "sometimes", settings: log1},
	{name: "policy comma only", server: "good", level: "none", policy: ", ,", settings: log1},
	{name: "policy no value", server: "good", level: "none", policy: "encrypt ciphers", settings: log1},
	{name: "policy no name", server: "good", level: "none", policy: "encrypt =x", settings: log1},
	{name: "policy unknown attribute", server: "good", level: "none", policy: "encrypt colour=blue", settings: log1},
	{name: "policy attribute case", server: "good", level: "none", policy: "encrypt CIPHERS=high", settings: log1},
	{name: "policy ciphers", server: "good", level: "none", policy: "encrypt ciphers=high", settings: log1},
	{name: "policy ciphers bad", server: "good", level: "none", policy: "encrypt ciphers=huge", settings: log1},
	{name: "policy ciphers twice", server: "good", level: "none", policy: "encrypt ciphers=high ciphers=high", settings: log1},
	{name: "policy ciphers empty", server: "good", level: "none", policy: "encrypt ciphers=", settings: log1},
	{name: "policy protocols", server: "good", level: "none", policy: "encrypt protocols=!TLSv1:!TLSv1.1", settings: log1},
	{name: "policy protocols max", server: "good", level: "none", policy: "encrypt protocols=<=TLSv1.2", settings: log1},
	{name: "policy protocols bad", server: "good", level: "none", policy: "encrypt protocols=TLSv7", settings: log1},
	{name: "policy protocols twice", server: "good", level: "none", policy: "encrypt protocols=TLSv1.3 protocols=TLSv1.3", settings: log1},
	{name: "policy protocols empty", server: "good", level: "none", policy: "encrypt protocols=", settings: log1},
	{name: "policy servername", server: "good", level: "none", policy: "encrypt servername=sni.test", settings: log1},
	{name: "policy servername bad", server: "good", level: "none", policy: "encrypt servername=sni_.-test", settings: log1},
	{name: "policy servername empty", server: "good", level: "none", policy: "encrypt servername=", settings: log1},
	{name: "policy servername twice", server: "good", level: "none", policy: "encrypt servername=a.test servername=b.test", settings: log1},
	{name: "policy servername hostname", server: "good", nexthop: "[other.test]:PORT", level: "none", policy: "encrypt servername=hostname", settings: log1},
	{name: "policy exclude", server: "good", level: "none", policy: "encrypt exclude=aNULL", settings: log1},
	{name: "policy exclude empty", server: "good", level: "none", policy: "encrypt exclude=", settings: log1},
	{name: "policy exclude twice", server: "good", level: "none", policy: "encrypt exclude=RC4 exclude=MD5", settings: log1},
	{name: "policy tafile", server: "foreign", level: "none", policy: "verify tafile=DIR/other.pem", settings: log1},
	{name: "policy tafile two", server: "foreign", level: "none", policy: "verify tafile=DIR/root.pem tafile=DIR/other.pem", settings: log1},
	{name: "policy tafile wrong level", server: "foreign", level: "none", policy: "encrypt tafile=DIR/other.pem", settings: log1},
	{name: "policy tafile empty", server: "foreign", level: "none", policy: "verify tafile=", settings: log1},
	{name: "policy tafile missing", server: "foreign", level: "none", policy: "verify tafile=DIR/missing.pem", settings: log1},
	{name: "policy reuse bad", server: "good", level: "none", policy: "encrypt connection_reuse=maybe", settings: log1},
	{name: "policy reuse no", server: "good", level: "none", policy: "encrypt connection_reuse=yes connection_reuse=no", settings: log1},
	{name: "policy plain host", server: "good", nexthop: "mx.good.test", level: "none", policy: "mx.good.test = encrypt", settings: with(log1, mp{"smtp_tcp_port": "PORT"})},
	{name: "policy parent", server: "good", nexthop: "mx.good.test", level: "none", policy: ".good.test = encrypt", settings: with(log1, mp{"smtp_tcp_port": "PORT"})},
	{name: "policy top", server: "good", nexthop: "mx.good.test", level: "none", policy: ".test = encrypt", settings: with(log1, mp{"smtp_tcp_port": "PORT"})},
	{name: "policy parent invalid", server: "good", nexthop: "mx.good.test", level: "none", policy: ".test = bad", settings: with(log1, mp{"smtp_tcp_port": "PORT"})},
	{name: "policy not parent itself", server: "good", nexthop: "mx.good.test", level: "none", policy: "good.test = encrypt", settings: with(log1, mp{"smtp_tcp_port": "PORT"})},
	{name: "policy no parent with port", server: "good", nexthop: "mx.good.test:PORT", level: "none", policy: ".good.test = encrypt", settings: log1},
	{name: "policy no parent in brackets", server: "good", nexthop: "[mx.good.test]", level: "none", policy: ".good.test = encrypt", settings: with(log1, mp{"smtp_tcp_port": "PORT"})},
	{name: "policy case", server: "good", nexthop: "[MX.good.test]:PORT", level: "none", policy: "[mx.good.test]:PORT = encrypt", settings: log1},
	{name: "policy table error", server: "good", level: "none", policy: "FAIL", settings: log1},
	{name: "policy and per site", server: "good", level: "none", policy: "encrypt", settings: with(log1, mp{"smtp_tls_per_site": "inline:{ {mx.good.test = NONE} }"})},
	{name: "per site none", server: "good", level: "encrypt", policy: "mx.good.test = NONE", perSite: true, settings: log1},
	{name: "per site may", server: "good", level: "none", policy: "mx.good.test = MAY", perSite: true, settings: log1},
	{name: "per site may weaker", server: "self", level: "encrypt", policy: "mx.good.test = may", perSite: true, settings: log1},
	{name: "per site nopeer", server: "self", level: "none", policy: "mx.good.test = MUST_NOPEERMATCH", perSite: true, settings: log1},
	{name: "per site must", server: "self", level: "none", policy: "mx.good.test = MUST", perSite: true, settings: log1},
	{name: "per site dest", server: "self", level: "none", policy: "[mx.good.test]:PORT = MUST", perSite: true, settings: log1},
	{name: "per site both", server: "self", level: "none", policy: "[mx.good.test]:PORT = MAY}, {mx.good.test = NONE", perSite: true, settings: log1},
	{name: "per site both 2", server: "self", level: "none", policy: "[mx.good.test]:PORT = NONE}, {mx.good.test = MAY", perSite: true, settings: log1},
	{name: "per site both 3", server: "self", level: "none", policy: "[mx.good.test]:PORT = MUST}, {mx.good.test = NONE", perSite: true, settings: log1},
	{name: "per site unknown", server: "self", level: "none", policy: "mx.good.test = PERHAPS", perSite: true, settings: log1},
	{name: "per site error", server: "self", level: "none", policy: "FAIL", perSite: true, settings: log1},
	{name: "per site bracket host", server: "self", level: "none", policy: "other.test = MUST", perSite: true, settings: log1},

	{name: "dane no dnssec", server: "good", level: "dane", settings: log1},
	{name: "dane-only no dnssec", server: "good", level: "dane-only", settings: log1},
	{name: "dane resolver options", server: "good", nexthop: "[127.0.0.1]:PORT", level: "dane", settings: with(log1, mp{"smtp_dns_support_level": "dnssec", "smtp_host_lookup": "dns", "smtp_dns_resolver_options": "res_defnames"})},
	{name: "dane MX errors", server: "good", nexthop: "[127.0.0.1]:PORT", level: "dane", settings: with(log1, mp{"smtp_dns_support_level": "dnssec", "smtp_host_lookup": "dns", "ignore_mx_lookup_error": "yes"})},
	{name: "dane no host dns", server: "good", nexthop: "[127.0.0.1]:PORT", level: "dane", settings: with(log1, mp{"smtp_dns_support_level": "dnssec", "smtp_host_lookup": "native"})},
	{name: "dane policy", server: "good", level: "none", policy: "dane", settings: log1},
	{name: "dane match", server: "good", level: "none", policy: "dane match=mx.good.test", settings: log1},

	{name: "resume", server: "good", level: "encrypt", settings: log1, again: 1},
	{name: "cached", server: "good", level: "encrypt", settings: log1, again: 1, flags: deliver.ConnLoad | deliver.ConnStore},
	{name: "cached plain", server: "good", level: "none", settings: log1, again: 1, flags: deliver.ConnLoad | deliver.ConnStore},
	{name: "reuse", server: "good", level: "encrypt", settings: with(log1, mp{"smtp_tls_connection_reuse": "yes"}), again: 2, flags: deliver.ConnLoad | deliver.ConnStore},
	{name: "reuse loglevel 0", server: "good", level: "encrypt", settings: mp{"smtp_tls_connection_reuse": "yes"}, again: 1, flags: deliver.ConnLoad | deliver.ConnStore},
	{name: "reuse verify", server: "good", level: "verify", settings: with(log1, mp{"smtp_tls_connection_reuse": "yes"}), again: 1, flags: deliver.ConnLoad | deliver.ConnStore},
	{name: "reuse by policy", server: "good", level: "none", policy: "encrypt connection_reuse=yes", settings: log1, again: 1, flags: deliver.ConnLoad | deliver.ConnStore},
	{name: "reuse fails", server: "good hangup", level: "may", settings: with(log1, mp{"smtp_tls_connection_reuse": "yes"}), own: "log: SSL_connect error to mx.good.test[127.0.0.1]:PORT: lost connection\n", flags: deliver.ConnLoad | deliver.ConnStore},
}
