package smtpd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/anvil"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/flush"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	"posthaste/pkg/table/localdomain"
	"posthaste/pkg/wire/dns"
	mailtls "posthaste/pkg/wire/tls"
)

// Server is what all sessions of a process share. It is immutable once
// sessions run.
type Server struct {
	set        *settings
	conf       *conf.Config
	log        *maillog.Logger
	debugLevel int
	service    string // name in master.cf
	standAlone bool
	queueDir   string
	env        table.Env

	dns        dns.Resolver
	native     dns.Native
	rewrite    resolver
	open       messageOpener
	newCounter func() counter // nil: nothing is counted
	flush      func(ctx context.Context, site string) (flush.Status, error)
	post       func(ctx context.Context, sender, to string) (poster, error)
	now        func() time.Time

	commands       map[string]command
	forbiddenWords map[string]bool
	lists          lists
	maps           maps
	local          *localdomain.Set
	policy         map[*listKind][]element
	trialRelay     []element
	runtime        *compiler // for right-hand sides of access tables
	tables         map[string]table.Table
	commandFilter  table.Table // nil: commands are taken as they are
	parentKeys     bool        // access tables: example.com matches its subdomains
	rewriteClients []element
	tlsEngine      *mailtls.Acceptor // nil: no TLS
	auth           *saslEngine       // nil: no SASL

	dnsLists                 listCache
	rblReplies               *table.Maps
	dnsFilter                *table.Maps
	backupNetworks           matcher
	policies                 map[string]*policyService // by argument
	verify                   verifier
	verifySender, verifyRcpt verification
	warnMapsRBL              sync.Once

	notify           errorClass
	autoUTF8         cleanup.Flags
	defaultVERP      string
	saslHeader       bool
	noUnlisted       bool
	ownerRequest     bool
	legacy           legacy
	wantsMilters     bool
	milters          *milterSetup // nil: no session has Milters
	obsoleteFrom     bool
	warnRelayDomains sync.Once
	instances        atomic.Uint64
}

// resolver is what smtpd asks trivial-rewrite.
type resolver interface {
	Rewrite(ctx context.Context, rule, addr string) (string, error)
	Resolve(ctx context.Context, sender, addr string) (rewrite.Reply, error)
}

// poster is a message of the mail system's own being written.
type poster interface {
	Printf(format string, a ...any)
	Close() (cleanup.Result, error)
}

// counter is a session's connection to anvil.
type counter interface {
	Connect(ctx context.Context, ident string) (count, rate int, err error)
	Disconnect(ctx context.Context, ident string) error
	Count(ctx context.Context, request, ident string) (rate int, err error)
	Close() error
}

// lists are the pattern lists of main.cf.
type lists struct {
	mynetworks, xclient, xforward, verp, debugPeers             matcher
	bareExclusions, eventExceptions, noop, forbidden, permitLog matcher
}

// maps are the lookup tables outside the restriction lists.
type maps struct {
	localRcpt, virtualMailbox, relayRcpt, virtualAlias *table.Maps
	canonical, rcptCanonical, senderCanonical          *table.Maps
	senderLogin, ehlo, footer                          *table.Maps
	clientCerts, sni                                   *table.Maps
}

// newServer opens the tables and lists of a configuration; it makes no
// connection. An error is a mistake in the configuration, worded for "fatal:".
func newServer(c *conf.Config, env table.Env, log *maillog.Logger, standAlone bool) (*Server, error) {
	set, err := loadSettings(c)
	if err != nil {
		return nil, err
	}
	srv := &Server{set: set, conf: c, log: log, env: env, standAlone: standAlone, queueDir: ".", now: time.Now, commands: commandTable(),
		dns: dns.NewClient(), native: dns.NewRecent(dns.System{}), debugLevel: c.Int("debug_peer_level")}
	if set.messageSize > 0 && set.queueMinFree > 0 && float64(set.queueMinFree)/1.5 < float64(set.messageSize) {
		log.Warn("queue_minfree(%d) should be at least 1.5*message_size_limit(%d)", set.queueMinFree, set.messageSize)
	}
	if srv.notify, err = notifyMask(set.notifyClasses); err != nil {
		return nil, err
	}
	srv.autoUTF8 = cleanup.AutoUTF8(c, cleanup.ClassSMTPD)
	srv.defaultVERP = c.String("default_verp_delimiters")
	srv.saslHeader = c.Bool("smtpd_sasl_authenticated_header")
	srv.ownerRequest = c.Bool("owner_request_special")
	srv.obsoleteFrom = c.String("header_from_format") == "obsolete"
	srv.parentKeys = table.ParentStyle(env, "smtpd_access_maps")
	srv.legacy = legacyDefaults(c)
	srv.wantsMilters = len(set.milters) > 0 || set.milterMaps != ""
	for _, o := range set.overrides {
		srv.noUnlisted = srv.noUnlisted || o == "no_unknown_recipient_checks"
		if o == "no_milters" {
			srv.wantsMilters = false
		}
	}
	if err := srv.openLists(); err != nil {
		return nil, err
	}
	if standAlone { // no restrictions, no tables: the user's files are the user's business
		return srv, srv.closePolicy()
	}
	if err := srv.openMaps(); err != nil {
		return nil, err
	}
	if err := srv.openRestrictions(); err != nil {
		return nil, err
	}
	if err := srv.loadPolicy(env); err != nil {
		return nil, err
	}
	srv.loadTLS()
	if err := srv.loadMilters(); err != nil {
		return nil, err
	}
	return srv, srv.loadSASL()
}

func (srv *Server) openLists() error {
	c := srv.conf
	const hosts, words = table.MatchHostAddr, table.MatchString
	for _, l := range []struct {
		to    *matcher
		param string
		kind  table.MatchKind
	}{
		{&srv.lists.mynetworks, "mynetworks", hosts},
		{&srv.lists.xclient, "smtpd_authorized_xclient_hosts", hosts},
		{&srv.lists.xforward, "smtpd_authorized_xforward_hosts", hosts},
		{&srv.lists.verp, "smtpd_authorized_verp_clients", hosts},
		{&srv.lists.bareExclusions, "smtpd_forbid_bare_newline_exclusions", hosts},
		{&srv.lists.eventExceptions, "smtpd_client_event_limit_exceptions", hosts},
		{&srv.lists.debugPeers, "debug_peer_list", hosts},
		{&srv.lists.noop, "smtpd_noop_commands", words},
		{&srv.lists.forbidden, "smtpd_forbidden_commands", words},
		{&srv.lists.permitLog, "smtpd_log_access_permit_actions", words},
	} {
		text := c.String(l.param)
		if strings.TrimSpace(text) == "" {
			continue
		}
		list, err := table.NewMatchList(srv.env, l.param, text, l.kind, 0)
		if err != nil {
			return err
		}
		l.to.list = list
	}
	srv.forbiddenWords = map[string]bool{}
	for _, w := range c.List("smtpd_forbidden_commands") {
		if !strings.Contains(w, ":") {
			srv.forbiddenWords[strings.ToUpper(w)] = true
		}
	}
	var err error
	srv.local, err = localdomain.New(srv.env)
	return err
}

// closePolicy leaves all tables empty.
func (srv *Server) closePolicy() error {
	empty := table.NewMaps(srv.env, "none")
	m := &srv.maps
	for _, t := range []**table.Maps{&m.localRcpt, &m.virtualMailbox, &m.relayRcpt, &m.virtualAlias, &m.canonical, &m.rcptCanonical, &m.senderCanonical, &m.senderLogin, &m.ehlo, &m.footer, &m.clientCerts, &m.sni} {
		*t = empty
	}
	return nil
}

func (srv *Server) openMaps() error {
	const folded = table.FoldFix | table.UTF8Request
	m := &srv.maps
	for _, t := range []struct {
		to    **table.Maps
		param string
		flags table.Flags
	}{
		{&m.localRcpt, "local_recipient_maps", folded},
		{&m.virtualMailbox, "virtual_mailbox_maps", folded},
		{&m.relayRcpt, "relay_recipient_maps", folded},
		{&m.virtualAlias, "virtual_alias_maps", folded},
		{&m.canonical, "canonical_maps", folded},
		{&m.rcptCanonical, "recipient_canonical_maps", folded},
		{&m.senderCanonical, "sender_canonical_maps", folded},
		{&m.senderLogin, "smtpd_sender_login_maps", folded},
		{&m.ehlo, "smtpd_discard_ehlo_keyword_address_maps", 0},
		{&m.footer, "smtpd_reject_footer_maps", 0},
		{&m.clientCerts, "relay_clientcerts", table.FoldFix},
		{&m.sni, "tls_server_sni_maps", table.FoldFix | table.SrcRHSIsFile},
	} {
		opened, err := table.OpenMaps(srv.env, t.param, srv.conf.String(t.param), t.flags)
		if err != nil {
			return err
		}
		*t.to = opened
	}
	if spec := srv.conf.String("smtpd_command_filter"); spec != "" {
		filter, err := table.Open(srv.env, spec, table.FoldFix)
		if err != nil {
			return err
		}
		srv.commandFilter = filter
	}
	return nil
}

// changed names a table whose file has changed since it was opened.
func (srv *Server) changed() (string, bool) {
	m := &srv.maps
	for _, t := range []*table.Maps{m.localRcpt, m.virtualMailbox, m.relayRcpt, m.virtualAlias, m.canonical, m.rcptCanonical, m.senderCanonical, m.senderLogin, m.ehlo, m.footer, m.clientCerts, m.sni, srv.rblReplies, srv.dnsFilter} {
		if name, changed := t.Changed(); changed {
			return name, true
		}
	}
	if t := srv.commandFilter; t != nil && table.Changed(t) {
		return table.RegistryName(t), true
	}
	if srv.milters != nil {
		if name, changed := srv.milters.maps.Changed(); changed {
			return name, true
		}
	}
	for _, t := range srv.tables {
		if table.Changed(t) {
			return table.RegistryName(t), true
		}
	}
	return "", false
}

// allowed asks whether the client is in a list.
func (s *session) allowed(m matcher) permission {
	yes, err := m.match(s.ctx, s.peer.name, s.peer.addr)
	return permission{granted: yes && err == nil, failed: err != nil}
}

// ident is the name under which anvil counts the client.
func (s *session) ident() string { return anvil.Ident(s.srv.service, s.peer.addr) }

// countConnection registers the client with anvil and applies the connection
// limits (spec §1.8); false means that it was turned away.
func (s *session) countConnection() bool {
	limits := s.srv.set.limits
	if !s.openCounter() {
		return true
	}
	count, rate, err := s.counter.Connect(s.ctx, s.ident())
	if err != nil {
		s.counter.Close()
		s.counter = nil
		return true
	}
	s.connections = count
	for _, l := range []struct {
		n, limit int
		what     string
	}{{count, limits.connections, "concurrency"}, {rate, limits.connectionRate, "rate"}} {
		if l.limit > 0 && l.n > l.limit {
			s.classes |= classPolicy
			s.reply("421 4.7.0 %s Error: too many connections from %s", s.srv.set.hostname, s.peer.addr)
			s.log.Warn("Connection %s limit exceeded: %d from %s for service %s", l.what, l.n, s.peer.namaddr, s.srv.service)
			return false
		}
	}
	return true
}

// openCounter makes the session's connection to anvil, if it is to be counted.
func (s *session) openCounter() bool {
	if s.srv.newCounter == nil || !s.srv.set.limits.any() || s.standAlone || s.xclient.granted || s.allowed(s.srv.lists.eventExceptions).granted {
		return false
	}
	if s.counter == nil {
		s.counter = s.srv.newCounter()
	}
	return true
}

func (s *session) uncount() {
	if s.counter != nil {
		s.counter.Disconnect(context.WithoutCancel(s.ctx), s.ident())
		s.counter.Close()
		s.counter = nil
	}
}

// rate is a limit on how often a client does something.
type rate struct {
	request string
	limit   int
	reply   string // after "450 4.7.1 Error: too many "
	log     string
}

func (s *session) messageRate() rate {
	return rate{anvil.Message, s.srv.set.limits.messages, "much mail", "Message delivery request"}
}

func (s *session) rcptRate() rate {
	return rate{anvil.Recipient, s.srv.set.limits.recipients, "many recipients", "Recipient address"}
}

// limited counts an event; true means that it was refused.
func (s *session) limited(what func() rate) bool {
	r := what()
	if r.limit <= 0 || s.counter == nil {
		return false
	}
	n, err := s.counter.Count(s.ctx, r.request, s.ident())
	if err != nil || n <= r.limit {
		return false
	}
	s.classes |= classPolicy
	s.reply("450 4.7.1 Error: too %s from %s", r.reply, s.peer.addr)
	s.log.Warn("%s rate limit exceeded: %d from %s for service %s", r.log, n, s.peer.namaddr, s.srv.service)
	return true
}

// newInstance names a message or command for policy servers.
func (s *session) newInstance(t time.Time) string {
	return fmt.Sprintf("%x.%x.%x.%x", os.Getpid(), t.Unix(), t.Nanosecond()/1000, s.srv.instances.Add(1))
}

// localClient decides the rewriting context of headers (spec §2.5); text is
// an error reply.
func (s *session) localClient() (local bool, text string) {
	for _, el := range s.srv.rewriteClients {
		e := evaluation{session: s, list: clientList, subject: s.peer.namaddr, element: &el}
		switch el.run(e) {
		case accept:
			return true, ""
		case reject:
			return false, s.checks.reply
		}
	}
	return false, ""
}

// loadRewriteClients compiles local_header_rewrite_clients.
func (srv *Server) loadRewriteClients() {
	srv.rewriteClients = nil
	names := map[string]func(evaluation) verdict{
		"permit_inet_interfaces": permitInterfaces, "permit_mynetworks": permitMyNetworks, "permit_sasl_authenticated": permitAuthenticated,
		"permit_tls_clientcerts": rewriteForCert(false), "permit_tls_all_clientcerts": rewriteForCert(true),
	}
	words := table.SplitList(srv.conf.String("local_header_rewrite_clients"))
	for i := 0; i < len(words); i++ {
		word := words[i]
		el := element{name: word, silent: true}
		if strings.EqualFold(word, "check_address_map") && i+1 < len(words) {
			i++
			word = words[i]
		}
		run, ok := names[strings.ToLower(word)]
		switch {
		case ok:
			el.run = run
		case strings.Contains(word, ":"):
			el.run = srv.addressMap(word)
		default:
			el.run = func(e evaluation) verdict {
				e.log.Warn("parameter local_header_rewrite_clients: invalid request: %s", word)
				e.checks.reply = "451 4.3.5 Server configuration error"
				return reject
			}
		}
		srv.rewriteClients = append(srv.rewriteClients, el)
	}
}

func (srv *Server) addressMap(spec string) func(evaluation) verdict {
	t, err := table.Open(srv.env, spec, table.FoldFix|table.UTF8Request)
	return func(e evaluation) verdict {
		if err != nil {
			e.checks.reply = "451 4.3.5 Server configuration error"
			return reject
		}
		_, found, err := t.Lookup(e.ctx, e.peer.addr)
		switch {
		case err != nil:
			e.checks.reply = "451 4.3.0 Temporary lookup error"
			return reject
		case found:
			return accept
		}
		return dunno
	}
}
