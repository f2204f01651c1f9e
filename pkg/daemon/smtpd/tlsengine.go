package smtpd

import (
	"time"

	mailtls "posthaste/pkg/wire/tls"
)

// loadTLS makes the server's side of TLS. Without it STARTTLS is offered and
// answered 454, as by the original (spec §7).
func (srv *Server) loadTLS() {
	t := &srv.set.tls
	for _, w := range t.warnings {
		srv.log.Warn("%s", w)
	}
	if !t.use || srv.standAlone {
		return
	}
	if w := t.files.Conflict("smtpd_tls"); w != "" {
		srv.log.Warn("%s", w)
	}
	named, anonymous := t.files.HasCertificate()
	if !named && t.asks() {
		srv.log.Warn("Need a server cert to request client certs")
		anonymous = false
	}
	if !named && !anonymous {
		srv.log.Warn("No server certs available. TLS won't be enabled")
		return
	}
	life := t.ticketLife
	if !t.tickets {
		life = 0
	}
	srv.tlsEngine = mailtls.NewAcceptor(mailtls.AcceptorSettings{
		Files: t.files, CAFile: t.caFile, CAPath: t.caPath, SystemCAs: t.systemCAs, Depth: t.depth,
		Protocols: t.protocols, Grade: t.grade, Exclusions: t.exclusions, Grades: t.grades, Curves: t.curves, EECDH: t.eecdh,
		Digest: t.digest, AskCert: t.askCert, ReqCert: t.reqCert, Log: t.log, TicketLife: life,
	}, srv.log)
	if srv.tlsEngine == nil {
		return
	}
	srv.tlsEngine.Now = func() time.Time { return srv.now() }
	if srv.maps.sni != nil && !srv.maps.sni.Empty() {
		srv.tlsEngine.Names = srv.maps.sni
	}
}
