package sasl

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Cyrus authenticates as the Cyrus library does with Debian's plug-ins. Its
// fields do not change once it is in use.
type Cyrus struct {
	Service  string // smtpd_sasl_service; saslauthd and DIGEST-MD5 want to know
	Hostname string // realm of user names without one (myhostname)
	Realm    string // smtpd_sasl_local_domain, added to such names when it is not empty
	Warn     func(format string, a ...any)

	Config map[string]string // of smtpd.conf (LoadConfig)
	// Timeout limits a question to saslauthd. PAM modules may be slow, so
	// zero is a minute.
	Timeout time.Duration
	salt    []byte // secret of this process, for SCRAM's salts
}

// NewCyrus returns a backend with a configuration read by LoadConfig.
func NewCyrus(config map[string]string) *Cyrus {
	return &Cyrus{Service: "smtp", Config: config, Timeout: time.Minute, salt: random(32), Warn: func(string, ...any) {}}
}

// Warnings of the library's list of mechanisms.
var (
	errNoMechanism  = errors.New("xsasl_cyrus_server_get_mechanism_list: no mechanism available")
	errNoApplicable = errors.New("xsasl_cyrus_server_get_mechanism_list: no applicable SASL mechanisms")
)

// enabled is the mechanisms that mech_list allows, in its order.
func (c *Cyrus) enabled() []mechanism {
	var list []mechanism
	words, limited := c.Config["mech_list"]
	if !limited {
		for _, m := range mechanisms() {
			if m.serve != nil {
				list = append(list, m)
			}
		}
		return list
	}
	for _, w := range strings.Fields(words) {
		if m := findMechanism(w); m != nil && m.serve != nil {
			list = append(list, *m)
		}
	}
	return list
}

// Mechanisms implements Backend.
func (c *Cyrus) Mechanisms(_ context.Context, p Peer) ([]string, error) {
	var names []string
	all := c.enabled()
	for _, m := range all {
		if m.has&p.Options == p.Options {
			names = append(names, m.name)
		}
	}
	switch {
	case len(all) == 0:
		return nil, errNoMechanism
	case len(names) == 0:
		return nil, errNoApplicable
	}
	return names, nil
}

// step takes a response (nil: there is none yet) and gives the next challenge.
// done with a nil failure is success.
type step func(ctx context.Context, response []byte, given bool) (challenge []byte, done bool, bad *failure)

// dialogue is an Exchange of this backend.
type dialogue struct {
	*Cyrus
	name string // mechanism
	user string // login name so far
	next step
	over bool // all but the client's empty last response has come
}

// Start implements Backend.
func (c *Cyrus) Start(ctx context.Context, r Request) (Exchange, Outcome) {
	d := &dialogue{Cyrus: c}
	var initial []byte
	if r.Initial != nil {
		var bad *failure
		if initial, bad = decode64(*r.Initial); bad != nil {
			return nil, d.failed(bad)
		}
	}
	m, bad := c.pick(r)
	if bad != nil {
		return nil, d.failed(bad)
	}
	d.name = m.name
	if r.Initial != nil && !m.first && len(initial) > 0 && m.name == "CRAM-MD5" {
		return nil, d.failed(fail(resultBadProt, "Remote sent first but mech does not allow it."))
	}
	given := r.Initial != nil && (m.first || m.name == "LOGIN")
	if m.first && !given {
		// RFC 4954 §4: an empty challenge asks for the initial response.
		d.next = m.serve(m, d)
		return d, Outcome{Status: Challenge}
	}
	d.next = m.serve(m, d)
	out := d.advance(ctx, initial, given)
	if out.Status != Challenge {
		return nil, out
	}
	return d, out
}

// pick finds the mechanism of a request.
func (c *Cyrus) pick(r Request) (*mechanism, *failure) {
	for _, m := range c.enabled() {
		if !strings.EqualFold(m.name, r.Mechanism) {
			continue
		}
		switch missing := r.Options &^ m.has; {
		case missing&NoPlaintext != 0:
			return nil, fail(resultEncrypt, "")
		case missing != 0:
			return nil, fail(resultNoMech, "")
		}
		return &m, nil
	}
	return nil, fail(resultNoMech, "Couldn't find mech "+printable(r.Mechanism))
}

// Next implements Exchange.
func (d *dialogue) Next(ctx context.Context, response string) Outcome {
	data, bad := decode64(response)
	if bad != nil {
		return d.failed(bad)
	}
	if d.over {
		return Outcome{Status: OK, User: d.user}
	}
	return d.advance(ctx, data, true)
}

func (d *dialogue) advance(ctx context.Context, response []byte, given bool) Outcome {
	challenge, done, bad := d.next(ctx, response, given)
	switch {
	case bad != nil:
		return d.failed(bad)
	case done && challenge == nil:
		return Outcome{Status: OK, User: d.user}
	}
	d.over = done // data with success: SMTP needs another round (RFC 4954 §4)
	return Outcome{Status: Challenge, Text: encode64(challenge)}
}

// failed logs what the library would, and makes the outcome.
func (d *dialogue) failed(f *failure) Outcome {
	if f.detail != "" {
		d.Warn("SASL authentication failure: %s", f.detail)
	}
	status := Failed
	if f.result == resultFail {
		status = Temporary
	}
	return Outcome{Status: status, Text: f.result.String(), User: d.user}
}

// canonical is the form of a user name that is logged and looked up: without
// blanks around it, and with the realm if one is configured.
func (d *dialogue) canonical(name string) (string, *failure) {
	name = strings.Trim(name, " \t\n\v\f\r")
	if name == "" {
		return "", fail(resultFail, "All-whitespace username.")
	}
	if len(name) > maxName {
		return "", fail(resultFail, "")
	}
	if d.Realm != "" && !strings.Contains(name, "@") {
		name += "@" + d.Realm
	}
	return name, nil
}

// maxName is the longest user name, in bytes.
const maxName = 1024

// splitRealm cuts a name at its last "@".
func splitRealm(name, realm string) (user, in string) {
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return name, realm
}

// secret is the password of a canonical name, for mechanisms that need it
// readable.
func (d *dialogue) secret(name string) (string, bool, *failure) {
	realm := d.Realm
	if realm == "" {
		realm = d.Hostname
	}
	user, realm := splitRealm(name, realm)
	value, found, err := d.lookupDB(user, realm)
	if err != nil {
		d.Warn("SASL authentication problem: %v", err)
		return "", false, fail(resultFail, "")
	}
	return value, found, nil
}

// check tries a password with each pwcheck_method in turn.
func (d *dialogue) check(ctx context.Context, name, password string) *failure {
	methods, ok := d.Config["pwcheck_method"]
	if !ok {
		methods = "auxprop"
	}
	bad := fail(resultNoMech, "")
	for _, method := range strings.Fields(methods) {
		switch strings.ToLower(method) {
		case "auxprop":
			bad = d.checkDB(name, password)
		case "saslauthd":
			bad = d.askDaemon(ctx, name, password)
		default:
			d.Warn("SASL authentication problem: unknown password verifier(s) %s", methods)
			return fail(resultNoMech, "")
		}
		if bad == nil {
			return nil
		}
	}
	return bad
}

func (d *dialogue) checkDB(name, password string) *failure {
	secret, found, bad := d.secret(name)
	if bad != nil {
		return bad
	}
	if !found || !equal(secret, password) {
		return fail(resultBadAuth, "")
	}
	return nil
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 100)])
}
