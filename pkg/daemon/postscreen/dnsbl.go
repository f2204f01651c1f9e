package postscreen

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
	"posthaste/pkg/wire/dns"
)

// site is an entry of postscreen_dnsbl_sites (spec §8.2).
type site struct {
	domain  string
	pattern *dns.AddrPattern // nil is any answer
	weight  int
}

// maxWeight bounds a weight, so that no sum of them overflows.
const maxWeight = 1 << 20

// parseSite reads domain[=pattern][*weight]. Warnings about a domain go to warn.
func parseSite(text string, warn func(format string, a ...any)) (s site, err error) {
	s.weight = 1
	rest := text
	if before, weight, ok := cutLast(rest, '*'); ok {
		n, err := strconv.Atoi(weight)
		if err != nil || n > maxWeight || n < -maxWeight {
			return s, fmt.Errorf("bad DNSBL weight factor \"%s\" in \"%s\"", weight, text)
		}
		rest, s.weight = before, n
	}
	if before, pattern, ok := strings.Cut(rest, "="); ok {
		if s.pattern, err = dns.ParseAddrPattern(pattern); err != nil {
			return s, fmt.Errorf("bad DNSBL filter syntax: %w", err)
		}
		rest = before
	}
	if err := dns.CheckHostname(rest); err != nil {
		warn("%v", err)
		return s, fmt.Errorf("bad DNSBL domain name \"%s\" in \"%s\"", rest, text)
	}
	s.domain = rest
	return s, nil
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// lists are the DNS lists, and what is being asked.
type lists struct {
	log     *maillog.Logger
	sites   []site
	domains []string // each once
	service string
	timeout time.Duration

	mu     sync.Mutex
	scores map[string]*score // of addresses that have a session, or are asked about
	label  int
}

// score is what the lists say about an address. It is shared by the sessions of
// that address.
type score struct {
	users   map[*session]struct{}
	pending int           // domains that have not answered
	done    chan struct{} // closed when all have answered
	total   int
	ttl     int // seconds; the least one known, -1 is none
	domain  string
	weight  int // of domain, the heaviest
}

// loadLists reads postscreen_dnsbl_sites; nil if it is empty.
func loadLists(d *daemon, env table.Env) (*lists, error) {
	words := env.Config.List("postscreen_dnsbl_sites")
	if len(words) == 0 {
		return nil, nil
	}
	l := &lists{log: d.log, service: d.set.dnsblogService, timeout: d.set.dnsblTimeout, scores: map[string]*score{}}
	seen := map[string]bool{}
	for _, word := range words {
		s, err := parseSite(word, env.Log.Warn)
		if err != nil {
			return nil, err
		}
		l.sites = append(l.sites, s)
		if !seen[s.domain] {
			seen[s.domain] = true
			l.domains = append(l.domains, s.domain)
		}
	}
	return l, nil
}

// ask starts the questions about a client, or joins those that are under way.
// The caller gives the score back with release.
func (l *lists) ask(ctx context.Context, user *session) *score {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr := user.addr
	s := l.scores[addr]
	if s == nil {
		s = &score{users: map[*session]struct{}{}, pending: len(l.domains), done: make(chan struct{}), ttl: -1}
		l.scores[addr] = s
		for _, domain := range l.domains {
			l.label++
			go l.query(ctx, s, domain, addr, l.label)
		}
	}
	s.users[user] = struct{}{}
	return s
}

// release gives the score back.
func (l *lists) release(user *session, s *score) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(s.users, user)
	l.forget(user.addr, s)
}

// forget drops a score that has neither users nor questions under way. Those whose
// user has gone are waited for: a client that comes and goes must not have any
// number of them. The lock is held.
func (l *lists) forget(addr string, s *score) {
	if len(s.users) == 0 && s.pending == 0 {
		delete(l.scores, addr)
	}
}

// read gives what is known so far.
func (l *lists) read(s *score) (total, ttl int, domain string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.total, s.ttl, s.domain
}

// query asks one list through dnsblog.
func (l *lists) query(ctx context.Context, s *score, domain, addr string, label int) {
	listed, ttl, err := l.exchange(ctx, domain, addr, label)
	if err != nil {
		l.log.Warn("%v", err)
		ttl = -1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if ttl >= 0 && (s.ttl < 0 || ttl < s.ttl) {
		s.ttl = ttl
	}
	for _, site := range l.sites {
		if site.domain == domain && site.matches(listed) {
			s.total += site.weight
			if s.domain == "" || site.weight > s.weight {
				s.domain, s.weight = domain, site.weight
			}
		}
	}
	if s.pending--; s.pending == 0 {
		close(s.done)
		for user := range s.users {
			user.wake()
		}
		l.forget(addr, s)
	}
}

// matches reports whether any address of an answer is what the site is about.
func (s site) matches(listed []netip.Addr) bool {
	for _, a := range listed {
		if s.pattern.Matches(a) {
			return true
		}
	}
	return false
}

// exchange is a request to dnsblog. An answer without a known life has ttl -1.
func (l *lists) exchange(ctx context.Context, domain, addr string, label int) (listed []netip.Addr, ttl int, err error) {
	conn, err := dial.Dialer{Timeout: l.timeout}.Dial(ctx, "private", l.service)
	if err != nil {
		return nil, -1, fmt.Errorf("psc_dnsbl_request: connect to private/%s service: %s", l.service, dial.Reason(err))
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(l.timeout))
	out, in := attr.NewWriter(conn.Conn, attr.Null), attr.NewReader(conn.Conn, attr.Null, "private/"+l.service+" service")
	err = out.Str("rbl_domain", domain).Str("client_address", addr).Int("label", label).Send()
	var backDomain, backAddr, text string
	var backLabel int
	if err == nil {
		err = in.Scan(attr.Str("rbl_domain", &backDomain), attr.Str("client_address", &backAddr), attr.Int("label", &backLabel),
			attr.Str("rbl_addr", &text), attr.Int("ttl", &ttl))
	}
	switch {
	case timedOut(err):
		return nil, -1, fmt.Errorf("dnsblog reply timeout %ds for %s", int(l.timeout/time.Second), domain)
	case err != nil:
		return nil, -1, fmt.Errorf("psc_dnsbl_receive: private/%s service: %s", l.service, dial.Reason(err))
	case backDomain != domain || backAddr != addr || backLabel != label:
		return nil, -1, fmt.Errorf("psc_dnsbl_receive: private/%s service: unexpected reply", l.service)
	}
	for _, word := range strings.Fields(text) {
		if a, ok := dns.ParseAddr(word); ok {
			listed = append(listed, a)
		}
	}
	return listed, ttl, nil
}
