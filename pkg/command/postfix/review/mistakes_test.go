package review

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMistakes: what administrators get wrong, and what they get right.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/list", "x.example\n")
	const m, s = "DIR/main.cf:5: ", "DIR/master.cf:7: "
	for _, c := range []struct{ main, master, want string }{
		{main: "relayhost = [smtp.example.com] 587", want: "bad-value " + m + "relayhost = [smtp.example.com] 587: one destination is possible, a port stands behind a colon"},
		{main: "relayhost = [smtp.example.com]:587"},
		{main: "mynetworks = 192.168.1.0/33", want: "bad-value " + m + "mynetworks: 192.168.1.0/33 is no address and no network block"},
		{main: "mynetworks = 10.0.0.1/8", want: "bad-value " + m + "mynetworks: 10.0.0.1/8 has an address behind its 8 bits; 10.0.0.0/8 is the network"},
		{main: "mynetworks = [2001:db8::1]/32", want: "bad-value " + m + "mynetworks: [2001:db8::1]/32 has an address behind its 32 bits; 2001:db8::/32 is the network"},
		{main: "mynetworks = 127.0.0.1 !10.1.0.0/16 10.0.0.0/8, [::1]/128 [2001:db8::]/32 cidr:DIR/list DIR/list host.example.com"},
		{main: "mynetworks = 127.0.0.0/8 # office", want: "bad-value " + m + "mynetworks: a comment after other text is not possible: #"},
		{main: "mydestination = m.example.com, DIR/none", want: "table " + m + "mydestination: file DIR/none cannot be read: No such file or directory"},
		{main: "mydestination = m.example.com, DIR/list"},
		{main: "smtpd_relay_restrictions = permit_mynetwork, reject_unauth_destination", want: "restriction " + m + "smtpd_relay_restrictions: unknown restriction permit_mynetwork; is permit_mynetworks meant?"},
		{main: "smtpd_client_restrictions = reject_rbl_client", want: "restriction " + m + "smtpd_client_restrictions: reject_rbl_client needs an argument"},
		{main: "smtpd_sender_restrictions = check_sender_access DIR/list", want: "restriction " + m + "smtpd_sender_restrictions: check_sender_access must be followed by a table, type:name, not DIR/list"},
		{main: "smtpd_recipient_restrictions = check_policy_service private/policy", want: "restriction " + m + "smtpd_recipient_restrictions: check_policy_service must be followed by a server, inet:HOST:PORT or unix:PATH, not private/policy"},
		{main: "smtpd_restriction_classes = mine\nmine = reject_rbl_client a.example, permit\nsmtpd_helo_restrictions = mine, warn_if_reject reject_invalid_hostname, sleep 3, cidr:DIR/list, { check_policy_service unix:x, timeout=3s }, PERMIT\n"},
		{main: "smtpd_restriction_classes = mine\nmine = rejekt\nsmtpd_helo_restrictions = mine", want: "restriction DIR/main.cf:6: mine: unknown restriction rejekt; is reject meant?"},
		{main: "smtpd_data_restrictions = reject_unauth_pipelining, totally_else", want: "restriction " + m + "smtpd_data_restrictions: unknown restriction totally_else"},
		{main: "transport_maps = DIR/list", want: "table " + m + "transport_maps: DIR/list is no table; write TYPE:DIR/list"},
		{main: "message_size_limit = 60000000\nmailbox_size_limit = 50000000", want: "bad-value DIR/main.cf:6: mailbox_size_limit is smaller than message_size_limit: no mail is delivered locally"},
		{main: "message_size_limit = 60000000", want: "bad-value " + m + "mailbox_size_limit is smaller than message_size_limit: no mail is delivered locally"},
		{main: "message_size_limit = 60000000\nmailbox_size_limit = 0"},
		{main: "smtp_sasl_auth_enable = yes", want: "bad-value " + m + "smtp_sasl_auth_enable = yes needs smtp_sasl_password_maps"},
		{main: "smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = static:a:b"},
		{main: "content_filter = smtp-amavis:[127.0.0.1]:10024", want: "service " + m + "content_filter: there is no service smtp-amavis in DIR/master.cf"},
		{main: "default_transport = smpt", want: "service " + m + "default_transport: there is no service smpt in DIR/master.cf"},
		{main: "default_transport = smtp:[a.example]\ncontent_filter ="},
		{main: "myorigin = $mydomian", want: "unknown-parameter " + m + "myorigin: $mydomian has no value; is $mydomain meant?\n" +
			"bad-value " + m + "bad string length 0 < 1: myorigin = "},
		{main: "notify_classes = bounce resources software", want: "bad-value " + m + "bad value: notify_classes: resources; specify some of: 2bounce bounce data delay policy protocol resource software"},
		{main: "smtpd_tls_protocols = !SSLv2 !SSLv3 TLSv1.4", want: "bad-value " + m + "bad value: smtpd_tls_protocols: TLSv1.4; specify some of: sslv2 sslv3 tlsv1 tlsv1.0 tlsv1.1 tlsv1.2 tlsv1.3"},
		{main: "smtpd_tls_protocols = >=TLSv1.2\nsmtp_tls_protocols = !SSLv2, !SSLv3, !TLSv1:!TLSv1.1"},
		{main: "smtpd_milters = localhost:8891", want: "bad-value " + m + "smtpd_milters: localhost:8891 is no server; write inet:HOST:PORT or unix:PATH"},
		{main: "smtpd_milters = inet:localhost:8891, { unix:/x, default_action=accept } local:y"},
		{master: stock + "submission inet n - y - - smtpd -o smtpd_tls_security_level = encrypt\n", want: "service " + s + "service submission/inet: the word = is no option; a value with blanks stands in braces: -o { name = value }"},
		{master: stock + "submission inet n - y - - smtpd -o smtpd_recipient_restrictions=permit_sasl_authenticated, reject\n", want: "service " + s + "service submission/inet: the word reject is no option; a value with blanks stands in braces: -o { name = value }"},
		{master: stock + "submission inet n - y - - smtpd -v -o { smtpd_recipient_restrictions = permit_sasl_authenticated, reject }\n"},
		{master: stock + "x unix - - y - - smtpd -m 5 -vi3 -o smtpd_helo_required=yes -n x\n"},
		{master: stock + "smtp inet n - y - - smtpd\n", want: "service " + s + "service smtp/inet is there twice"},
	} {
		if got := review(t, dir, c.main, c.master); got != c.want {
			t.Errorf("%s\n%s\ngot:\n%s\nwant:\n%s", c.main, strings.TrimPrefix(c.master, stock), got, c.want)
		}
	}
}

// The names are those that smtpd knows.
func TestRestrictionNames(t *testing.T) {
	text, err := os.ReadFile("../../../daemon/smtpd/registry.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\t\t"(\w+)": +\{(arg: \w+)?`).FindAllStringSubmatch(string(text), -1) {
		list := alone
		if m[2] != "" {
			list = slices.Concat(beforeArgument, accessChecks)
		}
		if !slices.Contains(list, m[1]) {
			t.Errorf("%s is not known", m[1])
		}
		names = append(names, m[1])
	}
	if len(names) < 55 {
		t.Fatalf("%d names", len(names))
	}
	for _, name := range slices.Concat(alone, beforeArgument) {
		if !slices.Contains(names, name) && name != "warn_if_reject" && name != "reject_sender_login_mismatch" { // the parser's
			t.Errorf("smtpd does not know %s", name)
		}
	}
}
