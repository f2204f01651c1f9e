package tlsproxy

import (
	"context"
	"crypto/tls"
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
	connectors map[string]*mailtls.Client // by EngineKey
	warned     map[string]bool            // differences of settings
}

// load reads the certificates, keys and trust anchors of tlsproxy_client_*,
// which delivery agents have too if they are configured alike: as root, since
// later we may neither read nor see the files.
func (r *clientRole) load(c *conf.Config, log *maillog.Logger) error {
	r.log, r.connectors, r.parameters = log, map[string]*mailtls.Client{}, map[string]string{}
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
func (r *clientRole) find(c *protocol.Client) (*mailtls.Client, bool) {
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

func (r *clientRole) newConnector(c *protocol.Client) *mailtls.Client {
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
	p := c.Parameters
	return &mailtls.Client{Credentials: files, Depth: c.Depth, Sessions: r.sessions, Log: log, Curves: mailtls.Curves(p["tls_eecdh_auto_curves"]),
		Grades: mailtls.Grades{High: p["tls_high_cipherlist"], Medium: p["tls_medium_cipherlist"], Low: p["tls_low_cipherlist"],
			Export: p["tls_export_cipherlist"], Null: p["tls_null_cipherlist"]},
		Digests: mailtls.ParseTLSADigests(p["tls_dane_digests"], log.Warn)}
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

// connect makes the handshake with a server and judges its certificate. What
// follows from that is the client's decision.
func (r *clientRole) connect(ctx context.Context, engine *mailtls.Client, network net.Conn, c *protocol.Client, timeout time.Duration) (*tls.Conn, *protocol.Context, bool) {
	mask, err := mailtls.ParseLogLevel(c.LogParam, c.LogLevel)
	if err != nil {
		r.log.Warn("%v", err)
	}
	own := *engine
	own.Mask = mask
	s := mailtls.Server{Peer: c.NamAddr, Level: c.Level, Protocols: c.Protocols, Grade: c.Grade, Exclude: c.Exclusions, SNI: c.SNI, Match: c.Match,
		Wildcards: c.Parameters["tls_wildcard_matches_multiple_labels"] == "1", TLSA: c.TLSA}
	if c.Level != mailtls.LevelFingerprint {
		s.Match = mailtls.References(c.Match, c.NextHop, c.Host)
	}
	if c.CacheType != "" {
		s.Session = sessionKey(c)
	}
	conn, ok := own.Connect(ctx, network, s, timeout)
	if !ok {
		return nil, nil, false
	}
	out := &protocol.Context{Level: conn.Level, Summary: conn.Summary, NamAddr: strings.ToLower(c.NamAddr)}
	if chain := conn.State.PeerCertificates; len(chain) > 0 {
		out.PeerCN, out.IssuerCN = mailtls.CommonName(chain[0]), mailtls.IssuerName(chain[0])
		if c.Level > mailtls.LevelFingerprint && conn.Matched != "" {
			out.PeerCN = conn.Matched
		}
		out.Fingerprint, out.KeyFingerprint = engine.Digest.Cert(chain[0]), engine.Digest.PublicKey(chain[0])
		out.Status = status(conn)
	}
	return conn.Conn, out, true
}

// status is what the client is told of a certificate.
func status(conn *mailtls.Connection) int {
	bits := map[mailtls.Trust]int{mailtls.Untrusted: protocol.CertPresent, mailtls.Trusted: protocol.CertPresent | protocol.CertTrusted,
		mailtls.Verified: protocol.CertPresent | protocol.CertTrusted | protocol.CertMatched | protocol.PolicySecured}[conn.Trust]
	if conn.Level == mailtls.LevelHalfDane && conn.OK() {
		bits |= protocol.CertMatched
	}
	return bits
}
