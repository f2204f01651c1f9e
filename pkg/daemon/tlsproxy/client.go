package tlsproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/conf"
	protocol "posthaste/pkg/ipc/tlsproxy"
	"posthaste/pkg/sys/maillog"
	mailtls "posthaste/pkg/wire/tls"
)

// maxConnectors bounds the sets of certificates and trust anchors that are
// kept loaded.
const maxConnectors = 20

// clientRole is TLS with servers of the network.
type clientRole struct {
	log        *maillog.Logger
	parameters map[string]string // of our configuration, to compare
	usual      *protocol.Client  // what most clients want
	sessions   *mailtls.SessionCache

	mu         sync.Mutex
	connectors map[string]*connector // by EngineKey
	warned     map[string]bool       // differences of settings
}

// connector is what all connections with the same certificates and trust
// anchors share.
type connector struct {
	role   *clientRole
	certs  []tls.Certificate
	roots  *mailtls.Roots
	digest mailtls.Digest
}

// load reads the certificates, keys and trust anchors of tlsproxy_client_*,
// which delivery agents have too if they are configured alike: as root, since
// later we may neither read nor see the files.
func (r *clientRole) load(c *conf.Config, log *maillog.Logger) error {
	r.log, r.connectors, r.parameters = log, map[string]*connector{}, map[string]string{}
	for _, name := range protocol.Parameters {
		r.parameters[name] = c.String(name)
		if flag := map[string]string{"yes": "1", "no": "0"}[r.parameters[name]]; flag != "" {
			r.parameters[name] = flag
		}
	}
	str := func(name string) string { return c.String("tlsproxy_client_" + name) }
	r.usual = &protocol.Client{Parameters: r.parameters, LogParam: str("loglevel_parameter"), LogLevel: str("loglevel"), Depth: c.Int("tlsproxy_client_scert_verifydepth"),
		Files: mailtls.Files{Chain: str("chain_files"), Cert: str("cert_file"), Key: str("key_file"), DCert: str("dcert_file"), DKey: str("dkey_file"),
			ECCert: str("eccert_file"), ECKey: str("eckey_file")},
		CAFile: str("CAfile"), CAPath: str("CApath"), Digest: str("fingerprint_digest")}
	r.sessions = mailtls.NewSessionCache(c.Duration("smtp_tls_session_cache_timeout"))
	level := str("security_level")
	if level == "none" || level == "" && !c.Bool("tlsproxy_client_use_tls") && !c.Bool("tlsproxy_client_enforce_tls") && str("policy_maps") == "" && str("per_site") == "" {
		return nil // what a client wants is loaded when it comes
	}
	r.find(r.usual)
	return nil
}

// compare warns of settings that are not ours. The client's are used all the
// same, as far as crypto/tls has them.
func (r *clientRole) compare(c *protocol.Client) {
	var library, engine []string
	for _, name := range protocol.Parameters {
		library = differ(library, name, r.parameters[name], c.Parameters[name])
	}
	theirs := c.Settings()
	for i, ours := range r.usual.Settings() {
		engine = differ(engine, ours[0], ours[1], theirs[i][1])
	}
	for _, list := range [][]string{library, engine} {
		if text := strings.Join(list, "; "); text != "" && !r.told(text) {
			r.log.Warn("request from tlsproxy client with unexpected settings")
			r.log.Warn("%s", text)
			r.log.Warn("to avoid this warning, 1) identify the tlsproxy client that is making this request, 2) configure a custom tlsproxy service with settings that match that tlsproxy client, and 3) configure that tlsproxy client with a tlsproxy_service_name setting that resolves to that custom tlsproxy service")
		}
	}
}

// told reports whether these differences were told before.
func (r *clientRole) told(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.warned[text] {
		return true
	}
	if r.warned == nil || len(r.warned) >= maxConnectors {
		r.warned = map[string]bool{}
	}
	r.warned[text] = true
	return false
}

func differ(list []string, name, ours, theirs string) []string {
	if ours == theirs {
		return list
	}
	return append(list, fmt.Sprintf("(server) '%s=%s' != (client) '%[1]s=%[3]s'", name, ours, theirs))
}

// find returns the connector for what a client has configured. A failure is
// logged, and is not tried again for others like it.
func (r *clientRole) find(c *protocol.Client) (*connector, bool) {
	r.compare(c)
	key := c.EngineKey()
	r.mu.Lock()
	defer r.mu.Unlock()
	found, known := r.connectors[key]
	if !known {
		if len(r.connectors) >= maxConnectors {
			clear(r.connectors)
		}
		found = r.newConnector(c)
		r.connectors[key] = found
	}
	return found, found != nil
}

func (r *clientRole) newConnector(c *protocol.Client) *connector {
	log := r.log
	mask, err := mailtls.ParseLogLevel(c.LogParam, c.LogLevel)
	if err != nil {
		log.Warn("%v", err)
	}
	if mask.Has(mailtls.LogVerbose) {
		log.Info("initializing the client-side TLS engine")
	}
	files, ok := mailtls.ClientFiles{Files: c.Files, CAFile: c.CAFile, CAPath: c.CAPath, SystemCA: c.Parameters["tls_append_default_CA"] == "1",
		FingerprintDigest: c.Digest}.Load(log.Info, log.Warn)
	if !ok {
		return nil
	}
	return &connector{role: r, certs: files.Certs, roots: files.Roots, digest: files.Digest}
}

// config is the client's policy in crypto/tls's terms. The certificate is
// judged after the handshake, so that it never breaks one.
func (n *connector) config(c *protocol.Client, mask mailtls.LogMask, recorder *mailtls.Recorder) (*tls.Config, error) {
	versions, err := mailtls.ParseProtocols(c.Protocols)
	low, high, ok := versions.Range()
	if err == nil && !ok {
		err = errors.New("Invalid TLS protocol list \"" + c.Protocols + "\"")
	}
	if err != nil {
		return nil, errors.New(err.Error() + ": aborting TLS session")
	}
	p := c.Parameters
	list, err := mailtls.Grades{High: p["tls_high_cipherlist"], Medium: p["tls_medium_cipherlist"], Low: p["tls_low_cipherlist"],
		Export: p["tls_export_cipherlist"], Null: p["tls_null_cipherlist"]}.List(c.Grade, c.Exclusions)
	if err != nil {
		return nil, err
	}
	if mask.Has(mailtls.LogVerbose) {
		n.role.log.Info("%s: TLS cipher list \"%s\"", c.NamAddr, list)
	}
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: low, MaxVersion: high, CipherSuites: mailtls.Suites(list),
		CurvePreferences: mailtls.Curves(p["tls_eecdh_auto_curves"]), ServerName: c.SNI}
	cfg.GetClientCertificate = clientCertificate(recorder.WrapAll(n.certs))
	if c.CacheType != "" {
		cfg.ClientSessionCache = n.role.sessions.For(sessionKey(c))
	}
	return cfg, nil
}

// sessionKey is the same for connections that may share a session: those to
// one server with one policy and one certificate of ours.
func sessionKey(c *protocol.Client) string {
	policy := []string{c.CacheType, c.ServerID, c.EngineKey(), c.Helo, c.Protocols, c.Grade, c.Exclusions, c.SNI, c.Level.String(), strings.Join(c.Match, "\n")}
	for _, t := range c.TLSA {
		policy = append(policy, string([]byte{byte(t.Usage), byte(t.Selector), byte(t.MatchType)})+string(t.Data))
	}
	return strings.Join(policy, "\x00")
}

// clientCertificate chooses the first certificate that a server can check,
// whatever authorities it names: as with OpenSSL it is the server's business
// what to make of it.
func clientCertificate(certs []tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		any := *info
		any.AcceptableCAs = nil
		for i := range certs {
			if any.SupportsCertificate(&certs[i]) == nil {
				return &certs[i], nil
			}
		}
		return &tls.Certificate{}, nil
	}
}

// connect makes the handshake with a server and judges its certificate.
func (n *connector) connect(ctx context.Context, network net.Conn, c *protocol.Client, timeout time.Duration) (*tls.Conn, *protocol.Context, bool) {
	log := n.role.log
	mask, err := mailtls.ParseLogLevel(c.LogParam, c.LogLevel)
	if err != nil {
		log.Warn("%v", err)
	}
	if mask.Has(mailtls.LogVerbose) {
		log.Info("setting up TLS connection to %s", c.NamAddr)
	}
	recorder := &mailtls.Recorder{}
	cfg, err := n.config(c, mask, recorder)
	if err != nil {
		log.Warn("%s: %v", c.NamAddr, err)
		return nil, nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	network.SetDeadline(time.Now().Add(timeout))
	conn := tls.Client(network, cfg)
	err = conn.HandshakeContext(ctx)
	network.SetDeadline(time.Time{})
	if err != nil {
		mailtls.LogHandshakeError(log, "SSL_connect error to "+c.NamAddr, err)
		return nil, nil, false
	}
	state := conn.ConnectionState()
	return conn, n.judge(c, mask, &state, recorder), true
}

// judge compares the server's certificate with the client's policy and logs
// what is wrong with it. What follows from that is the client's decision.
func (n *connector) judge(c *protocol.Client, mask mailtls.LogMask, state *tls.ConnectionState, recorder *mailtls.Recorder) *protocol.Context {
	log, peer, chain := n.role.log, strings.ToLower(c.NamAddr), state.PeerCertificates
	match := c.Match
	if c.Level != mailtls.LevelFingerprint {
		match = mailtls.References(match, c.NextHop, c.Host)
	}
	j := mailtls.Judge{Level: c.Level, Match: match, Wildcards: c.Parameters["tls_wildcard_matches_multiple_labels"] == "1",
		Digest: n.digest, Roots: n.roots, Depth: c.Depth, TLSA: c.TLSA}
	v := j.Verdict(chain, peer, time.Now())
	if mask.Has(mailtls.LogVerbose) && !state.DidResume {
		for _, line := range v.Trace {
			log.Info("%s: %s", peer, line)
		}
	}
	if mask.Has(mailtls.LogCache) && state.DidResume {
		log.Info("%s: Reusing old session", peer)
	}
	if v.Problem != "" && state.DidResume && !c.Level.MustMatch() {
		v.Problem = peer + ": re-using session with untrusted certificate, look for details earlier in the log"
	}
	if v.Problem != "" && (c.Level.MustMatch() || mask.Has(mailtls.LogUntrusted)) {
		log.Info("%s", v.Problem)
	}
	out := &protocol.Context{Level: c.Level, Summary: mailtls.Describe(state, mailtls.ClientSide, recorder), NamAddr: peer}
	if len(chain) > 0 {
		if state.DidResume && state.Version >= tls.VersionTLS13 {
			out.Server = mailtls.KeyOnly(chain[0])
		}
		n.describe(out, c, mask, v, state)
	}
	if mask.Has(mailtls.LogSummary) {
		log.Info("%s", out.Line(v.Trust, "established to", peer, ""))
	}
	return out
}

// describe tells whose certificate it is.
func (n *connector) describe(out *protocol.Context, c *protocol.Client, mask mailtls.LogMask, v mailtls.Judgement, state *tls.ConnectionState) {
	cert, log := state.PeerCertificates[0], n.role.log
	out.PeerCN, out.IssuerCN = mailtls.CommonName(cert), mailtls.IssuerName(cert)
	if c.Level > mailtls.LevelFingerprint && v.Matched != "" {
		out.PeerCN = v.Matched
	}
	out.Fingerprint, out.KeyFingerprint = n.digest.Cert(cert), n.digest.PublicKey(cert)
	out.Status = map[mailtls.Trust]int{mailtls.Untrusted: protocol.CertPresent, mailtls.Trusted: protocol.CertPresent | protocol.CertTrusted,
		mailtls.Verified: protocol.CertPresent | protocol.CertTrusted | protocol.CertMatched | protocol.PolicySecured}[v.Trust]
	wanted := mailtls.LogPeerCert | mailtls.LogCertMatch | mailtls.LogVerbose
	if mask.Has(wanted&^mailtls.LogVerbose) && v.Matched != "" {
		what := "matched peername"
		if c.Level == mailtls.LevelFingerprint {
			what = "Matched fingerprint"
		}
		log.Info("%s: %s: %s", out.NamAddr, what, v.Matched)
	}
	if mask.Has(wanted) {
		log.Info("%s: subject_CN=%s, issuer_CN=%s, fingerprint=%s, pkey_fingerprint=%s", out.NamAddr, out.PeerCN, out.IssuerCN, out.Fingerprint, out.KeyFingerprint)
	}
}
