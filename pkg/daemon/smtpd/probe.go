package smtpd

import (
	"context"
	"strings"
	"time"

	"posthaste/pkg/ipc/verify"
)

// verifier is what smtpd asks the address verification service.
type verifier interface {
	// Query tells what is known about an address, and why; if nothing is, the
	// service begins to find out.
	Query(ctx context.Context, addr string) (verify.Result, string, error)
}

// verification is how reject_unverified_sender or reject_unverified_recipient
// answers (spec §4.8).
type verification struct {
	subject               subjectOf
	dsn                   string // without the class
	deferCode, rejectCode int
	reason                string // instead of the service's
	atOnce                bool   // what is temporary is deferred at once
}

func (srv *Server) verifications() (sender, rcpt verification) {
	c := srv.conf
	sender = verification{subject: senderAddress, dsn: ".1.7", atOnce: srv.set.tempfail.sender}
	rcpt = verification{subject: recipientAddress, dsn: ".1.1", atOnce: srv.set.tempfail.recipient}
	for name, v := range map[string]*verification{"unverified_sender_": &sender, "unverified_recipient_": &rcpt} {
		v.deferCode, v.rejectCode, v.reason = c.Int(name+"defer_code"), c.Int(name+"reject_code"), c.String(name+"reject_reason")
	}
	return sender, rcpt
}

func rejectUnverifiedSender(e evaluation) verdict    { return e.unverified(e.srv.verifySender) }
func rejectUnverifiedRecipient(e evaluation) verdict { return e.unverified(e.srv.verifyRcpt) }

// unverified asks about an address until there is an answer, for as long as
// address_verify_poll_count allows.
func (e evaluation) unverified(v verification) verdict {
	addr, class, ok := v.subject(e)
	if !ok {
		return dunno
	}
	result, why, err := e.poll(addr)
	if err != nil {
		e.log.Warn("%s service failure", e.srv.set.verifyService)
		return e.deferIfPermit(v.atOnce, classPolicy, 450, "4"+v.dsn, "<%s>: %s rejected: address verification problem", addr, class)
	}
	code := v.deferCode
	switch result {
	case verify.Deliverable:
		return dunno
	case verify.Probing, verify.Deferred:
	case verify.Undeliverable:
		code = v.rejectCode
	default:
		e.log.Warn("unknown address verification status %d", result)
		return dunno
	}
	if v.reason != "" {
		why = v.reason
	}
	switch code / 100 {
	case 4:
		return e.deferIfPermit(v.atOnce, classPolicy, code, "4"+v.dsn, "<%s>: %s rejected: unverified address: %.250s", addr, class, why)
	case 5:
		return e.reject(classPolicy, code, "5"+v.dsn, "<%s>: %s rejected: undeliverable address: %s", addr, class, why)
	}
	return dunno
}

func (e evaluation) poll(addr string) (result verify.Result, why string, err error) {
	set := e.srv.set
	for n := 1; ; n++ {
		result, why, err = e.srv.verify.Query(e.ctx, addr)
		if err != nil || result != verify.Probing || n >= set.verifyPolls {
			return result, why, err
		}
		e.conn.Flush()
		e.sleep(set.verifyDelay)
		if err := e.ctx.Err(); err != nil {
			return result, why, err
		}
	}
}

// probeSender recognises the sender of address verification probes, which
// changes with time if address_verify_sender_ttl is set. It returns the
// address that does not change.
func (srv *Server) probeSender(addr string) (fixed string, ok bool) {
	sender := srv.set.probeSender
	if sender == "" || sender == "<>" || addr == "" {
		return "", false
	}
	if !strings.Contains(sender, "@") {
		sender += "@" + srv.set.origin
	}
	ttl := srv.set.probeTTL
	if ttl < time.Second {
		return sender, strings.EqualFold(addr, sender)
	}
	now := srv.now()
	for _, shift := range []time.Duration{0, -ttl, ttl} {
		if strings.EqualFold(addr, verify.ProbeSender(sender, ttl, now.Add(shift))) {
			return sender, true
		}
	}
	return "", false
}
