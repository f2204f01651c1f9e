package mailtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Accepted is what a server knows of a client after the handshake.
type Accepted struct {
	Summary
	Cert    *x509.Certificate // the client's; nil is none
	Trusted bool              // it leads to one of our CAs
	Resumed bool

	// Names and digests of the certificate.
	Subject, Issuer             string
	Fingerprint, KeyFingerprint string
}

// Accept makes the handshake with a client, within the time limit, and logs
// what *_tls_loglevel asks for; peer is the client's name there. ok is false
// after a failure, which is logged too.
func (a *Acceptor) Accept(ctx context.Context, raw net.Conn, peer string, timeout time.Duration) (conn *tls.Conn, client *Accepted, ok bool) {
	if a.set.Log.Has(LogVerbose) {
		a.log.Info("setting up TLS connection from %s", peer)
	}
	if a.cipherErr != nil {
		a.log.Warn("%s: %v", peer, a.cipherErr)
		return nil, nil, false
	}
	if a.set.Log.Has(LogVerbose) {
		a.log.Info("%s: TLS cipher list \"%s\"", peer, a.ciphers)
	}
	raw.SetDeadline(time.Now().Add(timeout))
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	h := &handshake{Acceptor: a, ctx: ctx, peer: peer}
	conn = tls.Server(raw, h.config())
	err := conn.HandshakeContext(limited)
	raw.SetDeadline(time.Time{})
	if err != nil {
		LogHandshakeError(a.log, "SSL_accept error from "+peer, err)
		return nil, nil, false
	}
	state := conn.ConnectionState()
	client = h.describe(&state)
	h.judge(client, &state)
	return conn, client, true
}

// LogHandshakeError logs why a handshake failed. It tells lost connections and
// system errors from errors of the protocol, which come with the library's
// text.
func LogHandshakeError(log Logger, what string, err error) {
	var errno syscall.Errno
	why := "-1"
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		why = "lost connection"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		why = "Connection timed out"
	case errors.As(err, &errno):
		why = strings.ToUpper(errno.Error()[:1]) + errno.Error()[1:]
	}
	log.Info("%s: %s", what, why)
	if why == "-1" {
		log.Warn("TLS library problem: %s", printable(err.Error()))
	}
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func (h *handshake) describe(state *tls.ConnectionState) *Accepted {
	p := &Accepted{Summary: Describe(state, ServerSide, &h.recorder), Resumed: state.DidResume}
	if len(state.PeerCertificates) > 0 {
		c := state.PeerCertificates[0]
		p.Cert = c
		p.Subject, p.Issuer = SubjectCN(c), IssuerName(c)
		p.Fingerprint, p.KeyFingerprint = h.digest.Cert(c), h.digest.PublicKey(c)
	}
	return p
}

// judge verifies the client's certificate and writes the lines of the log.
func (h *handshake) judge(p *Accepted, state *tls.ConnectionState) {
	set, peer := &h.set, strings.ToLower(h.peer)
	trust := Anonymous
	verdict := h.verifier.Verify(state.PeerCertificates, h.Now())
	if set.Log.Has(LogVerbose) && !p.Resumed {
		for _, line := range verdict.Trace() {
			h.log.Info("%s: %s", peer, line)
		}
	}
	if set.Log.Has(LogCache) {
		h.logTicket(p, peer)
	}
	if p.Cert != nil {
		p.Trusted, trust = verdict.Trusted(), Untrusted
		if p.Trusted {
			trust = Trusted
		}
		h.logCertificate(p, peer, verdict)
	}
	if set.Log.Has(LogSummary) {
		h.log.Info("%s", p.Line(trust, "established from", peer, h.matched))
	}
}

func (h *handshake) logTicket(p *Accepted, peer string) {
	switch {
	case p.Resumed:
		h.log.Info("%s: Decrypting session ticket, key expiration: %d", peer, h.tickets.Opened.Unix())
		h.log.Info("%s: Reusing old session (RFC 5077 session ticket)", peer)
	case !h.tickets.Issued.IsZero():
		h.log.Info("%s: Issuing session ticket, key expiration: %d", peer, h.tickets.Issued.Unix())
	}
}

func (h *handshake) logCertificate(p *Accepted, peer string, verdict Verdict) {
	mask := h.set.Log
	if mask.Has(LogVerbose) {
		h.log.Info("subject=%s", DistinguishedName(p.Cert.Subject))
		h.log.Info("issuer=%s", DistinguishedName(p.Cert.Issuer))
	}
	if mask.Has(LogPeerCert) {
		h.log.Info("%s: subject_CN=%s, issuer=%s, fingerprint=%s, pkey_fingerprint=%s", peer, p.Subject, p.Issuer, p.Fingerprint, p.KeyFingerprint)
	}
	switch {
	case p.Trusted || !mask.Has(LogUntrusted) && !h.set.ReqCert:
	case p.Resumed:
		h.log.Info("%s: re-using session with untrusted certificate, look for details earlier in the log", peer)
	default:
		h.log.Info("%s", verdict.Message("client", peer))
	}
}
