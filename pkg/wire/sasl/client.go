package sasl

import (
	"strings"

	sasl "github.com/emersion/go-sasl"
)

// Credentials are what a client authenticates itself with.
type Credentials struct {
	User, Password string
	Authzid        string // identity to act as, "" is the user's own
	Service, Host  string // "smtp" or "lmtp", and the server's name, for DIGEST-MD5
}

// Client is the client's side of a mechanism. Start gives the initial
// response, nil if the server has to speak first; Next answers a challenge.
// An error's text is in the words of the Cyrus library.
type Client = sasl.Client

// ErrNoMechanism is returned when no mechanism that is offered will do.
var ErrNoMechanism error = fail(resultNoMech, "No worthy mechs found")

// clientOrder is the library's preference, best first.
var clientOrder = [...]string{"SCRAM-SHA-512", "SCRAM-SHA-384", "SCRAM-SHA-256", "SCRAM-SHA-224", "SCRAM-SHA-1",
	"DIGEST-MD5", "CRAM-MD5", "PLAIN", "LOGIN", "XOAUTH2"}

// stepAfterEnd is what the library says of a challenge too many.
const stepAfterEnd = "attempting client step after doneflag"

// Choose picks a mechanism out of a server's offer that meets the demands.
func Choose(offer []string, demand Options, c Credentials) (Client, error) {
	if strings.Trim(c.User, " \t\r\n\v\f") == "" {
		return nil, fail(resultFail, "All-whitespace username.")
	}
	for _, name := range clientOrder {
		m := findMechanism(name)
		if m.speak == nil || m.has&demand != demand {
			continue
		}
		for _, o := range offer {
			if strings.EqualFold(o, name) {
				return m.speak(m, c), nil
			}
		}
	}
	return nil, ErrNoMechanism
}

// Decode understands a challenge as the server sent it.
func Decode(challenge string) ([]byte, error) {
	data, bad := decode64(challenge)
	if bad != nil {
		return nil, bad
	}
	return data, nil
}

// Encode is the form of a response in SMTP.
func Encode(response []byte) string { return encode64(response) }

func newPlain(_ *mechanism, c Credentials) Client {
	return &once{Client: sasl.NewPlainClient(c.Authzid, c.User, c.Password)}
}

// once refuses every challenge but the empty one, which asks for the initial
// response again.
type once struct{ sasl.Client }

func (once) Next([]byte) ([]byte, error) { return nil, fail(resultFail, stepAfterEnd) }

// loginClient answers the two questions of LOGIN, whatever their words are.
type loginClient struct{ answers []string }

func newLogin(_ *mechanism, c Credentials) Client {
	return &loginClient{answers: []string{c.User, c.Password}}
}

func (l *loginClient) Start() (string, []byte, error) { return "LOGIN", nil, nil }

func (l *loginClient) Next([]byte) ([]byte, error) {
	if len(l.answers) == 0 {
		return nil, fail(resultFail, stepAfterEnd)
	}
	answer := l.answers[0]
	l.answers = l.answers[1:]
	return []byte(answer), nil
}

// cramClient is RFC 2195.
type cramClient struct {
	c    Credentials
	done bool
}

func newCram(_ *mechanism, c Credentials) Client { return &cramClient{c: c} }

func (c *cramClient) Start() (string, []byte, error) { return "CRAM-MD5", nil, nil }

func (c *cramClient) Next(challenge []byte) ([]byte, error) {
	if c.done || len(challenge) > 2048 {
		return nil, fail(resultFail, stepAfterEnd)
	}
	c.done = true
	return []byte(c.c.User + " " + cramResponse(c.c.Password, string(challenge))), nil
}

// digestClient is RFC 2831 with quality of protection "auth".
type digestClient struct {
	c      Credentials
	cnonce string
	in     digestInput
	step   int
}

func newDigest(_ *mechanism, c Credentials) Client { return &digestClient{c: c} }

func (d *digestClient) Start() (string, []byte, error) { return "DIGEST-MD5", nil, nil }

func (d *digestClient) Next(challenge []byte) ([]byte, error) {
	d.step++
	if len(challenge) > 2048 || d.step > 2 {
		return nil, fail(resultFail, stepAfterEnd)
	}
	p, err := parseDigest(string(challenge))
	if err != nil {
		return nil, fail(resultBadAuth, "Parse error")
	}
	if d.step == 2 {
		if !equal(p.get("rspauth"), d.in.response(false)) {
			return nil, fail(resultBadServer, "DIGEST-MD5: This server wants us to believe that he knows shared secret")
		}
		return []byte{}, nil
	}
	if bad := d.acceptable(p); bad != nil {
		return nil, bad
	}
	if d.cnonce == "" {
		d.cnonce = encode64(random(32))
	}
	d.in = digestInput{user: d.c.User, password: d.c.Password, nonce: p.get("nonce"), cnonce: d.cnonce, count: "00000001",
		qop: "auth", uri: d.c.Service + "/" + d.c.Host, authzid: d.c.Authzid}
	d.in.user, d.in.realm = d.realm(p["realm"])
	out := "username=" + quoteDigest(d.in.user)
	if d.in.realm != "" || len(p["realm"]) > 0 {
		out += ",realm=" + quoteDigest(d.in.realm)
	}
	if d.in.authzid != "" {
		out += ",authzid=" + quoteDigest(d.in.authzid)
	}
	out += ",nonce=" + quoteDigest(d.in.nonce) + ",cnonce=" + quoteDigest(d.cnonce) + ",nc=00000001,qop=auth"
	if p.get("charset") != "" {
		out += ",charset=utf-8"
	}
	return []byte(out + ",digest-uri=" + quoteDigest(d.in.uri) + ",response=" + d.in.response(true)), nil
}

// acceptable says why a challenge is one that we cannot answer.
func (d *digestClient) acceptable(p directives) *failure {
	switch {
	case len(p["nonce"]) != 1:
		return fail(resultFail, "required parameters missing: nonce")
	case len(p["algorithm"]) == 0:
		return fail(resultFail, "Must see 'algorithm' once. Didn't see at all")
	case len(p["algorithm"]) > 1 || !strings.EqualFold(p.get("algorithm"), "md5-sess"):
		return fail(resultFail, "Must see 'algorithm' only once")
	case len(p["qop"]) == 0:
		return nil
	}
	for _, q := range strings.FieldsFunc(p.get("qop"), func(r rune) bool { return r == ',' || r == ' ' }) {
		if strings.EqualFold(q, "auth") {
			return nil
		}
	}
	return fail(resultTooWeak, "Server doesn't support \"no layer\"")
}

// realm chooses among the server's: the one that the user name has after its
// "@", else the first.
func (d *digestClient) realm(offered []string) (user, realm string) {
	if i := strings.LastIndexByte(d.c.User, '@'); i >= 0 {
		for _, r := range offered {
			if strings.EqualFold(r, d.c.User[i+1:]) {
				return d.c.User[:i], r
			}
		}
	}
	if len(offered) > 0 {
		return d.c.User, offered[0]
	}
	return d.c.User, ""
}

// xoauth2 sends a bearer token, which is the password (Google's protocol). An
// error comes as a challenge, to which an empty response is the answer.
type xoauth2 struct {
	c    Credentials
	done bool
}

func newXOAuth2(_ *mechanism, c Credentials) Client { return &xoauth2{c: c} }

func (x *xoauth2) Start() (string, []byte, error) {
	return "XOAUTH2", []byte("user=" + x.c.User + "\x01auth=Bearer " + x.c.Password + "\x01\x01"), nil
}

func (x *xoauth2) Next([]byte) ([]byte, error) {
	if x.done {
		return nil, fail(resultFail, stepAfterEnd)
	}
	x.done = true
	return []byte{}, nil
}
