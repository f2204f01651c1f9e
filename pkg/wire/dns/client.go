package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Client asks name servers. It is safe for concurrent use.
type Client struct {
	// DNSSEC asks for validated answers: EDNS0 with DO, and trust in the AD
	// bit of the resolver (smtp_dns_support_level = dnssec).
	DNSSEC bool
	// Search appends the search list of resolv.conf to names (res_dnsrch),
	// DefNames the domain to names without a dot (res_defnames).
	Search, DefNames bool
	// Filter, if not nil, is dns_reply_filter: it returns the records to use.
	Filter func(records []Record) ([]Record, error)

	path    string
	servers []string // fixed by NewServers

	mu     sync.Mutex
	conf   *dns.ClientConfig
	mtime  time.Time
	looked time.Time
	next   atomic.Uint32
}

// NewClient returns a Client on the servers of /etc/resolv.conf, which is
// read again when it changed.
func NewClient() *Client { return &Client{path: "/etc/resolv.conf"} }

// NewServers returns a Client on fixed servers, each "address:port".
func NewServers(servers ...string) *Client { return &Client{servers: servers} }

// Defaults of resolv.conf where it says nothing.
const (
	udpSize     = 4096             // bytes of an answer we take over UDP
	maxTimeout  = 30 * time.Second // for one try
	recheckConf = 5 * time.Second
)

func (c *Client) config() *dns.ClientConfig {
	if c.servers != nil {
		return &dns.ClientConfig{Timeout: 5, Attempts: 2}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conf != nil && time.Since(c.looked) < recheckConf {
		return c.conf
	}
	c.looked = time.Now()
	info, err := os.Stat(c.path)
	if err == nil && c.conf != nil && info.ModTime().Equal(c.mtime) {
		return c.conf
	}
	conf, err := dns.ClientConfigFromFile(c.path)
	if err != nil || len(conf.Servers) == 0 {
		if conf == nil {
			conf = &dns.ClientConfig{Port: "53", Ndots: 1, Timeout: 5, Attempts: 2}
		}
		conf.Servers = []string{"127.0.0.1"}
	}
	if info != nil {
		c.mtime = info.ModTime()
	}
	c.conf = conf
	return conf
}

func (c *Client) serverList(conf *dns.ClientConfig) []string {
	if c.servers != nil {
		return c.servers
	}
	list := make([]string, len(conf.Servers))
	for i, s := range conf.Servers {
		list[i] = net.JoinHostPort(s, conf.Port)
	}
	return list
}

// Lookup implements Resolver.
func (c *Client) Lookup(ctx context.Context, name string, t Type) (Answer, error) {
	ascii, ok := ASCII(strings.TrimSuffix(name, "."))
	if name == "." {
		ascii = name
	}
	if !ok || !askable(ascii, t) {
		return Answer{}, badName(name, t)
	}
	conf := c.config()
	var first error
	for _, candidate := range c.candidates(ascii, conf) {
		ans, err := c.follow(ctx, conf, candidate, t)
		if e, bad := err.(*Error); bad && e.Missing() {
			if first == nil {
				first = err
			}
			continue
		}
		return ans, err
	}
	return Answer{}, first
}

// askable refuses names that no host or domain has. Names of services
// ("_25._tcp.x") and DNS lists pass.
func askable(name string, t Type) bool {
	if name == "." || name == "" {
		return t == NS || t == SOA
	}
	if t == A || t == AAAA || t == MX {
		return ValidHostname(name)
	}
	return len(name) <= 255 && !strings.Contains(name, "..")
}

func (c *Client) candidates(name string, conf *dns.ClientConfig) []string {
	dots := strings.Count(name, ".")
	if c.Search && len(conf.Search) > 0 {
		var list []string
		if dots >= conf.Ndots {
			list = append(list, name)
		}
		for _, s := range conf.Search {
			list = append(list, name+"."+strings.TrimSuffix(s, "."))
		}
		if dots < conf.Ndots {
			list = append(list, name)
		}
		return list
	}
	if c.DefNames && dots == 0 && len(conf.Search) > 0 {
		return []string{name + "." + strings.TrimSuffix(conf.Search[0], "."), name}
	}
	return []string{name}
}

// follow asks for name and goes along aliases.
func (c *Client) follow(ctx context.Context, conf *dns.ClientConfig, name string, t Type) (Answer, error) {
	qname, secure := name, true
	for range maxCNAME {
		msg, err := c.exchange(ctx, conf, qname, t)
		if err != nil {
			if ctx.Err() != nil {
				return Answer{}, ctx.Err()
			}
			return Answer{}, NewError(Temporary, name, t)
		}
		secure = secure && c.DNSSEC && msg.AuthenticatedData
		if err := rcodeError(msg, name, t, secure); err != nil {
			return Answer{}, err
		}
		ans, target, err := extract(msg, name, qname, t)
		if err != nil {
			return ans, err
		}
		if len(ans.Records) > 0 {
			ans.Secure = secure
			return c.filtered(ans, name, t)
		}
		if target == "" {
			e := NewError(NoData, name, t)
			e.Secure, e.TTL = secure, negativeTTL(msg)
			return ans, e
		}
		qname = target
	}
	e := NewError(Invalid, name, t)
	e.Text = "Name server loop for " + name
	return Answer{}, e
}

func (c *Client) filtered(ans Answer, name string, t Type) (Answer, error) {
	if c.Filter == nil {
		return ans, nil
	}
	records, err := c.Filter(ans.Records)
	if err != nil {
		e := NewError(Temporary, name, t)
		e.Short = "Invalid DNS reply filter syntax"
		e.Text = fmt.Sprintf("Error looking up name=%s type=%s: %s", name, t, e.Short)
		return Answer{}, e
	}
	if len(records) == 0 {
		return Answer{}, NewError(Policy, name, t)
	}
	ans.Records = records
	return ans, nil
}

func rcodeError(msg *dns.Msg, name string, t Type, secure bool) error {
	switch msg.Rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeNameError:
		e := NewError(NotFound, name, t)
		e.Secure, e.TTL = secure, negativeTTL(msg)
		return e
	case dns.RcodeFormatError, dns.RcodeNotImplemented:
		return NewError(Fail, name, t)
	}
	return NewError(Temporary, name, t)
}

// negativeTTL is the SOA record's own time to live, as in the original: it is
// the server that has to make it no longer than MINIMUM (RFC 2308 §3).
func negativeTTL(msg *dns.Msg) uint32 {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa.Hdr.Ttl
		}
	}
	return 0
}

// exchange asks the servers in turn, over TCP when the answer does not fit.
func (c *Client) exchange(ctx context.Context, conf *dns.ClientConfig, name string, t Type) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), uint16(t))
	q.SetEdns0(udpSize, c.DNSSEC)
	q.AuthenticatedData = c.DNSSEC
	servers := c.serverList(conf)
	var last error = fmt.Errorf("no name server")
	var soft *dns.Msg
	timeout := min(time.Duration(max(conf.Timeout, 1))*time.Second, maxTimeout)
	start := int(c.next.Load())
	for range max(conf.Attempts, 1) {
		for i := range servers {
			server := servers[(start+i)%len(servers)]
			q.Id = dns.Id()
			msg, err := ask(ctx, q, server, timeout)
			if err != nil {
				last = err
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				continue
			}
			if msg.Rcode == dns.RcodeFormatError && q.IsEdns0() != nil {
				q.Extra = nil // an old server that does not know EDNS
				if again, err := ask(ctx, q, server, timeout); err == nil {
					msg = again
				}
			}
			if msg.Rcode == dns.RcodeServerFailure || msg.Rcode == dns.RcodeRefused {
				soft = msg
				continue
			}
			return msg, nil
		}
		if soft != nil {
			return soft, nil
		}
	}
	return nil, last
}

// extract takes the records of type t out of an answer, and the last alias
// if there is none.
func extract(msg *dns.Msg, name, qname string, t Type) (Answer, string, error) {
	ans := Answer{Name: qname}
	alias := ""
	owner := dns.CanonicalName(qname)
	for range maxCNAME { // go along the chain inside the answer
		next := ""
		for _, rr := range msg.Answer {
			if cn, ok := rr.(*dns.CNAME); ok && t != CNAME && dns.CanonicalName(cn.Hdr.Name) == owner {
				next = cn.Target
			}
		}
		if next == "" {
			break
		}
		alias, owner = strings.TrimSuffix(next, "."), dns.CanonicalName(next)
		ans.Name = alias
	}
	var invalid error
	for _, rr := range msg.Answer {
		h := rr.Header()
		if Type(h.Rrtype) != t || dns.CanonicalName(h.Name) != owner {
			continue
		}
		if len(ans.Records) == MaxRecords {
			ans.Warnings = append(ans.Warnings, fmt.Sprintf("DNS record count limit (%d) exceeded -- dropping excess record(s) after qname=%s qtype=%s", MaxRecords, name, t))
			break
		}
		r, err := convert(rr, &ans, name)
		if err != nil {
			invalid = err
			continue
		}
		ans.Records = append(ans.Records, r)
	}
	if len(ans.Records) == 0 && invalid != nil {
		return ans, "", invalid
	}
	if len(ans.Records) > 0 && t == MX {
		for _, r := range ans.Records {
			if r.Host == "" {
				return ans, "", NewError(NullMX, name, t)
			}
		}
	}
	return ans, alias, nil
}

// convert turns a library record into ours; ans takes warnings.
func convert(rr dns.RR, ans *Answer, name string) (Record, error) {
	h := rr.Header()
	r := Record{Name: strings.TrimSuffix(h.Name, "."), Type: Type(h.Rrtype), TTL: h.Ttl}
	var host string
	switch rr := rr.(type) {
	case *dns.A:
		return r.address(rr.A.To4(), name)
	case *dns.AAAA:
		return r.address(rr.AAAA.To16(), name)
	case *dns.TXT:
		r.Text = printable(strings.Join(rr.Txt, ""), maxTXT)
		return r, nil
	case *dns.TLSA:
		r.Usage, r.Select, r.Match = rr.Usage, rr.Selector, rr.MatchingType
		data, err := hexBytes(rr.Certificate)
		if err != nil {
			return r, NewError(Invalid, name, r.Type)
		}
		r.Data = data
		return r, nil
	case *dns.RFC3597: // of the types that are asked for only a TLSA record can be one
		data, err := hexBytes(rr.Rdata)
		r.Data, r.Short = data, true
		return r, err
	case *dns.MX:
		r.Pref, host = rr.Preference, rr.Mx
	case *dns.SRV:
		r.Pref, r.Weight, r.Port, host = rr.Priority, rr.Weight, rr.Port, rr.Target
	case *dns.NS:
		host = rr.Ns
	case *dns.PTR:
		host = rr.Ptr
	case *dns.CNAME:
		host = rr.Target
	case *dns.SOA:
		host = rr.Ns
	default:
		return r, nil
	}
	r.Host = strings.TrimSuffix(host, ".")
	if r.Host == "" && (r.Type == MX || r.Type == SRV) || ValidHostname(r.Host) {
		return r, nil
	}
	if _, ok := ParseAddr(r.Host); ok && r.Type == MX {
		ans.Warnings = append(ans.Warnings, fmt.Sprintf("numeric domain name in resource data of MX record for %s: %s", name, r.Host))
		return r, nil
	}
	ans.Warnings = append(ans.Warnings, fmt.Sprintf("malformed domain name in resource data of %s record for %s: %.100s", r.Type, name, r.Host))
	return r, NewError(Invalid, name, r.Type)
}

// address sets the address of a record; one without data has none.
func (r Record) address(ip net.IP, name string) (Record, error) {
	var ok bool
	if r.Addr, ok = netip.AddrFromSlice(ip); !ok {
		return r, NewError(Invalid, name, r.Type)
	}
	return r, nil
}

func printable(s string, limit int) string {
	b := []byte(s[:min(len(s), limit)])
	for i, ch := range b {
		if ch < ' ' || ch > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
