package review

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/postconf"
	"posthaste/pkg/conf"
)

var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// certificate writes a certificate that ends when said, and its key.
func certificate(t *testing.T, path string, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-365 * 24 * time.Hour), NotAfter: end}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, path+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

const stock = `smtp      inet  n       -       y       -       -       smtpd
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
smtp      unix  -       -       y       -       -       smtp
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}
`

// review reviews a configuration with four lines in front of main.
func review(t *testing.T, dir, main, master string) string {
	t.Helper()
	if master == "" {
		master = stock
	}
	head := "compatibility_level = 3.6\nmyhostname = m.example.com\nmydestination = m.example.com, localhost\n" +
		"mynetworks = 127.0.0.0/8 [::1]/128\n"
	write(t, filepath.Join(dir, "main.cf"), strings.ReplaceAll(head+main, "DIR", dir))
	write(t, filepath.Join(dir, "master.cf"), strings.ReplaceAll(master, "DIR", dir))
	settings, err := conf.ReadSettings(filepath.Join(dir, "main.cf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	settings["config_directory"] = dir
	c := conf.FromMap(settings)
	var stderr bytes.Buffer
	postconf.Run([]string{"postconf", "-c", dir, "mail_name"}, command.Env{Stdout: io.Discard, Stderr: &stderr})
	findings, err := Review(c, today, ParseUnused(stderr.String()))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range findings {
		lines = append(lines, f.Kind+" "+f.String())
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), dir, "DIR")
}

func TestFindings(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir+"/good", today.Add(100*24*time.Hour))
	certificate(t, dir+"/soon", today.Add(10*24*time.Hour))
	certificate(t, dir+"/late", today.Add(-time.Hour))
	write(t, dir+"/stale", "a b\n")
	write(t, dir+"/stale.db", "")
	write(t, dir+"/fresh.db", "")
	write(t, dir+"/rules", "/a/ b\n")
	write(t, dir+"/domains", "# comment\nOne.example x\n")
	if err := os.Chtimes(dir+"/stale", time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	const m = "DIR/main.cf:5: "
	for _, c := range []struct{ main, master, want string }{
		{},
		// Names.
		{main: "smtpd_recipent_restrictions = reject", want: "unknown-parameter " + m + "unknown parameter smtpd_recipent_restrictions; is smtpd_recipient_restrictions meant?"},
		{main: "Biff = no", want: "unknown-parameter " + m + "unknown parameter Biff; is biff meant?"},
		{main: "maildrop_destination_recipent_limit = 1", want: "unknown-parameter " + m + "unknown parameter maildrop_destination_recipent_limit; is maildrop_destination_recipient_limit meant?"},
		{main: "entirely_something_else = no", want: "unknown-parameter " + m + "unknown parameter entirely_something_else"},
		{main: "mine = a\nrelayhost = $mine\nsmtpd_restriction_classes = c\nc = reject\nmaildrop_time_limit = 1h"},
		{main: "# comment\n\nbiff =\n  no\nbif = no", want: "unknown-parameter DIR/main.cf:9: unknown parameter bif; is biff meant?"},
		// Values.
		{main: "smtpd_hard_error_limit = twenty", want: "bad-value " + m + "bad numerical configuration: smtpd_hard_error_limit = twenty"},
		{main: "smtpd_helo_required = on", want: "bad-value " + m + "bad boolean configuration: smtpd_helo_required = on"},
		{main: "smtp_connect_timeout = 30 seconds", want: "bad-value " + m + "parameter smtp_connect_timeout: bad time value or unit: 30 seconds"},
		{main: "smtp_line_length_limit = -1", want: ""},
		{main: "maildrop_destination_recipient_limit = x", want: "bad-value " + m + "bad numerical configuration: maildrop_destination_recipient_limit = x"},
		{main: "maildrop_delivery_slot_discount = 200", want: "bad-value " + m + "invalid maildrop_delivery_slot_discount parameter value 200 > 100"},
		{main: "smtp_tls_security_level = yes", want: "bad-value " + m + "bad value: smtp_tls_security_level = yes; specify one of: none may encrypt dane dane-only fingerprint verify secure"},
		{main: "smtpd_helo_restrictions = ${a", want: "bad-value " + m + `truncated macro reference: "${a"`},
		{master: stock + "s2 inet n - y - - smtpd\n  -o smtpd_helo_required=on\n", want: "bad-value DIR/master.cf:8: bad boolean configuration: smtpd_helo_required = on"},
		// Tables.
		{main: "transport_maps = hash:DIR/none", want: "table " + m + "transport_maps: table hash:DIR/none cannot be read: DIR/none.db: No such file or directory; run postmap hash:DIR/none"},
		{main: "transport_maps = hash:DIR/stale", want: "table " + m + "transport_maps: table hash:DIR/stale is older than its source file; run postmap hash:DIR/stale"},
		{main: "alias_maps = hash:DIR/stale", want: "table " + m + "alias_maps: table hash:DIR/stale is older than its source file; run newaliases"},
		{main: "transport_maps = hsah:DIR/fresh", want: "table " + m + "transport_maps: table hsah:DIR/fresh is of an unknown type"},
		{main: "header_checks = regexp:DIR/rule", want: "table " + m + "header_checks: table regexp:DIR/rule cannot be read: DIR/rule: No such file or directory"},
		{main: "transport_maps = hash:DIR/fresh, proxy:regexp:DIR/rules pipemap:{ hash:DIR/fresh, inline:{a=b} } inline:{ { a = smtp:[b]:25 } }"},
		{main: "transport_maps = pipemap:{ hash:DIR/fresh, cidr:DIR/x }", want: "table " + m + "transport_maps: table cidr:DIR/x cannot be read: DIR/x: No such file or directory"},
		{main: "smtpd_client_restrictions = { check_client_access hash:DIR/none, default_action = DUNNO }", want: "table " + m + "smtpd_client_restrictions: table hash:DIR/none cannot be read: DIR/none.db: No such file or directory; run postmap hash:DIR/none"},
		{main: "smtpd_client_restrictions = check_client_access hsah:/x, check_policy_service inet:127.0.0.1:99, check_policy_service unix:/x", want: "table " + m + "smtpd_client_restrictions: table hsah:/x is of an unknown type"},
		{main: "mailbox_transport = maildrop:x\nsmtp_tls_session_cache_database = btree:DIR/cache\naddress_verify_map = btree:DIR/v\nproxy_write_maps = proxy:btree:DIR/v btree:DIR/w\nmilter_default_action = accept\nsmtpd_milters = inet:localhost:99"},
		{master: stock + "s2 inet n - y - - smtpd -o smtpd_client_restrictions=check_client_access,hash:DIR/none\n", want: "table DIR/master.cf:7: smtpd_client_restrictions: table hash:DIR/none cannot be read: DIR/none.db: No such file or directory; run postmap hash:DIR/none"},
		// Certificates.
		{main: "smtpd_tls_cert_file = DIR/good.pem\nsmtpd_tls_key_file = DIR/good.key"},
		{main: "smtpd_tls_cert_file = DIR/good.pem\nsmtpd_tls_key_file = DIR/soon.key", want: "certificate " + m + "smtpd_tls_cert_file: certificate DIR/good.pem and key DIR/soon.key do not go together: tls: private key does not match public key"},
		{main: "smtp_tls_eccert_file = DIR/soon.pem\nsmtp_tls_eckey_file = DIR/soon.key", want: "certificate " + m + "smtp_tls_eccert_file: certificate DIR/soon.pem expires at 2026-12-02 12:00:00 UTC"},
		{main: "smtpd_tls_cert_file = DIR/late.pem\nsmtpd_tls_key_file = DIR/late.key", want: "certificate " + m + "smtpd_tls_cert_file: certificate DIR/late.pem has expired at 2026-11-22 11:00:00 UTC"},
		// Relays.
		{main: "smtpd_relay_restrictions = permit_mynetworks, permit", want: "open-relay " + m + "service smtp/inet relays mail for strangers: nothing in smtpd_relay_restrictions and smtpd_recipient_restrictions refuses them"},
		{main: "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, check_client_access static:OK, reject_unauth_destination", want: "open-relay DIR/main.cf:6: service smtp/inet relays mail for strangers: nothing in smtpd_relay_restrictions and smtpd_recipient_restrictions refuses them"},
		{main: "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination"},
		{main: "smtpd_relay_restrictions = permit\nsmtpd_recipient_restrictions = c\nsmtpd_restriction_classes = c\nc = permit_sasl_authenticated, reject"},
		{main: "mynetworks = 0.0.0.0/0", want: "open-relay " + m + "service smtp/inet relays mail for strangers: mynetworks holds every address"},
		{master: stock + "s2 inet n - y - - smtpd\n  -o smtpd_relay_restrictions=permit\n  -o smtpd_recipient_restrictions=\n", want: "open-relay DIR/master.cf:8: service s2/inet relays mail for strangers: nothing in smtpd_relay_restrictions and smtpd_recipient_restrictions refuses them"},
		{master: stock + "submission inet n - y - - smtpd\n  -o smtpd_relay_restrictions=\n  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject\n"},
		// Domains.
		{main: "virtual_alias_domains = a.example, M.example.com\nvirtual_alias_maps = inline:{a=b}", want: "domain-class " + m + "domain m.example.com is listed in both mydestination and virtual_alias_domains"},
		{main: "virtual_mailbox_domains = one.example\nrelay_domains = DIR/domains two.example", want: "domain-class DIR/main.cf:6: domain one.example is listed in both virtual_mailbox_domains and relay_domains"},
		{main: "relay_domains = $mydestination, x.example"},
		// Options that are not read.
		{master: stock + "s2 inet n - y - - smtpd\n  -o biff=no -o header_checks=\n  -o smtpd_helo_required=yes -o mine=a -o relayhost=$mine\n", want: "not-read DIR/master.cf:8: -o biff has no effect: smtpd does not read it (read by: local)\n" +
			"not-read DIR/master.cf:8: -o header_checks has no effect: smtpd does not read it (read by: cleanup)"},
		{master: stock + "md unix - n n - - pipe -o md_destination_recipient_limit=1 -o md_time_limit=5 user=x argv=/y\n", want: "not-read DIR/master.cf:7: -o md_destination_recipient_limit has no effect: the queue manager reads it from main.cf, not pipe"},
		{master: stock + "s2 inet n - y - - smtpd -o syslog_name=postfix/submission -o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes -o smtpd_tls_auth_only=yes\n" +
			"  -o smtpd_reject_unlisted_recipient=no -o milter_macro_daemon_name=ORIGINATING -o smtpd_tls_wrappermode=yes -o cleanup_service_name=c2 -o content_filter= -o receive_override_options=no_address_mappings\n" +
			"relay unix - - y - - smtp -o smtp_helo_timeout=5 -o smtp_connect_timeout=5 -o smtp_fallback_relay= -o smtp_dns_support_level=disabled\ncustom unix - - - - - /usr/lib/x -o biff=no\n"},
		// What later releases give up.
		{main: "smtpd_use_tls = yes", want: "deprecated-parameter " + m + `support for parameter "smtpd_use_tls" will be removed; instead, specify smtpd_tls_security_level = may`},
		{main: "fallback_relay = a.example\nvirtual_maps = inline:{a=b}", want: "deprecated-parameter " + m + `support for parameter "fallback_relay" will be removed; instead, specify smtp_fallback_relay` + "\n" +
			`deprecated-parameter DIR/main.cf:6: support for parameter "virtual_maps" will be removed; instead, specify virtual_alias_maps and virtual_alias_domains`},
		{master: stock + "s2 inet n - y - - smtpd -o smtpd_tls_eecdh_grade=ultra\n", want: `deprecated-parameter DIR/master.cf:7: support for parameter "smtpd_tls_eecdh_grade" will be removed; instead, leave it at its default`},
	} {
		if got := review(t, dir, c.main, c.master); got != c.want {
			t.Errorf("%s\n%s\ngot:\n%s\nwant:\n%s", c.main, strings.TrimPrefix(c.master, stock), got, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "xabcy", 2}, {"abc", "xyz", 3}, {"", "abcdefgh", 5}} {
		if got := distance(c.a, c.b, 5); got != c.want {
			t.Errorf("%s, %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestUnusable(t *testing.T) {
	dir := t.TempDir()
	main := "smtpd_hard_error_limit = x\nqmqpd_timeout = x\nbiff = x\nmaildrop_time_limit = x\nsmtpd_recipient_limit = 5\n"
	settings := conf.Settings{"config_directory": dir}
	write(t, dir+"/main.cf", main)
	write(t, dir+"/master.cf", stock+"s2 inet n - y - - smtpd -o smtpd_recipient_limit=y -o qmqpd_timeout=y\n")
	parsed, err := conf.ParseSettings(strings.NewReader(main), "main.cf", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range parsed {
		settings[name] = value
	}
	findings, err := Unusable(conf.FromMap(settings))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range findings {
		names = append(names, f.Parameter)
	}
	// Nothing in this master.cf reads what is set for qmqpd and local.
	if got := strings.Join(names, " "); got != "smtpd_hard_error_limit maildrop_time_limit smtpd_recipient_limit" {
		t.Error(got)
	}
}

// FuzzReview: no master.cf makes the review panic.
func FuzzReview(f *testing.F) {
	f.Add("smtp inet n - y - - smtpd -o {a = b} -vo c=d -o")
	f.Add("x unix\n  -o smtpd_relay_restrictions={permit} -o virtual_alias_maps=pipemap:{hash:/a,{b}}")
	f.Fuzz(func(t *testing.T, master string) {
		dir := t.TempDir()
		write(t, dir+"/main.cf", "relayhost = x\n")
		write(t, dir+"/master.cf", master)
		if _, err := Review(conf.FromMap(map[string]string{"config_directory": dir}), today, nil); err != nil {
			t.Error(err)
		}
	})
}

// A deprecated name is one that 3.7 knows, and what to use instead exists.
func TestDeprecatedNamesExist(t *testing.T) {
	legacy := strings.Fields(`virtual_maps fallback_relay authorized_verp_clients smtpd_client_connection_limit_exceptions
		postscreen_dnsbl_ttl postscreen_blacklist_action postscreen_dnsbl_whitelist_threshold postscreen_whitelist_interfaces
		lmtp_per_record_deadline smtp_per_record_deadline smtpd_per_record_deadline tlsproxy_client_level tlsproxy_client_policy`)
	for name, instead := range deprecated {
		if _, ok := conf.LookupParameter(name); !ok && !slices.Contains(legacy, name) {
			t.Errorf("there is no parameter %s", name)
		}
		for word := range strings.FieldsSeq(instead) {
			if _, ok := conf.LookupParameter(word); !ok && strings.Contains(word, "_") {
				t.Errorf("%s: there is no parameter %s", name, word)
			}
		}
	}
}

// A list that is no file is not waited for, nor read without an end.
func TestListedIsNoFile(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Skip(err)
	}
	done := make(chan []string)
	go func() { done <- listed(fifo + " /dev/zero A.example") }()
	select {
	case got := <-done:
		if len(got) != 1 || got[0] != "a.example" {
			t.Error(got)
		}
	case <-time.After(5 * time.Second):
		t.Error("still reading")
	}
}
