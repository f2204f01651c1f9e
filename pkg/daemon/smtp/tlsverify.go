package smtp

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"syscall"
	"time"

	mailtls "posthaste/pkg/wire/tls"
)

// judge compares the server's certificate with the policy and logs what is
// wrong with it.
func (r *request) judge(s *session) mailtls.Trust {
	chain := s.tls.PeerCertificates
	if len(chain) == 0 {
		return mailtls.Anonymous
	}
	trust, problem := r.verdict(s, chain)
	if problem != "" && s.tls.DidResume && !s.policy.level.MustMatch() {
		problem = s.tlsPeer() + ": re-using session with untrusted certificate, look for details earlier in the log"
	}
	if problem != "" && (s.policy.level.MustMatch() || r.d.tls.log.Has(mailtls.LogUntrusted)) {
		r.d.log.Info("%s", problem)
	}
	return trust
}

// logCertificate tells what matched and whose certificate it is, if that is
// wanted.
func (r *request) logCertificate(s *session) {
	wanted := mailtls.LogPeerCert | mailtls.LogCertMatch | mailtls.LogVerbose
	chain := s.tls.PeerCertificates
	if len(chain) == 0 || !r.d.tls.log.Has(wanted) {
		return
	}
	peer, name := s.tlsPeer(), chain[0].Subject.CommonName
	if r.d.tls.log.Has(wanted&^mailtls.LogVerbose) && s.matched != "" {
		what := "matched peername"
		if s.policy.level == mailtls.LevelFingerprint {
			what = "Matched fingerprint"
		}
		r.d.log.Info("%s: %s: %s", peer, what, s.matched)
	}
	if s.policy.level > mailtls.LevelFingerprint && s.matched != "" {
		name = s.matched
	}
	d := r.d.engine.digest
	r.d.log.Info("%s: subject_CN=%s, issuer_CN=%s, fingerprint=%s, pkey_fingerprint=%s", peer, name, mailtls.IssuerName(chain[0]), d.Cert(chain[0]), d.PublicKey(chain[0]))
}

func (r *request) verdict(s *session, chain []*x509.Certificate) (trust mailtls.Trust, problem string) {
	p, peer := s.policy, s.tlsPeer()
	if p.level > mailtls.LevelFingerprint && len(p.match) == 0 {
		r.d.log.Warn("%s: could not configure peer name checks", peer)
		return mailtls.Untrusted, "server certificate verification failed for " + peer + ": num=1:unspecified certificate verification error"
	}
	e := r.d.engine
	j := mailtls.Judge{Level: p.level, Match: p.match, Digest: e.digest, Roots: e.roots, Anchors: p.anchors, Depth: r.d.tls.depth}
	v := j.Verdict(chain, peer, time.Now())
	s.matched = v.Matched
	if r.d.tls.log.Has(mailtls.LogVerbose) {
		for _, line := range v.Trace {
			r.d.log.Info("%s: %s", peer, line)
		}
	}
	return v.Trust, v.Problem
}

// earlyReply reports a reply that came under TLS before it was asked for: an
// attacker may have put commands before ours.
func (r *request) earlyReply(s *session) bool {
	if s.tls == nil || !r.d.tls.blockEarly || s.conn.Buffered() == 0 && !pendingRecord(s.conn.NetConn()) {
		return false
	}
	r.d.log.Warn("server %s violates %stls_block_early_mail_reply policy", s.server.name(), r.d.prefix)
	r.sessionFailed(s, local("4.7.0", "unexpected server message"), true)
	s.dead = true
	return true
}

// pendingRecord reports whether a TLS record with data has arrived that was not
// read yet; the connection is of no more use then. A read whose deadline has
// passed gets only what crypto/tls has in its buffer.
func pendingRecord(nc net.Conn) bool {
	c, ok := nc.(*tls.Conn)
	if !ok {
		return false
	}
	c.SetReadDeadline(time.Unix(1, 0))
	got, _ := c.Read(make([]byte, 1))
	c.SetReadDeadline(time.Time{})
	if got > 0 {
		return true
	}
	sc, ok := c.NetConn().(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	const applicationData = 23
	var first [1]byte
	n := 0
	raw.Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return n == 1 && first[0] == applicationData
}

// tlsPeer is the name of the server in log lines about an established TLS
// session.
func (s *session) tlsPeer() string { return strings.ToLower(s.server.relay()) }

// logReuse is the log line of a TLS connection that is used again.
func (s *session) logReuse() {
	if s.tls != nil {
		s.d.log.Info("%s", s.summary.Line(s.trust, "reused to", s.tlsPeer(), ""))
	}
}
