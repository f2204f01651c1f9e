package smtpd

import (
	"fmt"
	"strings"
	"time"

	"posthaste/pkg/wire/smtp"
)

// verdict is the outcome of a restriction: no opinion, the list ends well, or
// a reject whose reply is in checkState.reply (spec §4.3).
type verdict byte

const (
	dunno verdict = iota
	accept
	reject
)

// pendingReject is a rejection kept for later (defer_if_permit,
// defer_if_reject).
type pendingReject struct {
	active    bool
	class     errorClass
	code      int
	dsn, text string
}

// checkState is what the restriction engine keeps in a session.
type checkState struct {
	sender      string // being checked, before it is the transaction's
	senderGiven bool
	rcpt        string // being processed
	rcptGiven   bool
	noRcpt      bool // data stages with several recipients
	etrn        string

	reply                               string // of the reject
	warn                                bool   // under warn_if_reject
	depth                               int
	policyFailed                        bool // evaluating the default action of a policy service
	unlistedRcpt, unlistedSender        bool // that check has run
	deferIfPermit, deferIfReject        pendingReject
	afterClient, afterHelo, afterSender pendingReject // deferIfPermit at the end of those stages
}

// listKind is one of the lists of restrictions.
type listKind struct {
	param string // main.cf parameter
	class string // CLASS of reply texts
	// access is the restriction that a bare table in the list means; "" is a
	// configuration error.
	access string
}

var (
	clientList = &listKind{"smtpd_client_restrictions", "Client host", "check_client_access"}
	heloList   = &listKind{"smtpd_helo_restrictions", "Helo command", "check_helo_access"}
	senderList = &listKind{"smtpd_sender_restrictions", "Sender address", "check_sender_access"}
	relayList  = &listKind{"smtpd_relay_restrictions", "Recipient address", "check_recipient_access"}
	rcptList   = &listKind{"smtpd_recipient_restrictions", "Recipient address", "check_recipient_access"}
	dataList   = &listKind{"smtpd_data_restrictions", "Data command", ""}
	eodList    = &listKind{"smtpd_end_of_data_restrictions", "End-of-data", ""}
	etrnList   = &listKind{"smtpd_etrn_restrictions", "Etrn command", "check_etrn_access"}
)

// evaluation is one run of a list, or of a list inside it.
type evaluation struct {
	*session
	list    *listKind
	subject string // N of reply texts
	element *element
}

// sleepLimit bounds the restriction sleep: a session must not be parked for
// ever by a mistyped number.
const sleepLimit = time.Hour

// evaluate runs a list. When both kinds of deferral are pending the list ends:
// nothing later could change the outcome.
func (e evaluation) evaluate(elements []element) verdict {
	for i := range elements {
		if e.discarding() {
			return accept
		}
		el := &elements[i]
		inner := e
		inner.element = el
		saved := e.checks.warn
		e.checks.warn = saved || el.warn
		v := el.run(inner)
		e.checks.warn = saved
		if v != dunno {
			if v == accept && !el.silent {
				class, subject := e.list.class, e.subject
				if permitsClient[strings.ToLower(el.name)] {
					class, subject = clientList.class, e.peer.namaddr
				}
				e.logPermit(el.name, class, subject, "")
			}
			return v
		}
		if e.checks.deferIfPermit.active && e.checks.deferIfReject.active {
			return dunno
		}
	}
	return dunno
}

func (s *session) discarding() bool { return s.tx != nil && s.tx.discard }

// permitsClient are restrictions that permit a client wherever they stand.
var permitsClient = map[string]bool{"permit_mynetworks": true, "permit_inet_interfaces": true, "permit_sasl_authenticated": true,
	"permit_dnswl_client": true, "permit_rhswl_client": true}

// logPermit writes what smtpd_log_access_permit_actions asks for.
func (e evaluation) logPermit(action, class, name, from string) {
	if len(e.srv.set.permitLog) == 0 || e.checks.deferIfPermit.active {
		return
	}
	if yes, _ := e.srv.lists.permitLog.match(e.ctx, action); !yes {
		return
	}
	text := fmt.Sprintf("action=%s for %s=%s", action, class, name)
	text += " "
	if from != "" {
		text += "from " + from
	}
	e.logAction("permit", text)
}

// maxRejectText bounds a rejection, in bytes. The original has no limit of its
// own: texts longer than the 512 bytes of RFC 5321 section 4.5.3.1.5 are sent.
const maxRejectText = 8192

// refuse is the one place where a rejection is made: it is logged, turned into
// a warning under warn_if_reject, replaced by an earlier deferral, and made
// safe to send. The result is the reply, or "" for a warning.
func (s *session) refuse(class errorClass, code int, dsn, text string) string {
	warn := s.checks.warn && class&(classSoftware|classResource|classData) == 0
	if !warn {
		s.classes |= class
	}
	reply := fmt.Sprintf("%d %s %s", code, dsn, text)
	if !smtp.ValidDSN(dsn) {
		s.log.Warn("DSN detail code configuration error: %s", reply)
		reply = "450 4.7.1 Service unavailable"
	} else if code < 400 || code > 599 {
		s.log.Warn("SMTP reply code configuration error: %s", reply)
		reply = "450 4.7.1 Service unavailable"
	}
	reply = smtp.Printable(reply, ' ')
	if len(reply) > maxRejectText {
		reply = reply[:maxRejectText]
	}
	if p := s.checks.deferIfReject; !warn && p.active && reply[0] == '5' {
		s.checks.warn = false
		s.checks.deferIfReject.active = false
		return s.refuse(p.class, p.code, p.dsn, p.text)
	}
	b := []byte(reply)
	if s.srv.set.softBounce && b[0] == '5' {
		b[0] = '4'
	}
	b[4] = b[0]
	reply = string(b)
	if warn {
		s.logAction("reject_warning", reply)
		return ""
	}
	s.logAction("reject", reply)
	return reply
}

// reject is refuse as a verdict.
func (e evaluation) reject(class errorClass, code int, dsn, format string, a ...any) verdict {
	reply := e.refuse(class, code, dsn, fmt.Sprintf(format, a...))
	if reply == "" {
		return dunno
	}
	e.checks.reply = reply
	return reject
}

// rejectAs is reject with the usual text "<N>: CLASS rejected: TEXT".
func (e evaluation) rejectAs(class errorClass, code int, dsn, n, kind, text string) verdict {
	return e.reject(class, code, dsn, "<%s>: %s rejected: %s", n, kind, text)
}

// serverError is the answer to a mistake in the configuration.
func (e evaluation) serverError() verdict {
	return e.reject(classSoftware, 451, "4.3.5", "Server configuration error")
}

// lookupTrouble is the answer when an address could not be looked up.
func (e evaluation) lookupTrouble(addr string) verdict {
	return e.reject(classData, 451, "4.3.0", "<%s>: Temporary lookup failure", addr)
}

// deferIfPermit defers what the lists would otherwise permit; at once defers
// now. Under warn_if_reject it is an ordinary (suppressed) reject.
func (e evaluation) deferIfPermit(atOnce bool, class errorClass, code int, dsn, format string, a ...any) verdict {
	if atOnce || e.checks.warn {
		return e.reject(class, code, dsn, format, a...)
	}
	if p := &e.checks.deferIfPermit; !p.active {
		*p = pendingReject{true, class, code, dsn, fmt.Sprintf(format, a...)}
	}
	return dunno
}

// deferIfReject turns a later 5xx reject into this deferral.
func (e evaluation) deferIfReject(class errorClass, code int, dsn, format string, a ...any) verdict {
	if p := &e.checks.deferIfReject; !p.active {
		*p = pendingReject{true, class, code, dsn, fmt.Sprintf(format, a...)}
	}
	return dunno
}

// begin prepares a stage; prior is what earlier stages left pending.
func (s *session) begin(prior pendingReject) {
	s.checks.reply = ""
	s.checks.warn, s.checks.depth = false, 0
	s.checks.deferIfReject = pendingReject{}
	s.checks.deferIfPermit = prior
}

func (s *session) runList(list *listKind, subject string) verdict {
	e := evaluation{session: s, list: list, subject: subject}
	return e.evaluate(s.srv.policy[list])
}

// settle ends a stage that is decided now: a pending deferral replaces an
// outcome that is no reject.
func (s *session) settle(v verdict) verdict {
	if p := s.checks.deferIfPermit; v != reject && p.active {
		s.checks.warn = false
		s.checks.reply = s.refuse(p.class, p.code, p.dsn, p.text)
		if s.checks.reply != "" {
			return reject
		}
	}
	return v
}

// outcome is the reply of a stage, "" when the client may go on.
func (s *session) outcome(v verdict) string {
	if v == reject {
		return s.checks.reply
	}
	return ""
}

// checkClient applies smtpd_client_restrictions.
func (s *session) checkClient() string {
	s.begin(pendingReject{})
	v := s.runList(clientList, s.peer.namaddr)
	s.checks.afterClient = s.checks.deferIfPermit
	return s.outcome(v)
}

// checkHelo applies smtpd_helo_restrictions to a name that is not yet the
// session's, or is.
func (s *session) checkHelo(name string, pending bool) string {
	if pending {
		saved, given := s.helo, s.heloGiven
		s.helo, s.heloGiven = name, true
		defer func() { s.helo, s.heloGiven = saved, given }()
	}
	s.begin(s.checks.afterClient)
	v := s.runList(heloList, s.helo)
	s.checks.afterHelo = s.checks.deferIfPermit
	return s.outcome(v)
}

// checkMail applies smtpd_sender_restrictions.
func (s *session) checkMail(sender string) string {
	saved := s.checks
	s.checks.sender, s.checks.senderGiven = sender, true
	s.checks.unlistedSender = false
	s.begin(s.checks.afterHelo)
	v := s.runList(senderList, sender)
	if v != reject && s.srv.set.rejectUnlistedSender && !s.checks.unlistedSender && !s.discarding() {
		if evaluateUnlistedSender(evaluation{session: s, list: senderList, subject: sender}) == reject {
			v = reject
		}
	}
	s.checks.afterSender = s.checks.deferIfPermit
	s.checks.sender, s.checks.senderGiven = saved.sender, saved.senderGiven
	return s.outcome(v)
}

// checkRcpt applies the relay and recipient lists, and before them what was
// delayed. It serves RCPT and VRFY.
func (s *session) checkRcpt(rcpt string) string {
	if strings.EqualFold(rcpt, "postmaster") {
		return ""
	}
	set := s.srv.set
	s.checks.rcpt, s.checks.rcptGiven = rcpt, true
	defer func() { s.checks.rcptGiven = false }()
	s.checks.unlistedRcpt = false
	if set.delayReject {
		if text := s.checkClient(); text != "" {
			return text
		}
		s.checks.afterHelo = s.checks.afterClient
		if s.heloGiven {
			if text := s.checkHelo("", false); text != "" {
				return text
			}
		}
		s.checks.afterSender = s.checks.afterHelo
		if s.tx != nil {
			if text := s.checkMail(s.tx.sender); text != "" {
				return text
			}
		}
	}
	lists := [2]*listKind{relayList, rcptList}
	if !set.relayFirst {
		lists[0], lists[1] = rcptList, relayList
	}
	s.begin(s.checks.afterSender)
	v := dunno
	for i, list := range lists {
		if list == relayList && set.relayUnset {
			continue
		}
		s.checks.deferIfReject = pendingReject{}
		if v = s.runList(list, rcpt); v == reject {
			if i == 0 && !set.relayFirst && set.relayOrderUnset && !s.srv.set.relayUnset {
				s.log.Info("using backwards-compatible default setting smtpd_relay_before_recipient_restrictions=no to reject recipient \"%s\" from client \"%s\"", rcpt, s.peer.namaddr)
			}
			break
		}
	}
	if v != reject && set.relayUnset {
		s.warnRelayDefault(rcpt)
	}
	v = s.settle(v)
	if v != reject && set.rejectUnlistedRcpt && !s.checks.unlistedRcpt && !s.discarding() {
		v = evaluateUnlistedRcpt(evaluation{session: s, list: rcptList, subject: rcpt})
	}
	return s.outcome(v)
}

// warnRelayDefault logs what the empty smtpd_relay_restrictions of
// compatibility level 0 let pass.
func (s *session) warnRelayDefault(rcpt string) {
	saved := s.checks
	e := evaluation{session: s, list: relayList, subject: rcpt}
	v := e.evaluate(s.srv.trialRelay)
	s.checks = saved
	if v == dunno {
		s.log.Info("using backwards-compatible default setting \"smtpd_relay_restrictions = (empty)\" to avoid \"Relay access denied\" error for recipient \"%s\" from client \"%s\"", rcpt, s.peer.namaddr)
	}
}

// checkEtrn applies smtpd_etrn_restrictions.
func (s *session) checkEtrn(domain string) string {
	set := s.srv.set
	s.checks.etrn = domain
	prior := s.checks.afterHelo
	if set.delayReject {
		if text := s.checkClient(); text != "" {
			return text
		}
		prior = s.checks.afterClient
		if s.heloGiven {
			if text := s.checkHelo("", false); text != "" {
				return text
			}
			prior = s.checks.afterHelo
		}
	}
	s.begin(prior)
	return s.outcome(s.settle(s.runList(etrnList, domain)))
}

// checkData applies smtpd_data_restrictions.
func (s *session) checkData() string {
	return s.checkStage(dataList, "DATA")
}

// checkEndOfData applies smtpd_end_of_data_restrictions.
func (s *session) checkEndOfData() string {
	return s.checkStage(eodList, whereEOM)
}

func (s *session) checkStage(list *listKind, subject string) string {
	s.begin(pendingReject{})
	s.checks.noRcpt = s.tx.rcptCount > 1
	v := s.settle(s.runList(list, subject))
	s.checks.noRcpt = false
	return s.outcome(v)
}

// sender is the envelope sender, if MAIL was given.
func (s *session) sender() (string, bool) {
	if s.checks.senderGiven {
		return s.checks.sender, true
	}
	if s.tx != nil {
		return s.tx.sender, true
	}
	return "", false
}
