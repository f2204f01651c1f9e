package smtp

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/sasl"
	"posthaste/pkg/wire/smtp"
	mailtls "posthaste/pkg/wire/tls"
)

// saslSettings are the parameters of authentication (delivery.md §2.10).
type saslSettings struct {
	enabled, senderDependent bool
	softBounce, authzid      bool
	plain, tls, verified     sasl.Options // demanded of mechanisms
	cacheName                string
	cacheTime                time.Duration
}

func (s *settings) readSASL(c *conf.Config) error {
	a := &s.sasl
	a.enabled = c.Bool(s.prefix + "sasl_auth_enable")
	a.senderDependent = !s.lmtp && c.Bool(s.prefix+"sender_dependent_authentication")
	if !a.enabled {
		return nil
	}
	if c.String(s.prefix+"sasl_password_maps") == "" {
		return fmt.Errorf("specify a password table via the `%ssasl_password_maps' configuration parameter", s.prefix)
	}
	a.softBounce, a.authzid = c.Bool(s.prefix+"sasl_auth_soft_bounce"), c.Bool("send_cyrus_sasl_authzid")
	a.cacheName, a.cacheTime = c.String(s.prefix+"sasl_auth_cache_name"), c.Duration(s.prefix+"sasl_auth_cache_time")
	if kind := c.String(s.prefix + "sasl_type"); kind != "cyrus" {
		c.Warnf("unsupported SASL client implementation: %s", kind)
		return errors.New("SASL library initialization")
	}
	if a.cacheName != "" && !strings.HasPrefix(a.cacheName, "proxy:") {
		return fmt.Errorf("SASL authentication cache name \"%s\" must start with \"proxy:\"", a.cacheName)
	}
	for _, o := range []struct {
		to   *sasl.Options
		name string
	}{{&a.plain, "sasl_security_options"}, {&a.tls, "sasl_tls_security_options"}, {&a.verified, "sasl_tls_verified_security_options"}} {
		var err error
		if *o.to, err = sasl.ParseOptions(c.String(s.prefix + o.name)); err != nil {
			c.Warnf("%v", err)
			c.Warnf("bad per-session SASL security properties")
			return errors.New("SASL per-connection initialization failed")
		}
	}
	return nil
}

// openSASL opens the tables of authentication.
func (t *tables) openSASL(env table.Env, s *settings, c *conf.Config) error {
	if !s.sasl.enabled {
		return nil
	}
	name := s.prefix + "sasl_password_maps"
	err := t.add(env, &t.password, name, c.String(name), table.Lock|table.FoldFix|table.UTF8Request)
	if err != nil {
		return err
	}
	if name = s.prefix + "sasl_mechanism_filter"; strings.TrimSpace(c.String(name)) != "" {
		if t.mechanisms, err = table.NewMatchList(env, name, c.String(name), table.MatchString, 0); err != nil {
			return err
		}
	}
	if s.sasl.cacheName != "" {
		t.authCache, err = table.OpenMode(env, s.sasl.cacheName, table.ReadWriteCreate, table.Lock|table.UTF8Request)
	}
	return err
}

// login is a user name and password for a server.
type login struct{ user, password string }

// login finds the credentials for a server: by sender, by its name, by the
// destination. nil is none.
func (r *request) login(srv server) (*login, error) {
	m := r.d.tables.password
	if m.Empty() {
		return nil, nil
	}
	value, found, err := "", false, error(nil)
	if r.d.sasl.senderDependent && r.sender != "" {
		x := r.d.extensions
		value, _, found, err = m.FindAddress(r.ctx, r.sender, table.AddressOptions{Delimiters: x.Delimiters, DoubleBounce: x.DoubleBounce,
			OwnerRequest: x.OwnerRequest, Form: table.FormExternalFirst})
	}
	for _, key := range []string{srv.host, r.dest.text} {
		if !found && err == nil {
			value, found, err = m.Find(r.ctx, key)
		}
	}
	if err != nil || !found {
		return nil, err
	}
	user, password, _ := strings.Cut(value, ":")
	return &login{user, password}, nil
}

// hasLogin reports whether there are, or may be, credentials for a session's
// server: they never go out without the protection that was wanted.
func (r *request) hasLogin(s *session) bool {
	if !r.d.sasl.enabled {
		return false
	}
	l, err := r.login(s.server)
	return err != nil || l != nil
}

// sameLogin reports whether a session from the cache was authenticated as
// this request would be now.
func (r *request) sameLogin(s *session) bool {
	if !r.d.sasl.enabled {
		return true
	}
	l, err := r.login(s.server)
	switch {
	case err != nil:
		return false
	case l == nil || s.login == nil:
		return l == nil && s.login == nil
	}
	return *l == *s.login
}

// noteMechanisms remembers what a server's AUTH lines offer.
func (s *session) noteMechanisms(offered []string, nothing bool) {
	s.mechanisms = nil
	if !s.d.sasl.enabled {
		return
	}
	if nothing {
		s.d.log.Warn("%s offered null AUTH mechanism list", s.server.relay())
		return
	}
	for _, name := range offered {
		if l := s.d.tables.mechanisms; l != nil {
			if yes, err := l.Match(context.Background(), name); err != nil || !yes {
				continue
			}
		}
		s.mechanisms = append(s.mechanisms, name)
	}
	if len(s.mechanisms) == 0 && len(offered) > 0 {
		s.d.log.Warn("%s offered no supported AUTH mechanisms: '%s'", s.server.relay(), strings.Join(offered, " "))
	}
}

// demands are the security options for the session as it is protected.
func (s *session) demands() sasl.Options {
	switch {
	case s.tls == nil:
		return s.d.sasl.plain
	case s.tls.Trust == mailtls.Verified:
		return s.d.sasl.verified
	}
	return s.d.sasl.tls
}

// authenticate has the dialogue of delivery.md §2.10, if there are credentials
// for the server.
func (r *request) authenticate(s *session) bool {
	if !r.d.sasl.enabled || s.features&featAuth == 0 {
		return true
	}
	l, err := r.login(s.server)
	if err != nil {
		r.d.log.Warn("%s: %ssasl_password_maps lookup error", r.j.ID, r.d.prefix)
		r.sessionFailed(s, s.dataError(), true)
		s.quit()
		return false
	}
	if s.login = l; l == nil {
		return true
	}
	if len(s.mechanisms) == 0 {
		return r.authFailed(s, "SASL authentication failed: server %s offered no compatible authentication mechanisms for this type of connection security", s.server.name())
	}
	if code, text, ok := r.rememberedFailure(s, l); ok {
		st := local(r.soften(code), "SASL [CACHED] authentication failed; server "+s.server.host+" said: "+text)
		st.DiagType, st.DiagText, st.MTAType, st.MTAName = "smtp", text, "dns", s.server.host
		r.sessionFailed(s, st, true)
		s.quit()
		return false
	}
	return r.authenticateAs(s, l)
}

// soften is smtp_sasl_auth_soft_bounce.
func (r *request) soften(code string) string {
	if r.d.sasl.softBounce && code != "" && code[0] == '5' {
		return "4" + code[1:]
	}
	return code
}

// authFailed reports a conclusion of our own.
func (r *request) authFailed(s *session, format string, a ...any) bool {
	r.sessionFailed(s, local("4.7.0", fmt.Sprintf(format, a...)), true)
	s.quit()
	return false
}

// libraryFailed reports that a mechanism cannot go on.
func (r *request) libraryFailed(s *session, err error) bool {
	var more interface{ Detail() string }
	if errors.As(err, &more) && more.Detail() != "" {
		r.d.log.Warn("%s", more.Detail())
	}
	st := local("4.7.0", "SASL authentication failed; cannot authenticate to server "+s.server.name()+": "+err.Error())
	st.DiagType, st.DiagText = "x-sasl", err.Error()
	r.sessionFailed(s, st, true)
	s.quit()
	return false
}

// maxAuthCommand is the longest AUTH command with an initial response
// (RFC 4954 §4), and maxAuthSteps the longest dialogue.
const (
	maxAuthCommand = 512
	maxAuthSteps   = 100
)

func (r *request) authenticateAs(s *session, l *login) bool {
	c := sasl.Credentials{User: l.user, Password: l.password, Service: strings.TrimSuffix(r.d.prefix, "_"), Host: s.server.host}
	if r.d.sasl.authzid {
		c.Authzid = l.user
	}
	client, err := sasl.Choose(s.mechanisms, s.demands(), c)
	if err != nil {
		return r.libraryFailed(s, err)
	}
	mech, initial, err := client.Start()
	if err != nil {
		return r.libraryFailed(s, err)
	}
	line, shown := "AUTH "+mech, "AUTH "+mech
	if initial != nil {
		if response := sasl.Encode(initial); len(mech)+len(response)+8 <= maxAuthCommand {
			line, shown, initial = line+" "+response, shown+" "+hiddenText, nil
		}
	}
	rep, err := s.askSecret(line, shown)
	for steps := 0; err == nil && rep.Class() == 3; steps++ {
		if steps > maxAuthSteps {
			st := local("4.3.0", "SASL authentication failed; authentication protocol loop with server "+s.server.name())
			r.sessionFailed(s, st, true)
			s.quit()
			return false
		}
		challenge, problem := sasl.Decode(challengeOf(rep))
		if problem != nil {
			return r.libraryFailed(s, problem)
		}
		response := initial
		if initial != nil && len(challenge) > 0 {
			return r.authFailed(s, "SASL authentication failed; non-empty initial %s challenge from server %s: %s", mech, s.server.name(), rep.OneLine())
		}
		if initial == nil {
			if response, problem = client.Next(challenge); problem != nil {
				return r.libraryFailed(s, problem)
			}
		}
		initial = nil
		rep, err = s.askSecret(sasl.Encode(response), hiddenText)
	}
	if err != nil {
		phase := phaseEHLO
		if r.d.lmtp {
			phase = phaseLHLO
		}
		r.sessionFailed(s, s.broken(err, phase), true)
		return false
	}
	if rep.Class() != 2 {
		r.rememberFailure(s, l, rep)
		before := "SASL authentication failed; server " + s.server.name() + " said: "
		st := s.refused(rep, r.soften(rep.DSN), before, "")
		st.Reason = strings.Replace(st.Reason, rep.OneLine(), strings.ReplaceAll(rep.Text, "\n", "?"), 1)
		r.sessionFailed(s, st, true)
		s.quit()
		return false
	}
	if v, ok := client.(interface{ Verified() bool }); ok && s.demands()&sasl.MutualAuth != 0 && !v.Verified() {
		return r.libraryFailed(s, errors.New("server failed mutual authentication step"))
	}
	return true
}

// challengeOf is the base64 text of a 3xx reply.
func challengeOf(rep smtp.Reply) string {
	line := firstLine(rep.Text)
	return strings.TrimSpace(line[min(4, len(line)):])
}

// hiddenText stands in transcripts for what may be a password.
const hiddenText = "<SASL response not shown>"

// askSecret is ask for a line that no transcript may show.
func (s *session) askSecret(line, shown string) (smtp.Reply, error) {
	limit := s.d.heloTimeout
	s.conn.Timeout = limit
	s.conn.StartRequest()
	if s.recording() {
		s.note("Out: " + shown)
	}
	s.conn.WriteString(oneLine(line))
	s.conn.WriteString("\r\n")
	if err := s.conn.Flush(); err != nil {
		s.dead = true
		return smtp.Reply{}, err
	}
	return s.reply(limit)
}

// The cache of failures keeps a client with a wrong password from being locked
// out: key "host;user", value "time;hash of the password;DSN;reply".

func authCacheKey(s *session, l *login) string { return s.server.host + ";" + l.user }

func passwordHash(password string) string {
	sum := sha1.Sum([]byte(password))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// authCacheCode is the reply that is worth remembering.
const authCacheCode = 535

func (r *request) rememberFailure(s *session, l *login, rep smtp.Reply) {
	if r.d.tables.authCache == nil || rep.Code != authCacheCode {
		return
	}
	value := fmt.Sprintf("%d;%s;%s;%s", time.Now().Unix(), passwordHash(l.password), rep.DSN, rep.OneLine())
	if err := table.Update(r.ctx, r.d.tables.authCache, authCacheKey(s, l), value, 0); err != nil {
		r.d.log.Warn("%s: %v", r.j.ID, err)
	}
}

// rememberedFailure finds an earlier failure with the same password.
func (r *request) rememberedFailure(s *session, l *login) (code, text string, ok bool) {
	cache := r.d.tables.authCache
	if cache == nil {
		return "", "", false
	}
	key := authCacheKey(s, l)
	value, found, err := cache.Lookup(r.ctx, key)
	if err != nil {
		r.d.log.Warn("SASL auth failure map %s: lookup failed for %s", r.d.sasl.cacheName, key)
	}
	if err != nil || !found {
		return "", "", false
	}
	parts := strings.SplitN(value, ";", 4)
	if len(parts) < 4 {
		r.d.log.Warn("bad smtp_sasl_auth_cache entry: %.100s", value)
	} else if parts[1] == passwordHash(l.password) {
		when, err := strconv.ParseInt(parts[0], 10, 64)
		if err == nil && time.Now().Before(time.Unix(when, 0).Add(r.d.sasl.cacheTime)) && len(parts[2]) > 0 {
			return parts[2], parts[3], true
		}
	}
	if _, err := table.Delete(r.ctx, cache, key, 0); err != nil {
		r.d.log.Warn("SASL auth failure map %s: entry not deleted: %s", r.d.sasl.cacheName, key)
	}
	return "", "", false
}
