package posttlsfinger

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/tlsproxy"
	"posthaste/pkg/sys/fdpass"
	mailtls "posthaste/pkg/wire/tls"
)

// viaProxy has tlsproxy make the handshake and speaks through it from then on.
func (f *finger) viaProxy(s *session) bool {
	network, ok := s.conn.NetConn().(interface {
		net.Conn
		syscall.Conn
	})
	if !ok {
		return false
	}
	service := f.conf.String("tlsproxy_service_name")
	var c *dial.Conn
	err := f.as(func() (err error) {
		c, err = dial.Dialer{Dir: f.conf.String("queue_directory"), Log: f.log}.Dial(f.ctx, "private", service)
		return err
	})
	if err != nil {
		f.log.Warn("connect to %s service: %v", service, dial.Reason(err))
		return false
	}
	if status := f.askProxy(c, s); status != tlsproxy.Ready {
		f.log.Warn("%s service role \"client\" is not available", service)
		c.Close()
		return false
	}
	plain, ok := c.Conn.(syscall.Conn)
	if !ok || fdpass.SendConn(plain, network) != nil {
		c.Close()
		return false
	}
	result, err := tlsproxy.ReadContext(c.In)
	if err != nil {
		f.log.Warn("error receiving TLS proxy context")
		c.Close()
		return false
	}
	network.Close()
	s.conn.Replace(&proxied{c.Conn, io.MultiReader(c.In.Buffered(), c.Conn)})
	s.tls = true
	f.tellContext(result, strings.ToLower(s.peer()))
	return true
}

// askProxy says what is wanted, and returns the status.
func (f *finger) askProxy(c *dial.Conn, s *session) (status int) {
	w := s.want
	endpoint := fmt.Sprintf("[%s]:%d", s.addr, s.port)
	if s.path != "" {
		endpoint = s.path
	}
	r := tlsproxy.Request{Endpoint: endpoint, Flags: tlsproxy.ClientRole | tlsproxy.SendContext, Handshake: f.cmdTime, Session: f.cmdTime, ServerID: endpoint}
	wanted := &tlsproxy.Client{Parameters: map[string]string{}, LogParam: "-L option", LogLevel: f.logWords, Depth: f.conf.Int("smtp_tls_scert_verifydepth"), CacheType: "smtp",
		Files: mailtls.Files{Chain: f.chainFiles, Cert: f.certFile, Key: f.keyFile}, CAFile: f.caFile, CAPath: f.caPath, Digest: f.digestName(),
		Level: w.Level, NextHop: f.dest.domain, Host: s.host.name, NamAddr: s.peer(), SNI: w.SNI, Helo: f.conf.String("myhostname"),
		Protocols: w.Protocols, Grade: w.Grade, Exclusions: w.Exclude, Match: w.Match, HasTLSA: len(w.TLSA) > 0, TLSADomain: w.SNI, TLSA: w.TLSA}
	for _, p := range tlsproxy.Parameters {
		wanted.Parameters[p] = f.conf.String(p)
		if flag := map[string]string{"yes": "1", "no": "0"}[wanted.Parameters[p]]; flag != "" {
			wanted.Parameters[p] = flag
		}
	}
	if c.Expect(tlsproxy.Protocol) != nil || r.Write(c.Out) != nil || wanted.Write(c.Out) != nil {
		return tlsproxy.Unavailable
	}
	if c.In.Scan(attr.Int("status", &status)) != nil {
		return tlsproxy.Unavailable
	}
	return status
}

// tellContext tells of a handshake that tlsproxy made.
func (f *finger) tellContext(c *tlsproxy.Context, peer string) {
	trust := mailtls.Anonymous
	switch {
	case c.Status&tlsproxy.PolicySecured != 0:
		trust = mailtls.Verified
	case c.Status&tlsproxy.CertTrusted != 0:
		trust = mailtls.Trusted
	case c.Status&tlsproxy.CertPresent != 0:
		trust = mailtls.Untrusted
	}
	if trust != mailtls.Anonymous && f.mask.Has(mailtls.LogPeerCert|mailtls.LogCertMatch|mailtls.LogVerbose) {
		f.log.Info("%s: subject_CN=%s, issuer_CN=%s, fingerprint=%s, pkey_fingerprint=%s", peer, c.PeerCN, c.IssuerCN, c.Fingerprint, c.KeyFingerprint)
	}
	if f.mask.Has(mailtls.LogSummary) {
		f.log.Info("%s", c.Line(trust, "established to", peer, ""))
	}
}

// proxied is a connection to tlsproxy of which some input was read already.
type proxied struct {
	net.Conn
	in io.Reader
}

func (p *proxied) Read(b []byte) (int, error) { return p.in.Read(b) }
