package smtpd

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/wire/dns"
)

// registry is the policy language: every restriction that can stand in a list,
// by name (spec §4.4).
func registry() map[string]restriction {
	r := map[string]restriction{
		"permit":          {run: func(evaluation) verdict { return accept }},
		"reject":          {run: evaluateReject},
		"defer":           {run: evaluateDefer},
		"defer_if_permit": {run: evaluateDeferIfPermit},
		"defer_if_reject": {run: evaluateDeferIfReject},
		"sleep":           {arg: argNumber, run: evaluateSleep},

		"reject_unauth_pipelining":   {run: rejectPipelining},
		"reject_plaintext_session":   {run: rejectPlaintext},
		"permit_mynetworks":          {run: permitMyNetworks},
		"permit_inet_interfaces":     {run: permitInterfaces},
		"permit_sasl_authenticated":  {run: permitAuthenticated},
		"permit_tls_clientcerts":     {run: permitKnownCert},
		"permit_tls_all_clientcerts": {run: permitAnyCert},
		"permit_naked_ip_address":    {run: permitNakedAddress},

		"reject_unknown_client_hostname":         {run: rejectUnknownClient},
		"reject_unknown_client":                  {run: rejectUnknownClient},
		"reject_unknown_reverse_client_hostname": {run: rejectUnknownReverse},

		"reject_invalid_helo_hostname":  {run: rejectInvalidHelo},
		"reject_invalid_hostname":       {run: rejectInvalidHelo},
		"reject_non_fqdn_helo_hostname": {run: rejectNonFQDNHelo},
		"reject_non_fqdn_hostname":      {run: rejectNonFQDNHelo},
		"reject_unknown_helo_hostname":  {run: rejectUnknownHelo},
		"reject_unknown_hostname":       {run: rejectUnknownHelo},

		"reject_non_fqdn_sender":          {run: rejectNonFQDNSender},
		"reject_non_fqdn_recipient":       {run: rejectNonFQDNRecipient},
		"reject_unknown_sender_domain":    {run: rejectUnknownSender},
		"reject_unknown_address":          {run: rejectUnknownSender},
		"reject_unknown_recipient_domain": {run: rejectUnknownRecipient},
		"reject_unlisted_sender":          {run: evaluateUnlistedSender},
		"reject_unlisted_recipient":       {run: evaluateUnlistedRcpt},
		"check_recipient_maps":            {run: evaluateUnlistedRcpt},
		"reject_multi_recipient_bounce":   {run: rejectMultiBounce},

		"permit_auth_destination":   {run: permitDestination},
		"reject_unauth_destination": {run: rejectDestination},
		"defer_unauth_destination":  {run: deferDestination},
		"check_relay_domains":       {run: checkRelayDomains},

		"reject_authenticated_sender_login_mismatch":   {run: rejectAuthMismatch},
		"reject_unauthenticated_sender_login_mismatch": {run: rejectUnauthMismatch},
		"reject_known_sender_login_mismatch":           {run: rejectKnownMismatch},

		"check_client_access":                  {arg: argTable, run: checkClientAccess},
		"check_reverse_client_hostname_access": {arg: argTable, run: checkReverseAccess},
		"check_helo_access":                    {arg: argTable, run: checkHeloAccess},
		"check_sender_access":                  {arg: argTable, run: checkSenderAccess},
		"check_recipient_access":               {arg: argTable, run: checkRecipientAccess},
		"check_etrn_access":                    {arg: argTable, run: checkEtrnAccess},
		"check_sasl_access":                    {arg: argTable, run: checkSaslAccess},
		"check_ccert_access":                   {arg: argCertTable, run: checkCertAccess},

		"check_policy_service":        {arg: argServer, run: checkPolicyService},
		"permit_mx_backup":            {run: permitMXBackup},
		"reject_unverified_sender":    {run: rejectUnverifiedSender},
		"reject_unverified_recipient": {run: rejectUnverifiedRecipient},

		"reject_maps_rbl":             {run: rejectMapsRBL},
		"reject_rbl":                  {arg: argDomain, run: rejectListedClient},
		"reject_rbl_client":           {arg: argDomain, run: rejectListedClient},
		"reject_rhsbl_client":         {arg: argDomain, run: rejectListedName(clientName)},
		"reject_rhsbl_reverse_client": {arg: argDomain, run: rejectListedName(reverseName)},
		"reject_rhsbl_helo":           {arg: argDomain, run: rejectListedName(heloName)},
		"reject_rhsbl_sender":         {arg: argDomain, run: rejectListedName(senderAddress)},
		"reject_rhsbl_recipient":      {arg: argDomain, run: rejectListedName(recipientAddress)},
		"permit_dnswl_client":         {arg: argDomain, run: permitListedClient},
		"permit_rhswl_client":         {arg: argDomain, run: permitListedName},
	}
	for name, entry := range hostAccessRestrictions() {
		r[name] = entry
	}
	return r
}

func evaluateReject(e evaluation) verdict {
	return e.rejectAs(classPolicy, e.srv.set.codes.reject, "5.7.1", e.subject, e.list.class, "Access denied")
}

func evaluateDefer(e evaluation) verdict {
	return e.rejectAs(classPolicy, e.srv.set.codes.deferCode, "4.3.2", e.subject, e.list.class, "Try again later")
}

func evaluateDeferIfPermit(e evaluation) verdict {
	return e.deferIfPermit(false, classPolicy, 450, "4.7.0", "<%s>: %s rejected: defer_if_permit requested", e.subject, e.list.class)
}

func evaluateDeferIfReject(e evaluation) verdict {
	return e.deferIfReject(classPolicy, 450, "4.7.0", "<%s>: %s rejected: defer_if_reject requested", e.subject, e.list.class)
}

func evaluateSleep(e evaluation) verdict {
	n, err := strconv.Atoi(e.element.arg)
	if err != nil || n < 0 {
		e.log.Warn("restriction sleep must be followed by number")
		return e.serverError()
	}
	e.conn.Flush()
	e.sleep(min(time.Duration(n)*time.Second, sleepLimit))
	return dunno
}

func rejectPipelining(e evaluation) verdict {
	if !e.pipelining {
		return dunno
	}
	return e.rejectAs(classProtocol, 503, "5.5.0", e.subject, e.list.class, "Improper use of SMTP command pipelining")
}

func rejectPlaintext(e evaluation) verdict {
	if e.tls != nil {
		return dunno
	}
	return e.reject(classPolicy, e.srv.set.codes.plaintext, "4.7.1", "Session encryption is required")
}

func permitMyNetworks(e evaluation) verdict {
	p := e.allowed(e.srv.lists.mynetworks)
	switch {
	case p.failed:
		return e.reject(classData, 451, "4.3.0", "<%s>: Temporary lookup failure", e.subject)
	case p.granted:
		e.noteNetworks()
		return accept
	}
	return dunno
}

func permitInterfaces(e evaluation) verdict {
	if a, err := netip.ParseAddr(e.peer.addr); err == nil && e.srv.local.Owns(a) {
		return accept
	}
	return dunno
}

func permitAuthenticated(e evaluation) verdict {
	if e.activeSASL() && e.sasl.method != "" && e.sasl.method != "anonymous" {
		return accept
	}
	return dunno
}

func rejectUnknownClient(e evaluation) verdict {
	if e.peer.nameStatus == nameOK {
		return dunno
	}
	code := e.srv.set.codes.unknownClient
	if e.peer.nameStatus == nameTemporary {
		code = 450
	}
	return e.reject(classPolicy, code, "4.7.25", "Client host rejected: cannot find your hostname, [%s]", e.peer.addr)
}

func rejectUnknownReverse(e evaluation) verdict {
	if e.peer.reverseStat == nameOK {
		return dunno
	}
	code := 450
	if e.peer.reverseStat == namePermanent {
		code = e.srv.set.codes.unknownClient
	}
	return e.reject(classPolicy, code, "4.7.1", "Client host rejected: cannot find your reverse hostname, [%s]", e.peer.addr)
}

// heloReject is a rejection of the client's HELO name.
func (e evaluation) heloReject(code int, dsn, text string) verdict {
	return e.rejectAs(classPolicy, code, dsn, e.helo, "Helo command", text)
}

func rejectInvalidHelo(e evaluation) verdict {
	if !e.heloGiven || e.helo == "" {
		return dunno
	}
	code := e.srv.set.codes.invalidHostname
	if e.helo[0] == '[' {
		if !validLiteral(e.helo) {
			return e.heloReject(code, "5.5.2", "invalid ip address")
		}
		return dunno
	}
	name := strings.TrimSuffix(e.helo, ".")
	if _, ok := dns.ParseAddr(name); !ok && !dns.ValidHostname(name) {
		return e.heloReject(code, "5.5.2", "Invalid name")
	}
	return dunno
}

func permitNakedAddress(e evaluation) verdict {
	e.log.Warn("restriction permit_naked_ip_address is deprecated. Use permit_mynetworks or permit_sasl_authenticated instead")
	if !e.heloGiven || e.helo == "" || strings.Trim(e.helo, "0123456789.:") != "" {
		return dunno
	}
	if _, ok := dns.ParseAddr(e.helo); !ok {
		return e.heloReject(e.srv.set.codes.invalidHostname, "5.5.2", "invalid ip address")
	}
	return accept
}

func rejectNonFQDNHelo(e evaluation) verdict {
	if !e.heloGiven || e.helo == "" || e.helo[0] == '[' {
		return dunno
	}
	name := strings.TrimSuffix(e.helo, ".")
	if !dns.ValidHostname(name) || !strings.Contains(name, ".") {
		return e.heloReject(e.srv.set.codes.nonFQDN, "5.5.2", "need fully-qualified hostname")
	}
	return dunno
}

func rejectUnknownHelo(e evaluation) verdict {
	if !e.heloGiven || e.helo == "" {
		return dunno
	}
	if e.helo[0] == '[' {
		if !validLiteral(e.helo) {
			return e.heloReject(e.srv.set.codes.invalidHostname, "5.5.2", "invalid ip address")
		}
		return dunno
	}
	err := e.anyRecord(e.helo, dns.A, dns.AAAA, dns.MX)
	code := e.srv.set.codes.unknownHostname
	switch dns.StatusOf(err) {
	case 0, dns.NullMX:
		return dunno
	case dns.Policy:
		e.log.Warn("%s: address or MX lookup error: %v", e.helo, err.(*dns.Error).Short)
		return dunno
	case dns.Temporary, dns.Fail:
		return e.deferIfPermit(e.srv.set.tempfail.helo, classPolicy, 450, "4.7.1", "<%s>: Helo command rejected: Host not found", e.helo)
	case dns.Invalid:
		return e.heloReject(code, "4.7.1", "Malformed DNS server reply")
	}
	return e.heloReject(code, "4.7.1", "Host not found")
}

// anyRecord looks for records of the given types until one is found; the
// error is the worst.
func (e evaluation) anyRecord(name string, types ...dns.Type) error {
	var worst error
	for i, t := range types {
		ans, err := e.srv.dns.Lookup(e.ctx, name, t)
		for _, w := range ans.Warnings {
			e.log.Warn("%s", w)
		}
		if err == nil || dns.StatusOf(err) == dns.NullMX {
			return err
		}
		if i == 0 {
			worst = err
		} else {
			worst = dns.Worse(worst, err)
		}
	}
	return worst
}

// nonFQDN tells whether an address lacks a full domain name.
func nonFQDN(addr string) bool {
	i := strings.LastIndexByte(addr, '@')
	domain := addr[i+1:]
	if i < 0 || domain == "" {
		return true
	}
	if domain[0] == '[' && domain[len(domain)-1] == ']' {
		return false
	}
	domain, ok := dns.ASCII(domain)
	domain = strings.TrimSuffix(domain, ".")
	return !ok || !dns.ValidHostname(domain) || !strings.Contains(domain, ".")
}

func rejectNonFQDNSender(e evaluation) verdict {
	sender, ok := e.sender()
	if !ok || sender == "" || !nonFQDN(sender) {
		return dunno
	}
	return e.rejectAs(classPolicy, e.srv.set.codes.nonFQDN, "5.5.2", sender, "Sender address", "need fully-qualified address")
}

func rejectNonFQDNRecipient(e evaluation) verdict {
	rcpt, ok := e.rcpt()
	if !ok || rcpt == "" || !nonFQDN(rcpt) {
		return dunno
	}
	return e.rejectAs(classPolicy, e.srv.set.codes.nonFQDN, "5.5.2", rcpt, "Recipient address", "need fully-qualified address")
}

// rcpt is the recipient that restrictions look at: none at the data stages
// when there are several.
func (e evaluation) rcpt() (string, bool) {
	return e.recipient()
}

func rejectUnknownSender(e evaluation) verdict {
	sender, ok := e.sender()
	if !ok || sender == "" {
		return dunno
	}
	return e.unknownDomain(sender, "Sender address", "4.1.8", 550, "5.7.27")
}

func rejectUnknownRecipient(e evaluation) verdict {
	rcpt, ok := e.rcpt()
	if !ok || rcpt == "" {
		return dunno
	}
	return e.unknownDomain(rcpt, "Recipient address", "4.1.2", 556, "5.1.10")
}

// unknownDomain rejects an address whose domain has no mail server and no
// address, unless it is one of ours.
func (e evaluation) unknownDomain(addr, class, code string, nullCode int, nullDSN string) verdict {
	r, v := e.resolve(addr)
	if v != dunno {
		return v
	}
	if r.Flags&(rewrite.ClassLocal|rewrite.ClassAlias|rewrite.ClassVirtual) != 0 {
		return dunno
	}
	i := strings.LastIndexByte(r.Recipient, '@')
	domain := r.Recipient[i+1:]
	if i < 0 || domain == "" || domain[0] == '[' {
		return dunno
	}
	err := e.anyRecord(domain, dns.MX, dns.A, dns.AAAA)
	text := "Domain not found"
	switch dns.StatusOf(err) {
	case 0:
		return dunno
	case dns.NullMX:
		return e.rejectAs(classPolicy, nullCode, nullDSN, addr, class, fmt.Sprintf("Domain %s does not accept mail (nullMX)", domain))
	case dns.Policy:
		e.log.Warn("%s: MX or address lookup error: %v", domain, err.(*dns.Error).Short)
		return dunno
	case dns.Temporary, dns.Fail:
		return e.deferIfPermit(e.srv.set.tempfail.address, classPolicy, 450, code, "<%s>: %s rejected: %s", addr, class, text)
	case dns.Invalid:
		text = "Malformed DNS server reply"
	}
	return e.rejectAs(classPolicy, e.srv.set.codes.unknownAddress, code, addr, class, text)
}

// resolve asks the rewriting service about an address; the verdict is a
// reject when it could not be asked.
func (e evaluation) resolve(addr string) (rewrite.Reply, verdict) {
	sender, _ := e.sender()
	r, err := e.srv.resolveInternal(e.ctx, sender, addr)
	if err != nil || r.Flags&rewrite.Fail != 0 {
		return r, e.lookupTrouble(addr)
	}
	return r, dunno
}

func rejectMultiBounce(e evaluation) verdict {
	sender, given := e.sender()
	if !given || sender != "" || e.tx == nil {
		return dunno
	}
	more := e.tx.rcptCount > 1 || e.tx.rcptCount == 1 && e.checks.rcptGiven
	if !more {
		return dunno
	}
	return e.rejectAs(classPolicy, e.srv.set.codes.multiBounce, "5.5.3", e.subject, e.list.class, "Multi-recipient bounce")
}

// permitDestination permits recipients for which this system takes mail.
func permitDestination(e evaluation) verdict {
	rcpt, ok := e.rcpt()
	if !ok || rcpt == "" {
		return dunno
	}
	return e.destination(rcpt)
}

// destination is the test of spec §4.10: accept for a recipient we are
// responsible for, reject when that cannot be found out.
func (e evaluation) destination(rcpt string) verdict {
	r, v := e.resolve(rcpt)
	if v != dunno {
		return v
	}
	i := strings.LastIndexByte(r.Recipient, '@')
	switch {
	case i < 0:
		return accept
	case r.Flags&rewrite.Routed != 0 && !e.srv.set.allowRouting:
		return dunno
	case r.Flags&(rewrite.ClassLocal|rewrite.ClassAlias|rewrite.ClassVirtual) != 0:
		return accept
	case r.Flags&rewrite.ClassRelay != 0:
		e.noteRelay(r.Recipient[i+1:])
		return accept
	}
	return dunno
}

func (e evaluation) unauthorised(code int, dsn string) verdict {
	rcpt, ok := e.rcpt()
	if !ok || rcpt == "" {
		return dunno
	}
	switch v := e.destination(rcpt); v {
	case accept:
		return dunno
	case reject:
		return v
	}
	return e.reject(classPolicy, code, dsn, "<%s>: Relay access denied", rcpt)
}

func rejectDestination(e evaluation) verdict {
	return e.unauthorised(e.srv.set.codes.relayDomains, "5.7.1")
}

func deferDestination(e evaluation) verdict {
	return e.unauthorised(e.srv.set.codes.relayDomains-100, "4.7.1")
}

func checkRelayDomains(e evaluation) verdict {
	e.srv.warnRelayDomains.Do(func() {
		e.log.Warn("support for restriction \"check_relay_domains\" will be removed from Postfix; use \"reject_unauth_destination\" instead")
	})
	rcpt, ok := e.rcpt()
	if !ok || rcpt == "" {
		return dunno
	}
	if v := e.destination(rcpt); v != dunno {
		return v
	}
	return e.reject(classPolicy, e.srv.set.codes.relayDomains, "5.7.1", "<%s>: Recipient address rejected: Relay access denied", rcpt)
}

// loginOwners are the logins that smtpd_sender_login_maps allows a sender to
// be used by; ok is false when the sender is not listed.
func (e evaluation) loginOwners(sender string) (owners []string, ok bool, v verdict) {
	r, v := e.resolve(sender)
	if v != dunno {
		return nil, false, v
	}
	value, found, err := e.srv.findRecipient(e.ctx, e.srv.maps.senderLogin, r.Recipient)
	if err != nil {
		return nil, false, e.lookupTrouble(sender)
	}
	return strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }), found, dunno
}

// mismatch is the body of the sender login restrictions.
func (e evaluation) mismatch(loggedIn, notLoggedIn bool, unlistedIsBad bool) verdict {
	if !e.srv.set.saslEnable {
		e.log.Warn("restriction `%s' ignored: no SASL support", e.element.name)
		return dunno
	}
	sender, given := e.sender()
	if !given || sender == "" {
		return dunno
	}
	login := e.sasl.user
	if login != "" && !loggedIn || login == "" && !notLoggedIn {
		return dunno
	}
	owners, found, v := e.loginOwners(sender)
	if v != dunno {
		return v
	}
	if login == "" {
		if !found {
			return dunno
		}
		return e.rejectAs(classPolicy, 553, "5.7.1", sender, "Sender address", "not logged in")
	}
	if !found && !unlistedIsBad {
		return dunno
	}
	for _, o := range owners {
		if strings.EqualFold(o, login) {
			return dunno
		}
	}
	return e.rejectAs(classPolicy, 553, "5.7.1", sender, "Sender address", "not owned by user "+login)
}

func rejectAuthMismatch(e evaluation) verdict   { return e.mismatch(true, false, true) }
func rejectUnauthMismatch(e evaluation) verdict { return e.mismatch(false, true, false) }
func rejectKnownMismatch(e evaluation) verdict  { return e.mismatch(true, true, false) }
