package sasl

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// verify checks a password for the identity name, who wants to act as authzid.
func (d *dialogue) verify(ctx context.Context, name, authzid, password string) *failure {
	user, bad := d.canonical(name)
	if bad != nil {
		return bad
	}
	d.user = user
	if bad := d.check(ctx, user, password); bad != nil {
		if bad.detail != "" {
			d.Warn("SASL authentication failure: %s", bad.detail)
			bad.detail = ""
		}
		return bad
	}
	if authzid == "" {
		return nil
	}
	return d.assume(authzid)
}

// assume makes authzid the login name, which must be the one authenticated.
func (d *dialogue) assume(authzid string) *failure {
	other, bad := d.canonical(authzid)
	if bad != nil {
		return bad
	}
	user := d.user
	if d.user = other; other != user {
		return fail(resultBadAuth, "Requested identity not authenticated identity")
	}
	return nil
}

// servePlain is RFC 4616.
func servePlain(_ *mechanism, d *dialogue) step {
	return func(ctx context.Context, response []byte, _ bool) ([]byte, bool, *failure) {
		parts := bytes.SplitN(response, []byte{0}, 4)
		switch {
		case len(parts) < 2:
			return nil, false, fail(resultBadProt, "Can only find author (no password)")
		case len(parts) < 3:
			return nil, false, fail(resultBadProt, "Can only find author/en (no password)")
		case len(parts) > 3:
			return nil, false, fail(resultBadProt, "Got more data than we were expecting in the PLAIN plugin\n")
		}
		bad := d.verify(ctx, string(parts[1]), string(parts[0]), string(parts[2]))
		if bad != nil && bad.detail == "" {
			bad = fail(bad.result, "Password verification failed")
		}
		return nil, bad == nil, bad
	}
}

// serveLogin asks for the name and the password in two questions.
func serveLogin(_ *mechanism, d *dialogue) step {
	name, named := "", false
	return func(ctx context.Context, response []byte, given bool) ([]byte, bool, *failure) {
		switch {
		case !given:
			return []byte("Username:"), false, nil
		case !named:
			if len(response) > maxName {
				return nil, false, fail(resultBadProt, "Username is too long")
			}
			name, named = string(response), true
			return []byte("Password:"), false, nil
		}
		bad := d.verify(ctx, name, "", string(response))
		return nil, bad == nil, bad
	}
}

// serveAnonymous is RFC 4505; the trace information is not kept.
func serveAnonymous(_ *mechanism, d *dialogue) step {
	return func(context.Context, []byte, bool) ([]byte, bool, *failure) {
		var bad *failure
		d.user, bad = d.canonical("anonymous")
		return nil, true, bad
	}
}

// serveCram is RFC 2195.
func serveCram(_ *mechanism, d *dialogue) step {
	challenge := ""
	return func(_ context.Context, response []byte, given bool) ([]byte, bool, *failure) {
		if !given {
			challenge = fmt.Sprintf("<%s.%d@%s>", hex.EncodeToString(random(8)), time.Now().Unix(), d.Hostname)
			return []byte(challenge), false, nil
		}
		i := bytes.LastIndexByte(response, ' ')
		if i < 0 {
			return nil, false, fail(resultBadProt, "need authentication name")
		}
		user, bad := d.canonical(string(response[:i]))
		if bad != nil {
			return nil, false, bad
		}
		d.user = user
		secret, found, bad := d.secret(user)
		if bad != nil {
			return nil, false, bad
		}
		if !found {
			return nil, false, fail(resultBadAuth, "")
		}
		if !equal(cramResponse(secret, challenge), string(response[i+1:])) {
			return nil, false, fail(resultBadAuth, "incorrect digest response")
		}
		return nil, true, nil
	}
}

// cramResponse is the keyed digest of RFC 2195.
func cramResponse(secret, challenge string) string {
	mac := hmac.New(md5.New, []byte(secret))
	mac.Write([]byte(challenge))
	return hex.EncodeToString(mac.Sum(nil))
}

// serveDigest is RFC 2831 with quality of protection "auth".
func serveDigest(_ *mechanism, d *dialogue) step {
	nonce := encode64(random(32))
	realm := d.Realm
	if realm == "" {
		realm = d.Hostname
	}
	return func(_ context.Context, response []byte, given bool) ([]byte, bool, *failure) {
		switch {
		case !given:
			return fmt.Appendf(nil, `nonce="%s",realm="%s",qop="auth",charset=utf-8,algorithm=md5-sess`, nonce, realm), false, nil
		case len(response) == 0:
			return nil, false, fail(resultBadAuth, "input expected in DIGEST-MD5, step 2")
		}
		return d.digestResponse(response, nonce, realm)
	}
}

// digestResponse judges the client's answer.
func (d *dialogue) digestResponse(response []byte, nonce, realm string) ([]byte, bool, *failure) {
	p, err := parseDigest(string(response))
	if err != nil {
		return nil, false, fail(resultBadAuth, "Parse error")
	}
	for _, n := range []string{"realm", "qop", "digest-uri"} {
		if len(p[n]) > 1 {
			return nil, false, fail(resultBadAuth, "duplicate "+n+": authentication aborted")
		}
	}
	for _, n := range [][2]string{{"username", "username"}, {"nc", "noncecount"}, {"nonce", "nonce"}, {"cnonce", "cnonce"}, {"digest-uri", "digesturi"}, {"response", "response"}} {
		if len(p[n[0]]) == 0 {
			return nil, false, fail(resultBadAuth, "required parameters missing: "+n[1])
		}
	}
	switch {
	case p.get("nonce") != nonce || p.get("nc") != "00000001":
		return nil, false, fail(resultBadAuth, "nonce changed: authentication aborted")
	case len(p["realm"]) > 0 && p.get("realm") != realm:
		return nil, false, fail(resultBadAuth, "The client tries to override server provided realm")
	case p.get("qop") != "" && p.get("qop") != "auth":
		return nil, false, fail(resultBadProt, "protocol violation: client requested invalid qop")
	case !strings.HasPrefix(strings.ToLower(p.get("digest-uri")), d.Service+"/"):
		return nil, false, fail(resultBadAuth, "bad digest-uri: doesn't match service")
	}
	name := p.get("username")
	if r := p.get("realm"); r != "" && r != d.Hostname && !strings.Contains(name, "@") {
		name += "@" + r
	}
	user, bad := d.canonical(name)
	if bad != nil {
		return nil, false, bad
	}
	d.user = user
	secret, found, bad := d.secret(user)
	if bad != nil {
		return nil, false, bad
	}
	if !found {
		return nil, false, fail(resultBadAuth, "unable to canonify user and get auxprops")
	}
	in := digestInput{user: p.get("username"), realm: p.get("realm"), password: secret, nonce: nonce, cnonce: p.get("cnonce"),
		count: p.get("nc"), qop: "auth", uri: p.get("digest-uri"), authzid: p.get("authzid")}
	if !equal(in.response(true), strings.ToLower(p.get("response"))) {
		return nil, false, fail(resultBadAuth, "client response doesn't match what we generated (tried bogus)")
	}
	if in.authzid != "" {
		if bad := d.assume(in.authzid); bad != nil {
			return nil, false, bad
		}
	}
	return []byte("rspauth=" + in.response(false)), true, nil
}
