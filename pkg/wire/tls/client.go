package mailtls

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"
)

// Client is what a program has for TLS with servers. It is safe for concurrent
// use when its fields no longer change.
type Client struct {
	Credentials
	Grades   Grades
	Curves   []tls.CurveID // nil: those of crypto/tls
	Depth    int           // *_scert_verifydepth
	Digests  TLSADigests   // nil: StandardDigests
	Sessions *SessionCache // nil: sessions are not resumed
	Mask     LogMask
	Log      Logger
}

// Server is one connection to make.
type Server struct {
	Peer      string // "H[A]:P" in log lines
	Level     Level
	Protocols string
	Grade     string // of ciphers
	Exclude   string // ciphers not to use
	SNI       string
	Match     []string // reference names, or digests at level fingerprint
	Wildcards bool     // tls_wildcard_matches_multiple_labels
	Anchors   *Anchors
	TLSA      []TLSA // at the levels of DANE
	Session   string // the key of a session that may be resumed, which holds all of the policy
	// Cache is for the session instead of the Client's Sessions.
	Cache  tls.ClientSessionCache
	Logged bool // log the summary at any log level
}

// Connection is what the handshake led to.
type Connection struct {
	*tls.Conn
	State tls.ConnectionState
	Judgement
	Summary Summary
	Level   Level // less than that of the Server if its TLSA records are of no use
}

// OK reports whether the server is the one that was wanted.
func (c *Connection) OK() bool { return c.Level.Satisfied(c.Trust) }

// maxServerName is the length limit of a server's name, in octets.
const maxServerName = 255

// Connect makes the handshake, judges the server's certificate and logs both.
// What follows from a certificate that is not OK is the caller's decision. ok
// is false after a failed handshake, which is logged.
func (c *Client) Connect(ctx context.Context, raw net.Conn, s Server, timeout time.Duration) (conn *Connection, ok bool) {
	if c.Mask.Has(LogVerbose) {
		c.Log.Info("setting up TLS connection to %s", s.Peer)
	}
	recorder := &Recorder{}
	cfg, err := c.config(&s, recorder)
	if err != nil {
		c.Log.Warn("%s: %v", s.Peer, err)
		return nil, false
	}
	fallback := c.usable(&s)
	tc := tls.Client(raw, cfg)
	if timeout > 0 {
		tc.SetDeadline(time.Now().Add(timeout))
	}
	if err := tc.HandshakeContext(ctx); err != nil {
		LogHandshakeError(c.Log, "SSL_connect error to "+s.Peer, err)
		return nil, false
	}
	tc.SetDeadline(time.Time{})
	conn = &Connection{Conn: tc, State: tc.ConnectionState(), Level: s.Level}
	conn.Judgement = c.judge(&s, &conn.State)
	if chain := conn.State.PeerCertificates; fallback && len(chain) > 0 {
		conn.Name = nameOf(chain[0], s.Match, s.Wildcards)
	}
	conn.Summary = Describe(&conn.State, ClientSide, recorder)
	if conn.State.DidResume && conn.State.Version >= tls.VersionTLS13 && len(conn.State.PeerCertificates) > 0 {
		conn.Summary.Server = KeyOnly(conn.State.PeerCertificates[0])
	}
	peer := strings.ToLower(s.Peer)
	c.logCertificate(conn, peer)
	if c.Mask.Has(LogSummary) || s.Logged {
		c.Log.Info("%s", conn.Summary.Line(conn.Trust, "established to", peer, ""))
	}
	return conn, true
}

// config is what is wanted in crypto/tls's terms. The certificate is judged
// after the handshake, so that it never breaks one.
func (c *Client) config(s *Server, recorder *Recorder) (*tls.Config, error) {
	versions, err := ParseProtocols(s.Protocols)
	low, high, ok := versions.Range()
	if err == nil && !ok {
		err = errors.New("Invalid TLS protocol list \"" + s.Protocols + "\"")
	}
	if err != nil {
		return nil, errors.New(err.Error() + ": aborting TLS session")
	}
	list, err := c.Grades.List(s.Grade, s.Exclude)
	if err != nil {
		return nil, err
	}
	if c.Mask.Has(LogVerbose) {
		c.Log.Info("%s: TLS cipher list \"%s\"", s.Peer, list)
	}
	if len(s.SNI) > maxServerName {
		return nil, errors.New("TLS server name is too long: " + s.SNI[:64] + "...")
	}
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: low, MaxVersion: high, CipherSuites: Suites(list),
		CurvePreferences: c.Curves, ServerName: s.SNI, GetClientCertificate: clientCertificate(recorder.WrapAll(c.Certs))}
	switch {
	case s.Cache != nil:
		cfg.ClientSessionCache = s.Cache
	case c.Sessions != nil && s.Session != "":
		cfg.ClientSessionCache = c.Sessions.For(s.Session)
	}
	return cfg, nil
}

// usable tells which TLSA records are of no use. When all of them are the
// level becomes encrypt, unless it is dane-only, which then fails.
func (c *Client) usable(s *Server) (fallback bool) {
	if len(s.TLSA) == 0 || !s.Level.IsDANE() {
		return false
	}
	digests := c.Digests
	if digests == nil {
		digests = StandardDigests()
	}
	good, bad := digests.Usable(s.TLSA)
	for _, t := range bad {
		c.Log.Warn("%s: unusable TLSA RR: %s", s.Peer, t)
	}
	switch {
	case len(good) > 0:
		return false
	case s.Level == LevelDaneOnly:
		c.Log.Warn("%s: all TLSA records unusable", s.Peer)
		return false
	}
	c.Log.Warn("%s: all TLSA records unusable, fallback to unauthenticated TLS", s.Peer)
	s.Level, s.TLSA = LevelEncrypt, nil
	return true
}

// judge compares the server's certificate with what is wanted and logs what is
// wrong with it.
func (c *Client) judge(s *Server, state *tls.ConnectionState) Judgement {
	chain, peer := state.PeerCertificates, strings.ToLower(s.Peer)
	if len(chain) == 0 {
		return Judgement{Trust: Anonymous}
	}
	var v Judgement
	if s.Level > LevelFingerprint && len(s.Match) == 0 {
		c.Log.Warn("%s: could not configure peer name checks", peer)
		v = Judgement{Trust: Untrusted, Name: SubjectCN(chain[0]), Problem: certFailed + peer + ": num=1:unspecified certificate verification error"}
	} else {
		v = (&Judge{Level: s.Level, Match: s.Match, Wildcards: s.Wildcards, Digest: c.Digest, Roots: c.Roots, Anchors: s.Anchors, Depth: c.Depth,
			TLSA: s.TLSA, Digests: c.Digests}).Verdict(chain, peer, time.Now())
	}
	if c.Mask.Has(LogVerbose) && !state.DidResume {
		for _, line := range v.Trace {
			c.Log.Info("%s: %s", peer, line)
		}
	}
	if c.Mask.Has(LogCache) && state.DidResume {
		c.Log.Info("%s: Reusing old session", peer)
	}
	if v.Problem != "" && state.DidResume && !s.Level.MustMatch() {
		v.Problem = peer + ": re-using session with untrusted certificate, look for details earlier in the log"
	}
	if v.Problem != "" && (s.Level.MustMatch() || c.Mask.Has(LogUntrusted)) {
		c.Log.Info("%s", v.Problem)
	}
	return v
}

// logCertificate tells what matched and whose certificate it is, if that is
// wanted.
func (c *Client) logCertificate(conn *Connection, peer string) {
	wanted := LogPeerCert | LogCertMatch | LogVerbose
	chain := conn.State.PeerCertificates
	if len(chain) == 0 || !c.Mask.Has(wanted) {
		return
	}
	if conn.Matched != "" && conn.Trust != Untrusted {
		what := "matched peername"
		if conn.Level == LevelFingerprint {
			what = "Matched fingerprint"
		}
		c.Log.Info("%s: %s: %s", peer, what, conn.Matched)
	}
	if conn.ByTLSA != "" {
		c.Log.Info("%s: Matched %s", peer, conn.ByTLSA)
	}
	c.Log.Info("%s: subject_CN=%s, issuer_CN=%s, fingerprint=%s, pkey_fingerprint=%s", peer, conn.Name, IssuerName(chain[0]), c.Digest.Cert(chain[0]), c.Digest.PublicKey(chain[0]))
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
