package smtp

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/deliver"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// authSettings are those for a server on this machine.
func authSettings(more mp) mp {
	m := mp{"smtp_sasl_auth_enable": "yes", "smtp_sasl_password_maps": "inline:{{127.0.0.1=jo:t0p:secret}}", "smtp_sasl_security_options": "noanonymous", "notify_classes": "protocol"}
	for k, v := range more {
		m[k] = v
	}
	return m
}

const authEHLO = "EHLO: 250-fake.test|250 AUTH LOGIN PLAIN\n"

func TestAuthenticate(t *testing.T) {
	login := []string{"C: AUTH LOGIN", "C: am8=", "C: " + b64("t0p:secret")}
	plain := []string{"C: AUTH PLAIN " + b64("\x00jo\x00t0p:secret")}
	for i, c := range []struct {
		settings mp
		script   string
		heard    []string
		want     string // in the log
	}{
		{nil, authEHLO + "AUTH: 235 ok", plain, "status=sent"},
		{mp{"smtp_sasl_mechanism_filter": "login"}, authEHLO + "AUTH: 334 VXNlcm5hbWU6\nam8=: 334 UGFzc3dvcmQ6\n" + b64("t0p:secret") + ": 235 ok", login, "status=sent"},
		{nil, authEHLO + "AUTH: 535 5.7.8 no", plain, "dsn=4.7.8, status=deferred (SASL authentication failed; server 127.0.0.1[127.0.0.1] said: 535 5.7.8 no)"},
		{mp{"smtp_sasl_auth_soft_bounce": "no"}, authEHLO + "AUTH: 535 5.7.8 no", plain, "dsn=5.7.8, status=bounced (SASL"},
		{mp{"smtp_sasl_security_options": "noplaintext"}, authEHLO, nil, "cannot authenticate to server 127.0.0.1[127.0.0.1]: no mechanism available)"},
		{mp{"smtp_sasl_mechanism_filter": "cram-md5"}, authEHLO, nil, "offered no compatible authentication mechanisms for this type of connection security)"},
		{mp{"smtp_sasl_password_maps": "inline:{other=x}"}, authEHLO, nil, "status=sent"},
		{nil, "", nil, "status=sent"},
		{nil, authEHLO + "AUTH: 334 \nX: 334 ", plain, "generic failure)"},
		{nil, authEHLO + "AUTH: close", plain, "lost connection with 127.0.0.1[127.0.0.1] while performing the EHLO handshake"},
		{mp{"smtp_sasl_password_maps": "fail:x"}, authEHLO, nil, "local data error while talking to 127.0.0.1"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			o := newOurs(t, false, authSettings(c.settings))
			tc := testCase{servers: []string{c.script}, nexthop: one}
			req, list, _ := tc.prepare(t, o.spoolWorld, i)
			o.deliver(req)
			log := strings.Join(o.lines.Lines(), "\n")
			if !strings.Contains(log, c.want) {
				t.Errorf("no %q in\n%s", c.want, log)
			}
			for _, s := range []string{"t0p", b64("t0p:secret"), b64("\x00jo\x00t0p:secret")} {
				if strings.Contains(log, s) {
					t.Errorf("shows %s:\n%s", s, log)
				}
			}
			var dialogue []string
			for _, line := range tc.heard(list)[0] {
				if strings.HasPrefix(line, "C: ") && !strings.Contains("EHLO MAIL RCPT DATA QUIT", strings.Fields(line)[1]) {
					dialogue = append(dialogue, line)
				}
			}
			if strings.Join(dialogue, "|") != strings.Join(c.heard, "|") {
				t.Errorf("heard %q, want %q", dialogue, c.heard)
			}
		})
	}
}

// A cached session serves only those who would have logged in as it did.
func TestCacheKeepsLogins(t *testing.T) {
	o := newOurs(t, false, authSettings(mp{"smtp_sender_dependent_authentication": "yes",
		"smtp_sasl_password_maps": "inline:{{a@x.test=alice:pa} {b@x.test=bob:pb}}"}))
	c := testCase{servers: []string{authEHLO + "AUTH: 235 ok"}, nexthop: one, flags: deliver.ConnLoad | deliver.ConnStore}
	sender := "a@x.test"
	c.sender = &sender
	req, list, _ := c.prepare(t, o.spoolWorld, 1)
	for _, s := range []string{"a@x.test", "b@x.test", "a@x.test", "none@x.test"} {
		req.Sender = s
		o.message(req, "Subject: x\n\n")
		o.deliver(req)
	}
	var got []string
	for _, line := range c.heard(list)[0] {
		switch {
		case strings.HasPrefix(line, "C: MAIL"), strings.HasPrefix(line, "--"):
			got = append(got, line)
		case strings.HasPrefix(line, "C: AUTH"):
			data, _ := base64.StdEncoding.DecodeString(strings.Fields(line)[3])
			got = append(got, fmt.Sprintf("login %q", data))
		}
	}
	want := "-- connection 1\nlogin \"\\x00alice\\x00pa\"\nC: MAIL FROM:<a@x.test>\n-- connection 2\nlogin \"\\x00bob\\x00pb\"\nC: MAIL FROM:<b@x.test>\nC: MAIL FROM:<a@x.test>\n-- connection 3\nC: MAIL FROM:<none@x.test>"
	if strings.Join(got, "\n") != want {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

func TestAuthSettings(t *testing.T) {
	for _, v := range []struct {
		settings mp
		want     string
	}{
		{mp{"smtp_sasl_password_maps": ""}, "specify a password table via the `smtp_sasl_password_maps' configuration parameter"},
		{mp{"smtp_sasl_type": "dovecot"}, "SASL library initialization"},
		{mp{"smtp_sasl_auth_cache_name": "btree:x"}, `SASL authentication cache name "btree:x" must start with "proxy:"`},
		{mp{"smtp_sasl_security_options": "bogus"}, "SASL per-connection initialization failed"},
		{nil, "<nil>"},
	} {
		m := authSettings(v.settings)
		m["myhostname"], m["inet_protocols"] = "mail.example.com", "ipv4"
		if _, err := newSettings(conf.FromMap(m), false); fmt.Sprint(err) != v.want {
			t.Errorf("%v: %v", v.settings, err)
		}
	}
}
