package smtpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"posthaste/pkg/wire/smtp"
)

// tlsEngine is the server's side of TLS.
type tlsEngine struct{ config *tls.Config }

// tlsState is the TLS of a session.
type tlsState struct {
	protocol, cipher string
	bits             int
	exchange         string // key exchange of TLS 1.3
}

// loadTLS reads certificate and key (as root). Without them STARTTLS is
// offered and answered 454, as by the original (spec §7).
func (srv *Server) loadTLS() {
	t := srv.set.tls
	if !t.use || srv.standAlone {
		return
	}
	certFile, keyFile := t.certFile, t.keyFile
	if t.chainFiles != "" {
		certFile = strings.FieldsFunc(t.chainFiles, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })[0]
		keyFile = certFile
	}
	if certFile == "" || certFile == "none" {
		srv.log.Warn("No server certs available. TLS won't be enabled")
		return
	}
	cert, err := loadPair(certFile, keyFile)
	if err != nil {
		srv.log.Warn("%v: disabling TLS support", err)
		return
	}
	list := t.protocols
	if t.enforce {
		list = t.mandatoryProtocols
	}
	low, high, err := protocolRange(list)
	if err != nil {
		srv.log.Warn("%v: disabling TLS support", err)
		return
	}
	srv.tlsEngine = &tlsEngine{&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: low, MaxVersion: high}}
}

// loadPair reads a certificate chain and its key, which may be in one file.
func loadPair(certFile, keyFile string) (tls.Certificate, error) {
	certs, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot get RSA certificate from file \"%s\"", certFile)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot get RSA private key from file \"%s\"", keyFile)
	}
	cert, err := tls.X509KeyPair(certs, key)
	if err != nil {
		if block, _ := pem.Decode(certs); block == nil {
			return cert, fmt.Errorf("cannot get RSA certificate from file \"%s\"", certFile)
		}
		return cert, fmt.Errorf("cannot get RSA private key from file \"%s\"", keyFile)
	}
	if cert.Leaf == nil {
		cert.Leaf, _ = x509.ParseCertificate(cert.Certificate[0])
	}
	return cert, nil
}

var tlsVersions = []struct {
	name string
	id   uint16
}{{"TLSv1", tls.VersionTLS10}, {"TLSv1.1", tls.VersionTLS11}, {"TLSv1.2", tls.VersionTLS12}, {"TLSv1.3", tls.VersionTLS13}}

// protocolRange turns a protocol list into the lowest and highest version;
// versions excluded in between cannot be expressed and stay in.
func protocolRange(list string) (low, high uint16, err error) {
	allowed := map[uint16]bool{}
	var include, exclude []uint16
	bottom, top := uint16(0), uint16(0xffff)
	find := func(name string) (uint16, bool) {
		if strings.EqualFold(name, "SSLv2") || strings.EqualFold(name, "SSLv3") {
			return tls.VersionSSL30, true //lint:ignore SA1019 the name only
		}
		for _, v := range tlsVersions {
			if strings.EqualFold(v.name, name) {
				return v.id, true
			}
		}
		return 0, false
	}
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n:", r) }) {
		name := strings.TrimLeft(word, "!<>=")
		v, ok := find(name)
		if !ok {
			return 0, 0, fmt.Errorf("Invalid TLS protocol list \"%s\"", list)
		}
		switch {
		case strings.HasPrefix(word, ">="):
			bottom = v
		case strings.HasPrefix(word, "<="):
			top = v
		case strings.HasPrefix(word, "!"):
			exclude = append(exclude, v)
		default:
			include = append(include, v)
		}
	}
	for _, v := range tlsVersions {
		allowed[v.id] = len(include) == 0 && v.id >= bottom && v.id <= top
	}
	for _, v := range include {
		allowed[v] = true
	}
	for _, v := range exclude {
		allowed[v] = false
	}
	for _, v := range tlsVersions {
		if allowed[v.id] {
			if low == 0 {
				low = v.id
			}
			high = v.id
		}
	}
	if low == 0 {
		return 0, 0, fmt.Errorf("Invalid TLS protocol list \"%s\"", list)
	}
	return low, high, nil
}

// offersTLS reports whether EHLO announces STARTTLS.
func (s *session) offersTLS() bool {
	return s.srv.set.tls.use && !s.srv.set.tls.wrapper && s.tls == nil && !s.standAlone
}

func (s *session) cmdStartTLS(args []smtp.Token) bool {
	switch {
	case len(args) != 1:
		return s.protocolError("501 5.5.4 Syntax: STARTTLS")
	case s.milterForbids("454 4.3.0 Try again later"):
		return false
	case s.tls != nil:
		return s.protocolError("554 5.5.1 Error: TLS already active")
	case s.standAlone || !s.srv.set.tls.use || s.discard&noSTARTTLS != 0:
		return s.protocolError("502 5.5.1 Error: command not implemented")
	case s.srv.tlsEngine == nil:
		s.classes |= classSoftware
		s.reply("454 4.7.0 TLS not available due to local problem")
		return false
	}
	s.reply("220 2.0.0 Ready to start TLS")
	if err := s.conn.Flush(); err != nil {
		s.fail(err)
		return false
	}
	if !s.handshake() {
		s.over, s.reason = true, reasonLost
		return false
	}
	if s.heloGiven {
		s.abortMilters()
	}
	s.helo, s.heloGiven = "", false
	s.sasl = saslState{}
	s.reset()
	return true
}

// wrapperTLS is TLS from the first byte (smtpd_tls_wrappermode).
func (s *session) wrapperTLS() bool {
	if s.srv.tlsEngine == nil {
		s.log.Warn("Wrapper-mode request dropped from %s for service %s. TLS context initialization failed. For details see earlier warnings in your logs.", s.peer.namaddr, s.srv.service)
		return false
	}
	if !s.handshake() {
		s.log.Info("%s after %s from %s", reasonLost, s.where, s.peer.namaddr)
		return false
	}
	return true
}

// handshake puts TLS on the connection. Input that came before it is thrown
// away (spec §1.5).
func (s *session) handshake() bool {
	timeout := s.srv.set.startTLSTimeout
	raw := s.conn.NetConn()
	raw.SetDeadline(time.Now().Add(timeout))
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	conn := tls.Server(raw, s.srv.tlsEngine.config)
	err := conn.HandshakeContext(ctx)
	raw.SetDeadline(time.Time{})
	if err != nil {
		what := "-1"
		if isEOF(err) {
			what = "lost connection"
		} else if ctx.Err() != nil {
			what = "Connection timed out"
		}
		s.log.Info("SSL_accept error from %s: %s", s.peer.namaddr, what)
		if what == "-1" {
			s.log.Warn("TLS library problem: %s", smtp.Printable(err.Error(), '?'))
		}
		return false
	}
	s.conn.Replace(conn)
	st := conn.ConnectionState()
	s.tls = describeTLS(st)
	if level := s.srv.set.tls.logLevel; level != "" && level != "0" && level != "none" {
		sni := ""
		if st.ServerName != "" {
			sni = " to " + smtp.Printable(st.ServerName, '?')
		}
		s.log.Info("Anonymous TLS connection established from %s%s: %s with cipher %s (%d/%d bits)%s", s.peer.namaddr, sni, s.tls.protocol, s.tls.cipher, s.tls.bits, s.tls.bits, s.tls.exchange)
	}
	return true
}

func describeTLS(st tls.ConnectionState) *tlsState {
	t := &tlsState{cipher: opensslName(tls.CipherSuiteName(st.CipherSuite)), bits: 128}
	for _, v := range tlsVersions {
		if v.id == st.Version {
			t.protocol = v.name
		}
	}
	if strings.Contains(t.cipher, "256") || strings.Contains(t.cipher, "CHACHA") {
		if !strings.Contains(t.cipher, "128") {
			t.bits = 256
		}
	}
	if st.Version == tls.VersionTLS13 && st.CurveID != 0 {
		switch st.CurveID {
		case tls.X25519:
			t.exchange = " key-exchange X25519"
		case tls.CurveP256, tls.CurveP384, tls.CurveP521:
			t.exchange = fmt.Sprintf(" key-exchange ECDHE (%s)", map[tls.CurveID]string{tls.CurveP256: "prime256v1", tls.CurveP384: "secp384r1", tls.CurveP521: "secp521r1"}[st.CurveID])
		default:
			t.exchange = " key-exchange " + st.CurveID.String()
		}
	}
	return t
}

// opensslName is a cipher suite in OpenSSL's words, which logs and headers
// have always shown.
func opensslName(name string) string {
	if !strings.Contains(name, "_WITH_") {
		return name // TLS 1.3 suites have the same name everywhere
	}
	exchange, cipher, _ := strings.Cut(strings.TrimPrefix(name, "TLS_"), "_WITH_")
	cipher = strings.NewReplacer("AES_128", "AES128", "AES_256", "AES256", "CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305",
		"3DES_EDE_CBC_SHA", "DES-CBC3-SHA", "CBC_SHA", "SHA", "RC4_128", "RC4").Replace(cipher)
	out := strings.ReplaceAll(cipher, "_", "-")
	if exchange != "RSA" {
		out = strings.ReplaceAll(exchange, "_", "-") + "-" + out
	}
	return out
}

// headerLines are the lines of the Received: header about TLS.
func (t *tlsState) headerLines(asked bool) []string {
	lines := []string{fmt.Sprintf("\t(using %s with cipher %s (%d/%d bits)", t.protocol, t.cipher, t.bits, t.bits)}
	if t.exchange != "" {
		lines = append(lines, "\t"+t.exchange)
	}
	lines[len(lines)-1] += ")"
	if asked {
		return append(lines, "\t(Client did not present a certificate)")
	}
	return append(lines, "\t(No client certificate requested)")
}
