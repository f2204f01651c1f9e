package sasl

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

func TestCramVector(t *testing.T) { // RFC 2195 §2
	client := newCram(nil, Credentials{User: "tim", Password: "tanstaaftanstaaf"})
	got, err := client.Next([]byte("<1896.697170952@postoffice.reston.mci.net>"))
	if err != nil || string(got) != "tim b913a602c7eda7a495b4e6e7334d3890" {
		t.Errorf("%q %v", got, err)
	}
}

func TestDigestVector(t *testing.T) { // RFC 2831 §4
	client := &digestClient{c: Credentials{User: "chris", Password: "secret", Service: "imap", Host: "elwood.innosoft.com"}, cnonce: "OA6MHXh6VqTrRk"}
	got, err := client.Next([]byte(`realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8`))
	if err != nil || !strings.HasSuffix(string(got), ",response=d388dad90d4bbd760a152321f2143af7") {
		t.Fatalf("%q %v", got, err)
	}
	if got, err := client.Next([]byte("rspauth=ea40f60335c427b5527b84dbabcdfffd")); err != nil || len(got) != 0 {
		t.Errorf("%q %v", got, err)
	}
}

func TestScramVectors(t *testing.T) { // RFC 5802 §5, RFC 7677 §3
	for _, v := range []struct{ mech, nonce, first, proof, server string }{
		{"SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL", "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="},
		{"SCRAM-SHA-256", "rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
	} {
		client := &scramClient{m: findMechanism(v.mech), c: Credentials{User: "user", Password: "pencil"}, nonce: v.nonce}
		if _, ir, _ := client.Start(); string(ir) != "n,,n=user,r="+v.nonce {
			t.Errorf("%s: %q", v.mech, ir)
		}
		if got, err := client.Next([]byte(v.first)); err != nil || string(got) != v.proof {
			t.Errorf("%s: %q %v", v.mech, got, err)
		}
		if client.Verified() {
			t.Error("verified too early")
		}
		if _, err := client.Next([]byte(v.server)); err != nil || !client.Verified() {
			t.Errorf("%s: %v", v.mech, err)
		}
	}
}

func TestScramServerMustProveItself(t *testing.T) {
	client := &scramClient{m: findMechanism("SCRAM-SHA-1"), c: Credentials{User: "user", Password: "pencil"}, nonce: "abc"}
	client.Start()
	for _, first := range []string{"", "r=abc,s=QUJD,i=4096", "r=xbcd,s=QUJD,i=4096", "r=abcd,s=,i=4096", "r=abcd,s=QUJD,i=0", "r=abcd,s=QUJD,i=999999999", "r=abcd,i=1", "m=x,r=abcd,s=QUJD,i=4096"} {
		client.step = 0
		if _, err := client.Next([]byte(first)); err == nil {
			t.Errorf("%q is accepted", first)
		}
	}
	client.step = 0
	if _, err := client.Next([]byte("r=abcd,s=QUJD,i=4096")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Next([]byte("v=AAAAAAAAAAAAAAAAAAAAAAAAAAA=")); err == nil {
		t.Error("a wrong signature is accepted")
	}
}

func TestChoose(t *testing.T) {
	all := strings.Fields("LOGIN PLAIN XOAUTH2 CRAM-MD5 DIGEST-MD5 scram-sha-256 SCRAM-SHA-1 GSSAPI")
	for _, v := range []struct {
		offer  []string
		demand Options
		want   string
	}{
		{all, 0, "SCRAM-SHA-256"}, {all[:5], 0, "DIGEST-MD5"}, {all[:4], 0, "CRAM-MD5"}, {all[:3], 0, "PLAIN"}, {all[:1], 0, "LOGIN"},
		{all[2:3], 0, "XOAUTH2"}, {all[:3], NoPlaintext, ""}, {all[:5], MutualAuth, "DIGEST-MD5"}, {all[:5], NoActive, ""}, {all, NoDictionary, ""}, {nil, 0, ""},
	} {
		c, err := Choose(v.offer, v.demand, Credentials{User: "u"})
		got := ""
		if err == nil {
			got, _, _ = c.Start()
		} else if err != ErrNoMechanism {
			t.Error(err)
		}
		if got != v.want {
			t.Errorf("%v %v: %q, want %q", v.offer, v.demand, got, v.want)
		}
	}
}

func TestXOAuth2(t *testing.T) {
	c, _ := Choose([]string{"XOAUTH2"}, 0, Credentials{User: "u@x", Password: "ya29"})
	if _, ir, _ := c.Start(); string(ir) != "user=u@x\x01auth=Bearer ya29\x01\x01" {
		t.Errorf("%q", ir)
	}
	if r, err := c.Next([]byte(`{"status":"400"}`)); err != nil || r == nil || len(r) > 0 {
		t.Error(r, err)
	}
}

// Both sides must agree, for every mechanism with a secret.
func TestBothSides(t *testing.T) {
	srv := NewCyrus(map[string]string{"sasldb_path": "testdata/sasldb2"})
	srv.Hostname = "mail.example.com"
	for _, m := range mechanisms() {
		if m.serve == nil || m.speak == nil {
			continue
		}
		for _, v := range []struct {
			user, password, authzid string
			ok                      bool
		}{{"joe", "good", "", true}, {"joe", "bad", "", false}, {"eve", "good", "", false}, {"joe", "", "", false}, {"joe@example.com", "good", "", true}, {"joe", "good", "joe", true}, {"joe", "good", "root", false}} {
			if v.authzid != "" && (m.name == "LOGIN" || m.name == "CRAM-MD5") {
				continue
			}
			out := converse(t, srv, m.speak(&m, Credentials{User: v.user, Password: v.password, Authzid: v.authzid, Service: "smtp", Host: "x"}))
			if (out.Status == OK) != v.ok || v.ok && out.User != v.user {
				t.Errorf("%s %+v: %+v", m.name, v, out)
			}
		}
	}
}

func converse(t testing.TB, b Backend, client Client) Outcome {
	mech, ir, _ := client.Start()
	r := Request{Mechanism: mech}
	if ir != nil {
		text := Encode(ir)
		r.Initial = &text
	}
	x, out := b.Start(context.Background(), r)
	for i := 0; out.Status == Challenge; i++ {
		challenge, err := Decode(out.Text)
		if err != nil || i > 10 {
			t.Fatal(i, err)
		}
		response, err := client.Next(challenge)
		if err != nil {
			return Outcome{Status: Failed, Text: err.Error()}
		}
		out = x.Next(context.Background(), Encode(response))
	}
	return out
}

func TestParseOptions(t *testing.T) {
	if o, err := ParseOptions("noplaintext, NoAnonymous mutual_auth"); err != nil || o != NoPlaintext|NoAnonymous|MutualAuth {
		t.Error(o, err)
	}
	if _, err := ParseOptions("noanonymous, x"); fmt.Sprint(err) != `unknown SASL security options value "x" in "noanonymous, x"` {
		t.Error(err)
	}
}

func FuzzDigest(f *testing.F) {
	f.Add(`realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth,auth-int",algorithm=md5-sess,charset=utf-8`)
	f.Add(`a="\"\\", b = c ,, d=`)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseDigest(s)
		if err != nil {
			return
		}
		var b strings.Builder
		for name, values := range p {
			for _, v := range values {
				b.WriteString(name + "=" + quoteDigest(v) + ",")
			}
		}
		if again, err := parseDigest(b.String()); err != nil || len(again) != len(p) {
			t.Errorf("%q: %q %v", s, b.String(), err)
		}
		client := &digestClient{c: Credentials{User: "u@r"}}
		client.Next([]byte(s))
	})
}

func FuzzScram(f *testing.F) {
	f.Add("r=abcd,s=QUJD,i=2", "n,,n=joe,r=abc", "c=biws,r=abc,p=x")
	f.Fuzz(func(t *testing.T, challenge, first, final string) {
		if len(challenge) < 100 && !strings.Contains(challenge, "i=") {
			client := &scramClient{m: findMechanism("SCRAM-SHA-1"), nonce: "abc"}
			client.Start()
			client.Next([]byte(challenge))
		}
		srv := NewCyrus(map[string]string{"sasldb_path": "testdata/none"})
		first, final = Encode([]byte(first)), Encode([]byte(final))
		if x, out := srv.Start(t.Context(), Request{Mechanism: "SCRAM-SHA-1", Initial: &first}); out.Status == Challenge {
			if out = x.Next(t.Context(), final); out.Status == OK {
				t.Error("let in")
			}
		}
	})
}
