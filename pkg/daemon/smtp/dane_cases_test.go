package smtp

import (
	"time"

	"posthaste/pkg/ipc/deliver"
)

// daneCase is a delivery to a server that has TLSA records. Without a next hop
// of its own it goes to good.test, whose MX record is mx.good.test. zone is
// what the name service has beyond, or instead of, the usual: all names have secure addresses.
type daneCase struct {
	tlsCase
	zone string
}

var dnssec = mp{"smtp_dns_support_level": "dnssec", "smtp_host_lookup": "dns", "smtp_tls_loglevel": "1", "smtp_tls_CAfile": ca}

func daneCases() []daneCase {
	var list []daneCase
	add := func(name, server, zone string, more ...mp) *daneCase {
		list = append(list, daneCase{tlsCase{name: name, server: server, level: "dane", nexthop: "good.test:PORT", settings: with(append([]mp{dnssec}, more...)...)}, zone})
		return &list[len(list)-1]
	}
	only := mp{"smtp_tls_security_level": "dane-only"}
	certmatch := mp{"smtp_tls_loglevel": "summary,certmatch"}
	verbose := mp{"smtp_tls_loglevel": "summary,verbose"}
	dane := mp{"smtp_tls_loglevel": "summary,dane"}

	add("311", "good", "mx.good.test TLSA 3 1 1 good")
	add("311 mismatch", "good", "mx.good.test TLSA 3 1 1 other")
	add("311 mismatch old", "good", "mx.good.test TLSA 3 1 1 other").age = 2 * time.Hour
	add("301", "good", "mx.good.test TLSA 3 0 1 good")
	add("302", "good", "mx.good.test TLSA 3 0 2 good")
	add("312", "good", "mx.good.test TLSA 3 1 2 good")
	add("300", "good", "mx.good.test TLSA 3 0 0 good")
	add("310", "good", "mx.good.test TLSA 3 1 0 good")
	add("311 self", "self", "mx.good.test TLSA 3 1 1 self")
	add("311 expired", "expired", "mx.good.test TLSA 3 1 1 expired")
	add("311 future", "future", "mx.good.test TLSA 3 1 1 future")
	add("311 wrong name", "cnsan", "mx.good.test TLSA 3 1 1 cnsan")
	add("311 client certificate", "client", "mx.good.test TLSA 3 1 1 client")
	add("301 of the issuer", "good", "mx.good.test TLSA 3 0 1 inter")
	add("311 no CA", "good", "mx.good.test TLSA 3 1 1 good", mp{"smtp_tls_CAfile": ""})
	add("201 root", "good", "mx.good.test TLSA 2 0 1 root")
	add("201 inter", "good", "mx.good.test TLSA 2 0 1 inter")
	add("211 inter", "good", "mx.good.test TLSA 2 1 1 inter")
	add("211 root", "good", "mx.good.test TLSA 2 1 1 root")
	add("212 inter", "good", "mx.good.test TLSA 2 1 2 inter")
	add("211 deep", "deep", "mx.good.test TLSA 2 1 1 root")
	add("211 deep 0", "deep", "mx.good.test TLSA 2 1 1 root", mp{"smtp_tls_scert_verifydepth": "0"})
	add("211 own", "good", "mx.good.test TLSA 2 1 1 good")
	add("201 own self", "self", "mx.good.test TLSA 2 0 1 self")
	add("211 own self", "self", "mx.good.test TLSA 2 1 1 self")
	add("200", "nochain", "mx.good.test TLSA 2 0 0 inter")
	add("200 root", "nochain", "mx.good.test TLSA 2 0 0 root")
	add("200 foreign", "foreign", "mx.good.test TLSA 2 0 0 root")
	add("210", "nochain", "mx.good.test TLSA 2 1 0 inter")
	add("210 sent", "good", "mx.good.test TLSA 2 1 0 inter")
	add("210 root", "good", "mx.good.test TLSA 2 1 0 root")
	add("211 not sent", "nochain", "mx.good.test TLSA 2 1 1 inter")
	add("201 foreign", "foreign", "mx.good.test TLSA 2 0 1 root")
	add("201 foreign other", "foreign", "mx.good.test TLSA 2 0 1 other")
	add("211 expired", "expired", "mx.good.test TLSA 2 1 1 inter")
	add("211 below expired", "belowold", "mx.good.test TLSA 2 1 1 root")
	add("211 expired anchor", "belowold", "mx.good.test TLSA 2 1 1 oldinter")
	add("211 client certificate", "client", "mx.good.test TLSA 2 1 1 root")
	add("211 wrong name", "cnsan", "mx.good.test TLSA 2 1 1 inter")
	add("211 nexthop name", "domain", "mx.good.test TLSA 2 1 1 inter")
	add("211 no MX nexthop name", "domain", "mx.good.test TLSA 2 1 1 inter").nexthop = "[mx.good.test]:PORT"
	add("211 no MX", "good", "mx.good.test TLSA 2 1 1 inter").nexthop = "[mx.good.test]:PORT"
	add("211 CN only", "cnonly", "mx.good.test TLSA 2 1 1 inter")
	add("211 wildcard", "good", "good.test MX 10 a.wild.test\na.wild.test TLSA 2 1 1 inter")
	add("001", "good", "mx.good.test TLSA 0 0 1 root")
	add("111", "good", "mx.good.test TLSA 1 1 1 good")
	add("111 dane-only", "good", "mx.good.test TLSA 1 1 1 good").level = "dane-only"
	add("111 and 311", "good", "mx.good.test TLSA 1 1 1 good\nmx.good.test TLSA 3 1 1 good")
	add("111 and 311 mismatch", "good", "mx.good.test TLSA 1 1 1 good\nmx.good.test TLSA 3 1 1 other")
	add("selector 2", "good", "mx.good.test TLSA 3 2 1 good")
	add("match 3", "good", "mx.good.test TLSA 3 1 3 hex:0102030405")
	add("match 255", "good", "mx.good.test TLSA 3 1 255 hex:0102030405")
	add("usage 4", "good", "mx.good.test TLSA 4 1 1 good")
	add("short digest", "good", "mx.good.test TLSA 3 1 1 hex:0102030405")
	add("short digest dane-only", "good", "mx.good.test TLSA 3 1 1 hex:0102030405").level = "dane-only"
	add("short digest and good", "good", "mx.good.test TLSA 3 1 1 hex:0102030405\nmx.good.test TLSA 3 1 1 good")
	add("bad certificate", "good", "mx.good.test TLSA 2 0 0 hex:3003020101")
	add("bad key", "good", "mx.good.test TLSA 2 1 0 hex:3003020101")
	add("bad end entity certificate", "good", "mx.good.test TLSA 3 0 0 hex:3003020101")
	add("unusable long", "good", "mx.good.test TLSA 1 0 0 good")
	add("no TLSA", "good", "")
	add("no TLSA not offered", "good nooffer", "")
	add("no TLSA dane-only", "good", "").level = "dane-only"
	add("TLSA not offered", "good nooffer", "mx.good.test TLSA 3 1 1 good")
	add("TLSA hangup", "good hangup", "mx.good.test TLSA 3 1 1 good").age = 2 * time.Hour
	add("insecure TLSA", "good", "mx.good.test TLSA 3 1 1 other\ninsecure _tlsa.mx.good.test")
	add("insecure TLSA dane-only", "good", "mx.good.test TLSA 3 1 1 good\ninsecure _tlsa.mx.good.test").level = "dane-only"
	add("insecure address", "good", "mx.good.test TLSA 3 1 1 other\ninsecure mx.good.test")
	add("insecure address forced", "good", "mx.good.test TLSA 3 1 1 good\ninsecure mx.good.test", mp{"smtp_tls_force_insecure_host_tlsa_lookup": "yes"})
	add("insecure address dane-only", "good", "mx.good.test TLSA 3 1 1 good\ninsecure mx.good.test").level = "dane-only"
	add("insecure MX", "good", "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX")
	add("insecure MX mismatch", "good", "mx.good.test TLSA 3 1 1 other\ninsecure good.test MX")
	add("insecure MX ta", "good", "mx.good.test TLSA 2 1 1 inter\ninsecure good.test MX")
	add("insecure MX ta nexthop", "domain", "mx.good.test TLSA 2 1 1 inter\ninsecure good.test MX")
	add("insecure MX encrypt", "good", "mx.good.test TLSA 3 1 1 other\ninsecure good.test MX", mp{"smtp_tls_dane_insecure_mx_policy": "encrypt"})
	add("insecure MX may", "good", "mx.good.test TLSA 3 1 1 other\ninsecure good.test MX", mp{"smtp_tls_dane_insecure_mx_policy": "may"})
	add("insecure MX no TLSA", "good", "insecure good.test MX")
	add("insecure MX dane-only", "good", "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX").level = "dane-only"
	add("insecure MX dane by policy", "good", "mx.good.test TLSA 3 1 1 other\ninsecure good.test MX", mp{"smtp_tls_security_level": "may"}).policy = "dane"
	add("insecure MX short digest", "good", "mx.good.test TLSA 3 1 1 hex:01\ninsecure good.test MX")
	add("all insecure", "good", "mx.good.test TLSA 3 1 1 good\ninsecure *")
	add("all insecure dane-only", "good", "mx.good.test TLSA 3 1 1 good\ninsecure *").level = "dane-only"
	add("probe fails", "good", "insecure *\nservfail . NS")
	add("probe off", "good", "insecure *\nservfail . NS", mp{"dnssec_probe": ""})
	add("probe of another name", "good", "insecure *", mp{"dnssec_probe": "mx:good.test"})
	add("probe missing", "good", "insecure *", mp{"dnssec_probe": "a:missing.test"})
	add("servfail", "good", "servfail _tlsa.mx.good.test")
	add("servfail dane-only", "good", "servfail _tlsa.mx.good.test").level = "dane-only"
	add("servfail then next", "good", "good.test MX 20 other.test\nother.test TLSA 3 1 1 good\nservfail _tlsa.mx.good.test")
	add("next hop without MX", "good", "good.test TLSA 3 1 1 good\nno good.test MX")
	add("next hop without MX insecure", "good", "good.test TLSA 3 1 1 good\nno good.test MX\ninsecure good.test MX")
	add("literal", "good", "mx.good.test TLSA 3 1 1 good").nexthop = "[127.0.0.1]:PORT"
	add("literal dane-only", "good", "mx.good.test TLSA 3 1 1 good", only).nexthop = "[127.0.0.1]:PORT"
	add("MX address", "good", "good.test MX 10 127.0.0.1")
	add("alias", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nmx.good.test TLSA 3 1 1 good")
	add("alias own", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nal.good.test TLSA 3 1 1 good")
	add("alias ta", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nal.good.test TLSA 2 1 1 inter")
	add("alias ta nexthop", "domain", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nmx.good.test TLSA 2 1 1 inter")
	add("alias both", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nal.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 1 other")
	add("alias to insecure", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nal.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 1 other\ninsecure mx.good.test")
	add("alias insecure", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nal.good.test TLSA 3 1 1 other\nmx.good.test TLSA 3 1 1 other\ninsecure al.good.test")
	add("alias cname_overrides", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nmx.good.test TLSA 3 1 1 good", mp{"smtp_cname_overrides_servername": "yes"})
	add("alias of domain", "good", "dom.test CNAME good.test\nmx.good.test TLSA 2 1 1 inter").nexthop = "dom.test:PORT"
	add("alias of domain name", "domain", "dom.test CNAME good.test\nmx.good.test TLSA 2 1 1 inter").nexthop = "dom.test:PORT"
	add("alias of TLSA", "good", "_tlsa.mx.good.test CNAME tl.good.test\ntl.good.test TLSAX 3 1 1 good")
	add("alias of TLSA insecure", "good", "_tlsa.mx.good.test CNAME tl.good.test\ntl.good.test TLSAX 3 1 1 other\ninsecure tl.good.test")
	add("agility", "good", "mx.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 2 other")
	add("agility good", "good", "mx.good.test TLSA 3 1 1 other\nmx.good.test TLSA 3 1 2 good")
	add("agility sha256 only", "good", "mx.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 2 other", mp{"tls_dane_digests": "sha256"})
	add("agility order", "good", "mx.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 2 other", mp{"tls_dane_digests": "sha256 sha512"})
	add("agility by usage", "good", "mx.good.test TLSA 2 1 1 inter\nmx.good.test TLSA 3 1 2 other")
	add("agility by selector", "good", "mx.good.test TLSA 3 0 1 good\nmx.good.test TLSA 3 1 2 other")
	add("agility full", "good", "mx.good.test TLSA 3 1 0 good\nmx.good.test TLSA 3 1 2 other")
	add("agility short sha512", "good", "mx.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 2 hex:0102")
	add("digest off", "good", "mx.good.test TLSA 3 1 1 other", mp{"tls_dane_digests": "sha512"})
	add("digests unknown", "good", "mx.good.test TLSA 3 1 1 good", mp{"tls_dane_digests": "crc sha256"})
	add("digests code", "good", "mx.good.test TLSA 3 1 1 good", mp{"tls_dane_digests": "sha384=7 sha256=1"})
	add("digests bad code", "good", "mx.good.test TLSA 3 1 1 good", mp{"tls_dane_digests": "sha512=1"})
	add("several", "good", "mx.good.test TLSA 3 1 1 other\nmx.good.test TLSA 3 1 1 self\nmx.good.test TLSA 3 1 1 good")
	add("ta and ee", "good", "mx.good.test TLSA 2 1 1 inter\nmx.good.test TLSA 3 1 1 other")
	add("ta and ee both match", "good", "mx.good.test TLSA 2 1 1 inter\nmx.good.test TLSA 3 1 1 good")
	add("policy dane", "good", "mx.good.test TLSA 3 1 1 good", mp{"smtp_tls_security_level": "none"}).policy = "dane"
	add("policy dane-only", "good", "", mp{"smtp_tls_security_level": "none"}).policy = "dane-only"
	add("policy dane protocols", "good tls12", "mx.good.test TLSA 3 1 1 good", mp{"smtp_tls_security_level": "none"}).policy = "dane protocols=>=TLSv1.3"
	add("policy dane match", "good", "", mp{"smtp_tls_security_level": "none"}).policy = "dane match=x"
	add("policy dane servername", "good", "mx.good.test TLSA 3 1 1 good", mp{"smtp_tls_security_level": "none"}).policy = "dane servername=sni.test"
	add("policy servername no TLSA", "good", "", mp{"smtp_tls_security_level": "none"}).policy = "dane servername=sni.test"
	add("policy not dane", "good", "mx.good.test TLSA 3 1 1 other").policy = "encrypt"
	add("servername all unusable", "good", "mx.good.test TLSA 1 1 1 good", mp{"smtp_tls_servername": "sni.test"})
	add("dane not dnssec", "good", "", mp{"smtp_dns_support_level": "enabled"})
	add("trust anchor file ignored", "good", "mx.good.test TLSA 3 1 1 good", mp{"smtp_tls_trust_anchor_file": "DIR/other.pem"})
	add("tls12", "good tls12", "mx.good.test TLSA 3 1 1 good")
	add("two hosts", "good", "good.test MX 20 other.test\nother.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 1 other")
	add("certmatch 311", "good", "mx.good.test TLSA 3 1 1 good", certmatch)
	add("certmatch 301", "good", "mx.good.test TLSA 3 0 1 good", certmatch)
	add("certmatch 310", "good", "mx.good.test TLSA 3 1 0 good", certmatch)
	add("certmatch 300", "good", "mx.good.test TLSA 3 0 0 good", certmatch)
	add("certmatch 211", "good", "mx.good.test TLSA 2 1 1 inter", certmatch)
	add("certmatch 202", "good", "mx.good.test TLSA 2 0 2 root", certmatch)
	add("certmatch 200", "nochain", "mx.good.test TLSA 2 0 0 inter", certmatch)
	add("certmatch 210", "nochain", "mx.good.test TLSA 2 1 0 inter", certmatch)
	add("certmatch 210 sent", "good", "mx.good.test TLSA 2 1 0 inter", certmatch)
	add("certmatch mismatch", "good", "mx.good.test TLSA 3 1 1 other", certmatch)
	add("certmatch insecure MX", "good", "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX", certmatch)
	add("verbose 311", "good", "mx.good.test TLSA 3 1 1 good", verbose)
	add("verbose 211", "good", "mx.good.test TLSA 2 1 1 inter", verbose)
	add("verbose mismatch", "good", "mx.good.test TLSA 3 1 1 other", verbose)
	add("verbose no TLSA", "good", "", verbose)
	add("verbose 211 root", "good", "mx.good.test TLSA 2 1 1 root", verbose)
	add("verbose 211 deep 0", "deep", "mx.good.test TLSA 2 1 1 root", verbose, mp{"smtp_tls_scert_verifydepth": "0"})
	add("verbose 211 foreign", "foreign", "mx.good.test TLSA 2 1 1 root", verbose)
	add("verbose 211 own self", "self", "mx.good.test TLSA 2 1 1 self", verbose)
	add("verbose 211 not sent", "nochain", "mx.good.test TLSA 2 1 1 inter", verbose)
	add("verbose 211 wrong name", "cnsan", "mx.good.test TLSA 2 1 1 inter", verbose)
	add("verbose 211 expired", "expired", "mx.good.test TLSA 2 1 1 root", verbose)
	add("verbose 211 below expired", "belowold", "mx.good.test TLSA 2 1 1 root", verbose)
	add("verbose 200", "nochain", "mx.good.test TLSA 2 0 0 inter", verbose)
	add("verbose 210", "nochain", "mx.good.test TLSA 2 1 0 inter", verbose)
	add("verbose 210 root", "good", "mx.good.test TLSA 2 1 0 root", verbose)
	add("verbose short digest", "good", "mx.good.test TLSA 3 1 1 hex:0102", verbose)
	add("verbose short digest dane-only", "good", "mx.good.test TLSA 3 1 1 hex:0102", verbose).level = "dane-only"
	add("verbose usage 1 and 3", "good", "mx.good.test TLSA 1 1 1 good\nmx.good.test TLSA 3 1 1 good", verbose)
	add("verbose ta and ee mismatch", "foreign", "mx.good.test TLSA 2 1 1 inter\nmx.good.test TLSA 3 1 1 other", verbose)
	add("verbose insecure MX", "good", "mx.good.test TLSA 2 1 1 inter\ninsecure good.test MX", verbose)
	add("certmatch both", "good", "mx.good.test TLSA 2 1 1 inter\nmx.good.test TLSA 3 1 1 good", certmatch)
	add("certmatch both ta", "good", "mx.good.test TLSA 2 1 1 root\nmx.good.test TLSA 2 1 1 inter", certmatch)
	add("certmatch two kinds", "good", "mx.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 0 1 good\nmx.good.test TLSA 3 0 2 good\nmx.good.test TLSA 3 1 0 good", certmatch)
	add("certmatch 210 root", "good", "mx.good.test TLSA 2 1 0 root", certmatch)
	add("certmatch nexthop", "domain", "mx.good.test TLSA 2 1 1 inter", certmatch)
	add("certmatch insecure MX ta", "good", "mx.good.test TLSA 2 1 1 inter\ninsecure good.test MX", certmatch)
	add("certmatch short digest", "good", "mx.good.test TLSA 3 1 1 hex:0102", certmatch)
	add("certmatch wrong name", "cnsan", "mx.good.test TLSA 2 1 1 inter", certmatch)
	add("peercert 211", "good", "mx.good.test TLSA 2 1 1 inter", mp{"smtp_tls_loglevel": "peercert"})
	add("210 expired", "oldbare", "mx.good.test TLSA 2 1 0 inter")
	add("210 own self", "self", "mx.good.test TLSA 2 1 0 self")
	add("210 own", "good", "mx.good.test TLSA 2 1 0 good")
	add("210 foreign", "foreign", "mx.good.test TLSA 2 1 0 root")
	add("200 expired", "oldbare", "mx.good.test TLSA 2 0 0 inter")
	add("200 expired anchor", "belowold", "mx.good.test TLSA 2 0 0 oldinter")
	add("200 self", "self", "mx.good.test TLSA 2 0 0 self")
	add("200 own", "good", "mx.good.test TLSA 2 0 0 good")
	add("211 partial wildcard", "partial", "mx.good.test TLSA 2 1 1 inter")
	add("insecure MX encrypt no TLSA", "good", "insecure good.test MX", mp{"smtp_tls_dane_insecure_mx_policy": "encrypt"})
	add("insecure MX encrypt not offered", "good nooffer", "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX", mp{"smtp_tls_dane_insecure_mx_policy": "encrypt"})
	add("insecure MX may not offered", "good nooffer", "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX", mp{"smtp_tls_dane_insecure_mx_policy": "may"})
	add("insecure MX encrypt servfail", "good", "servfail _tlsa.mx.good.test\ninsecure good.test MX", mp{"smtp_tls_dane_insecure_mx_policy": "encrypt"})
	add("insecure MX may servfail", "good", "servfail _tlsa.mx.good.test\ninsecure good.test MX", mp{"smtp_tls_dane_insecure_mx_policy": "may"})
	add("insecure MX usage 1", "good", "mx.good.test TLSA 1 1 1 good\ninsecure good.test MX")
	add("insecure MX not offered", "good nooffer", "mx.good.test TLSA 3 1 1 good\ninsecure good.test MX")
	add("alias servfail", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nal.good.test TLSA 3 1 1 good\nservfail _tlsa.mx.good.test")
	add("alias own servfail", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nservfail _tlsa.al.good.test")
	add("alias usage 1", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nal.good.test TLSA 3 1 1 good\nmx.good.test TLSA 1 1 1 good")
	add("alias TLSA insecure", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nal.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 1 other\ninsecure _tlsa.mx.good.test")
	add("alias none", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test")
	add("alias none to insecure", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\ninsecure mx.good.test")
	add("alias to insecure forced", "good", "good.test MX 10 al.good.test\nal.good.test CNAME mx.good.test\nmx.good.test TLSA 3 1 1 good\ninsecure mx.good.test", mp{"smtp_tls_force_insecure_host_tlsa_lookup": "yes"})
	add("digests numbers", "good", "mx.good.test TLSA 3 1 1 good", mp{"tls_dane_digests": "crc=9 sha384=300 sha384=x sha384=-1 sha384=0 sha384=255 sha256 sha256 sha384=3 sha512=3 sha384=4 =5 sha224="})
	add("digests two numbers", "good", "mx.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 9 good", mp{"tls_dane_digests": "sha256=9, sha256"})
	add("no TLSA hangup", "good hangup", "").age = 2 * time.Hour
	add("filter", "good", "mx.good.test TLSA 3 1 1 good", mp{"smtp_dns_reply_filter": "regexp:{{/TLSA/ IGNORE}}"})
	add("filter one", "good", "mx.good.test TLSA 3 1 1 other\nmx.good.test TLSA 3 0 2 good", mp{"smtp_dns_reply_filter": "regexp:{{/TLSA 3 1/ IGNORE}}"})
	add("host insecure", "good", "insecure *").nexthop = "[mx.good.test]:PORT"
	add("host insecure dane-only", "good", "insecure *").nexthop = "[mx.good.test]:PORT"
	add("no MX all insecure", "good", "no good.test MX\ninsecure *").nexthop = "good.test:PORT"
	add("not dane insecure", "good", "insecure *\nservfail . NS").level = "may"
	add("dane 211", "good", "mx.good.test TLSA 2 1 1 inter", dane)
	add("dane 200", "nochain", "mx.good.test TLSA 2 0 0 inter", dane)
	add("dane several", "good", "mx.good.test TLSA 2 1 1 root\nmx.good.test TLSA 3 1 1 good\nmx.good.test TLSA 3 1 2 good\nmx.good.test TLSA 3 0 1 good", dane)
	add("loglevel untrusted insecure MX", "good", "mx.good.test TLSA 3 1 1 other\ninsecure good.test MX", mp{"smtp_tls_loglevel": "summary,untrusted"})
	add("loglevel 0", "good", "mx.good.test TLSA 3 1 1 other", mp{"smtp_tls_loglevel": "0"})
	// Debian's smtp remembers records from one delivery to the next.
	twice := [][2]string{{"asked: ", "asked: _PORT._tcp.mx.good.test TLSA\nasked: "}}
	again := add("resumed", "good", "mx.good.test TLSA 3 1 1 good")
	again.again, again.differs = 1, twice
	again = add("reuse", "good", "mx.good.test TLSA 3 1 1 good", mp{"smtp_tls_connection_reuse": "yes"})
	again.again, again.flags, again.differs = 1, deliver.ConnLoad|deliver.ConnStore, twice
	again = add("reuse mismatch", "good", "mx.good.test TLSA 3 1 1 other", mp{"smtp_tls_connection_reuse": "yes"})
	again.flags, again.own = deliver.ConnLoad|deliver.ConnStore, "log: server certificate verification failed for mx.good.test[127.0.0.1]:PORT: num=65:no matching DANE TLSA records\n"
	add("wrapper", "good wrapper", "mx.good.test TLSA 3 1 1 good", mp{"smtp_tls_wrappermode": "yes"})
	add("wrapper no TLSA", "good wrapper", "", mp{"smtp_tls_wrappermode": "yes"})
	l := add("lmtp", "good", "mx.good.test TLSA 3 1 1 good", mp{"smtp_dns_support_level": "dnssec", "smtp_host_lookup": "dns"})
	l.lmtp, l.nexthop = true, "inet:mx.good.test:PORT"
	l = add("lmtp ta", "good", "mx.good.test TLSA 2 1 1 inter", mp{"smtp_dns_support_level": "dnssec", "smtp_host_lookup": "dns"})
	l.lmtp, l.nexthop = true, "inet:mx.good.test:PORT"
	for i := range list {
		if v, ok := list[i].settings["smtp_tls_security_level"]; ok {
			list[i].level = v
			delete(list[i].settings, "smtp_tls_security_level")
		}
	}
	return list
}
