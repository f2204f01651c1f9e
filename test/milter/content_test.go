package milter

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// checkRules is one table for every action of header and body checks; the
// part before the blank is the pattern.
const checkRules = `
/^X-WARN|^body-warn/ WARN warned
/^X-INFO|^body-info/ INFO
/^X-HOLD|^body-hold/ HOLD held
/^X-DISCARD|^body-discard/ DISCARD gone
/^X-FILTER|^body-filter/ FILTER smtp:[127.0.0.1]:7025
/^X-BADFILTER|^body-badfilter/ FILTER nonsense
/^X-NOFILTER|^body-nofilter/ FILTER
/^X-PREPEND|^body-prepend/ PREPEND X-Pre: pended
/^X-BADPREPEND/ PREPEND nonsense
/^X-NOPREPEND|^body-noprepend/ PREPEND
/^X-REDIRECT|^body-redirect/ REDIRECT other@sink.test
/^X-BADREDIRECT|^body-badredirect/ REDIRECT nonsense
/^X-BCC|^body-bcc/ BCC bcc@sink.test
/^X-BADBCC|^body-badbcc/ BCC nonsense
/^X-REPLACE|^body-replace/ REPLACE X-Replaced: text
/^X-BADREPLACE/ REPLACE nonsense
/^X-REJECT |^body-reject /  DUNNO
/^X-REJECT|^body-reject/ REJECT 5.7.9 no such thing
/^X-TEMP|^body-temp/ REJECT 4.7.9 later
/^X-ODD|^body-odd/ REJECT 2.0.0 odd
/^X-PLAINREJECT|^body-plainreject/ REJECT
/^X-STRIP|^body-strip/ STRIP stripped
/^X-IGNORE|^body-ignore/ IGNORE ignored
/^X-DUNNO|^body-dunno/ DUNNO text
/^X-OK|^body-ok/ OK
/^X-PASS|^body-pass/ PASS passed
/^X-DELAY|^body-delay/ DELAY 4h
/^X-UNKNOWN|^body-unknown/ FOO bar
/^Content-Description: (.*)/ INFO mime $1
`

var checkWords = []string{"warn", "info", "hold", "discard", "filter", "badfilter", "nofilter", "prepend", "badprepend", "noprepend", "redirect", "badredirect",
	"bcc", "badbcc", "replace", "badreplace", "reject", "temp", "odd", "plainreject", "strip", "ignore", "dunno", "ok", "pass", "delay", "unknown"}

// checkMail makes the messages that meet each action in each kind of place.
func checkMail() (all []mail) {
	for _, w := range checkWords {
		h := "X-" + strings.ToUpper(w) + ": value\n\tfolded\n"
		all = append(all,
			mail{port: 2525, text: "Subject: s\n" + h + "X-INFO: after\n\nbody\n"},
			mail{port: 2525, text: "Subject: s\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Description: x\n" + h + "\npart\n--b\nContent-Type: message/rfc822\n\n" + h + "Subject: inner\n\ninner\n--b--\n"},
			mail{port: 2525, text: "Subject: s\n\none\nbody-" + w + " text\nbody-info\nthree\n"})
	}
	return all
}

const checkPath = "/etc/postfix/checks"

var checkSettings = []string{"header_checks = regexp:" + checkPath, "body_checks = regexp:" + checkPath, "non_smtpd_milters =", "smtpd_milters ="}

func TestCheckActions(t *testing.T) {
	t.Parallel()
	run := func(o world.Options) []outcome {
		o.Main = checkSettings
		l := newLabWith(t, o, true, func(l *lab) { writeFile(t, l, checkPath, checkRules) })
		var all []outcome
		for _, m := range checkMail() {
			fill(&m)
			all = append(all, l.run(t, m))
		}
		return all
	}
	want := run(world.Options{Suite: world.Debian})
	got := run(world.Options{Suite: world.Ours})
	for i, m := range checkMail() {
		if d := compare(want[i], got[i]); d != "" {
			t.Errorf("%s\n%s", m.text, d)
		}
	}
}

func writeFile(t testing.TB, l *lab, path, text string) {
	t.Helper()
	if err := os.WriteFile(l.Path(path), []byte(text), 0644); err != nil {
		t.Fatal(err)
	}
}

// contentMaster are the rows of an SMTP content filter with its way back, and
// of a filter that is a command.
const contentMaster = `
2526 inet n - n - - smtpd
  -o content_filter=scan:127.0.0.1:10025
2527 inet n - n - - smtpd
  -o content_filter=spamassassin:dummy
2528 inet n - n - - smtpd
  -o { header_checks= } -o cleanup_service_name=checked
checked unix n - n - 0 cleanup
  -o { header_checks = regexp:/etc/postfix/checks } -o { body_checks = regexp:/etc/postfix/checks }
scan unix - - n - 10 smtp
  -o smtp_send_xforward_command=yes -o disable_dns_lookups=yes
127.0.0.1:10026 inet n - n - - smtpd
  -o content_filter= -o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_milters,no_address_mappings
  -o smtpd_helo_restrictions= -o smtpd_client_restrictions= -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o mynetworks=127.0.0.0/8 -o smtpd_authorized_xforward_hosts=127.0.0.0/8 -o smtpd_milters=
spamassassin unix - n n - - pipe
  flags=Rq user=nobody argv=/usr/bin/spamc -e /usr/sbin/sendmail -oi -f ${sender} ${recipient}
`

// spamc does what SpamAssassin's client does with -e: a header more, and the
// message to the standard input of a command.
const spamc = `#!/bin/sh
[ "$1" = -e ] || exit 64
shift
(echo "X-Spam-Status: No"; cat) | "$@"
`

// TestContentFilter passes mail through filters and compares what comes out.
func TestContentFilter(t *testing.T) {
	t.Parallel()
	type result struct{ delivered, log string }
	messages := []struct {
		name string
		mail mail
		n    int // deliveries
	}{
		{"smtp filter", mail{port: 2526, from: "a@example.test ENVID=e1 RET=HDRS", to: "u1@sink.test list@example.test"}, 1},
		{"pipe filter", mail{port: 2527, from: "a@example.test", to: "u1@sink.test u2@sink.test"}, 1},
		{"pipe filter null sender", mail{port: 2527, from: "", to: "u1@sink.test"}, 1},
		{"FILTER action", mail{port: 2528, text: "X-FILTER: y\nSubject: f\n\nb\n"}, 1},
		{"REDIRECT action", mail{port: 2528, text: "X-REDIRECT: y\nSubject: f\n\nb\n"}, 1},
		{"BCC action", mail{port: 2528, text: "X-BCC: y\nSubject: f\n\nb\n"}, 1},
		{"client checks", mail{port: 2525, text: "Subject: f\nX-WARN: 1\nX-REPLACE: 1\nX-PREPEND: 1\nX-IGNORE: 1\nX-STRIP: 1\nX-REJECT: 1\nX-DISCARD: 1\nX-OK: 1\nX-INFO: 1\nX-FILTER: 1\nContent-Description: d\n\nb\nbody-replace\nbody-prepend\nbody-warn\nbody-ignore\nbody-strip\nbody-info\nbody-dunno\n"}, 1},
	}
	run := func(o world.Options) map[string]result {
		o.Main = []string{"smtp_header_checks = regexp:" + checkPath, "smtp_mime_header_checks = regexp:" + checkPath, "smtp_nested_header_checks = regexp:" + checkPath,
			"smtp_body_checks = regexp:" + checkPath, "relayhost = [127.0.0.1]:7025", "smtpd_milters =", "non_smtpd_milters ="}
		out, filter := &sink{}, &sink{}
		l := newLabWith(t, o, false, func(l *lab) {
			writeFile(t, l, checkPath, checkRules)
			text, _ := os.ReadFile(l.Path("/etc/postfix/master.cf"))
			writeFile(t, l, "/etc/postfix/master.cf", string(text)+contentMaster)
			if r := l.Run(spamc, "sh", "-c", "cat >/usr/bin/spamc && chmod 755 /usr/bin/spamc"); r.Code != 0 {
				t.Fatal(r.Err)
			}
			listen(t, l, "127.0.0.1:7025", out)
			listen(t, l, "127.0.0.1:10025", filter)
		})
		filter.relay = func(commands []string, text string) error {
			c, err := l.Dial("tcp", "127.0.0.1:10026")
			if err != nil {
				return err
			}
			return send(c, commands, "X-Scanned: yes\n"+text)
		}
		all := map[string]result{}
		for _, m := range messages {
			out.mu.Lock()
			out.mail = nil
			out.mu.Unlock()
			filter.mail = nil
			fill(&m.mail)
			if m.name == "pipe filter null sender" {
				m.mail.from = ""
			}
			mark := len(l.Syslog())
			replies := l.smtp(t, m.mail)
			got := out.received(m.n, 15*time.Second)
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				log := l.Syslog()[mark:]
				entered, left := strings.Count(log, "(queue active)"), strings.Count(log, ": removed")
				if len(l.files("active"))+len(l.files("incoming"))+len(l.files("maildrop")) == 0 && entered > 0 && left >= entered {
					break
				}
			}
			log := cleanupLog(l.Syslog()[mark:])
			all[m.name] = result{maskDelivery(l.mask("", fmt.Sprintf("%s\n%s\nscanned %s", strings.Join(replies, "\n"), strings.Join(got, "\n--\n"), strings.Join(filter.mail, "\n--\n")))), sortLines(maskDelivery(l.mask("", log)))}
		}
		return all
	}
	want := run(world.Options{Suite: world.Debian})
	got := run(world.Options{Suite: world.Ours})
	for _, m := range messages {
		if !strings.Contains(want[m.name].delivered, "Received: ") {
			t.Errorf("%s: Debian's suite delivered nothing: %s", m.name, want[m.name])
		}
		if want[m.name] != got[m.name] {
			t.Errorf("%s:\n%s%s", m.name, lineDiff(want[m.name].delivered, got[m.name].delivered), lineDiff(want[m.name].log, got[m.name].log))
		}
	}
}
