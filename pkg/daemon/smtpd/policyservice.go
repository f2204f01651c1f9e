package smtpd

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"unicode/utf8"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/policy"
)

// policyService is a policy server as a restriction names it. What it orders
// is the right-hand side of an access table whose name is the restriction's
// argument, so a policyService is a table, too.
type policyService struct {
	name   string // the argument as written
	client *policy.Client
}

// Name implements table.Table; the rest of it is of no use here.
func (p *policyService) Name() string       { return p.name }
func (p *policyService) Flags() table.Flags { return 0 }
func (p *policyService) Close() error       { return nil }
func (p *policyService) Lookup(context.Context, string) (string, bool, error) {
	return "", false, nil
}

// policyService finds or makes the client for an argument of
// check_policy_service: there is one for each, with one pool of connections,
// in a process. A mistake in main.cf is kept in c.err, too; text from an access
// table can only name what main.cf has.
func (c *compiler) policyService(arg string) (*policyService, error) {
	srv := c.srv
	if p, ok := srv.policies[arg]; ok {
		return p, nil
	}
	if c.runtime {
		return nil, fmt.Errorf("policy service %s is not in main.cf", arg)
	}
	p, err := srv.newPolicyService(arg)
	if err != nil {
		if c.err == nil {
			c.err = err
		}
		return nil, err
	}
	if srv.policies == nil {
		srv.policies = map[string]*policyService{}
	}
	srv.policies[arg] = p
	return p, nil
}

func (srv *Server) newPolicyService(arg string) (*policyService, error) {
	cfg, err := policy.Parse(arg, policy.Defaults(srv.conf))
	if err != nil {
		return nil, err
	}
	cfg.Warn = srv.log.Warn
	cfg.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return srv.native.Addrs(ctx, host, srv.set.ipv4, srv.set.ipv6)
	}
	client, err := policy.New(cfg)
	if err != nil {
		return nil, err
	}
	return &policyService{name: arg, client: client}, nil
}

// checkPolicyService asks a policy server and does what it says (spec §4.11).
func checkPolicyService(e evaluation) verdict {
	p := e.element.table.(*policyService)
	l := lookup{evaluation: e, table: p, name: e.subject, class: e.list.class}
	action, err := p.client.Ask(e.ctx, e.policyRequest(p.client.Config().Context))
	if err == nil && e.srv.set.utf8 && !utf8.ValidString(action) {
		server := p.client.Config().Server
		e.log.Warn("malformed UTF-8 in policy server %s response: \"%s\"", server, printableBytes(action))
		err = policy.ErrNoAnswer
	}
	if err == nil {
		return l.action("policy query", action)
	}
	// A default action that asks a policy server again, and fails again, does
	// not go on for ever.
	action = p.client.Config().DefaultAction
	if e.checks.policyFailed {
		action = builtinDefaultAction
	}
	saved := e.checks.policyFailed
	e.checks.policyFailed = true
	v := l.action("policy query", action)
	e.checks.policyFailed = saved
	return v
}

// builtinDefaultAction is the default of smtpd_policy_service_default_action.
const builtinDefaultAction = "451 4.3.5 Server configuration problem"

// printableBytes replaces each byte that is no printable ASCII by "?".
func printableBytes(s string) string {
	b := []byte(s)
	for i, ch := range b {
		if ch < ' ' || ch > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// policyRequest is the request about the present state of the session, with
// every attribute in the order of spec §4.11.
func (s *session) policyRequest(policyContext string) []attr.Attr {
	sender, _ := s.sender()
	rcpt, _ := s.recipient()
	state, count, tx := s.where, 0, s.tx
	if tx == nil {
		tx = &transaction{}
	}
	switch state {
	case "BDAT", whereBDAT, whereData:
		state = "DATA"
	}
	if state == "DATA" || state == whereEOM {
		count = tx.rcptCount
	}
	etrn := ""
	if state == "ETRN" {
		etrn = s.checks.etrn
	}
	t, _ := s.tlsFacts()
	if !t.Trusted {
		t.Subject, t.Issuer = "", ""
	}
	return []attr.Attr{
		{Name: "request", Value: "smtpd_access_policy"},
		{Name: "protocol_state", Value: state},
		{Name: "protocol_name", Value: s.proto},
		{Name: "client_address", Value: s.peer.addr},
		{Name: "client_name", Value: s.peer.name},
		{Name: "client_port", Value: s.peer.port},
		{Name: "reverse_client_name", Value: s.peer.reverse},
		{Name: "server_address", Value: s.peer.serverAddr},
		{Name: "server_port", Value: s.peer.serverPort},
		{Name: "helo_name", Value: s.helo},
		{Name: "sender", Value: sender},
		{Name: "recipient", Value: rcpt},
		{Name: "recipient_count", Value: strconv.Itoa(count)},
		{Name: "queue_id", Value: tx.queueID},
		{Name: "instance", Value: tx.instance},
		{Name: "size", Value: strconv.FormatInt(tx.size, 10)},
		{Name: "etrn_domain", Value: etrn},
		{Name: "stress", Value: s.srv.set.stress},
		{Name: "sasl_method", Value: s.sasl.method},
		{Name: "sasl_username", Value: s.sasl.user},
		{Name: "sasl_sender", Value: tx.saslAuth},
		{Name: "ccert_subject", Value: dsn.XtextEncode(t.Subject, "+=")},
		{Name: "ccert_issuer", Value: dsn.XtextEncode(t.Issuer, "+=")},
		{Name: "ccert_fingerprint", Value: t.CertFingerprint},
		{Name: "ccert_pubkey_fingerprint", Value: t.PubkeyFingerprint},
		{Name: "encryption_protocol", Value: t.Protocol},
		{Name: "encryption_cipher", Value: t.Cipher},
		{Name: "encryption_keysize", Value: strconv.Itoa(t.Bits)},
		{Name: "policy_context", Value: policyContext},
	}
}
