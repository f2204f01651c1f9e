package dns

import (
	"context"
	"net/netip"
	"strings"
	"sync"
)

// Fake is a Resolver and a Native for tests. Names are lower case; what is
// not in its tables does not exist.
type Fake struct {
	// Records holds the records of each name.
	Records map[string][]Record
	// Fail makes every lookup of a name ("x.example") or of one type of it
	// ("x.example MX") fail with that status.
	Fail map[string]Status
	// Secure marks names whose answers are DNSSEC-validated.
	Secure map[string]bool
	// Names is the host database for Native: address to name; Hosts the
	// other way.
	Names map[string]string
	Hosts map[string][]string

	mu    sync.Mutex
	asked []string
}

// Add adds records in a short form: "MX 10 mx.example", "A 192.0.2.1",
// "AAAA 2001:db8::1", "TXT text", "CNAME x", "NS x", "PTR x". It panics at
// other forms.
func (f *Fake) Add(name string, records ...string) *Fake {
	if f.Records == nil {
		f.Records = map[string][]Record{}
	}
	name = strings.ToLower(name)
	for _, s := range records {
		kind, data, _ := strings.Cut(s, " ")
		r := Record{Name: name, TTL: 3600}
		switch kind {
		case "A", "AAAA":
			r.Type, r.Addr = A, netip.MustParseAddr(data)
			if kind == "AAAA" {
				r.Type = AAAA
			}
		case "MX":
			pref, host, _ := strings.Cut(data, " ")
			for _, ch := range pref {
				r.Pref = r.Pref*10 + uint16(ch-'0')
			}
			r.Type, r.Host = MX, strings.TrimSuffix(host, ".")
		case "TXT":
			r.Type, r.Text = TXT, data
		case "CNAME":
			r.Type, r.Host = CNAME, data
		case "NS":
			r.Type, r.Host = NS, data
		case "PTR":
			r.Type, r.Host = PTR, data
		default:
			panic("dns.Fake: unknown record " + s)
		}
		f.Records[name] = append(f.Records[name], r)
	}
	return f
}

// Asked returns the questions so far, each "name TYPE".
func (f *Fake) Asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

// Lookup implements Resolver.
func (f *Fake) Lookup(ctx context.Context, name string, t Type) (Answer, error) {
	f.mu.Lock()
	f.asked = append(f.asked, name+" "+t.String())
	f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	ascii, ok := ASCII(strings.TrimSuffix(name, "."))
	if !ok || !askable(ascii, t) {
		return Answer{}, badName(name, t)
	}
	qname, secure := strings.ToLower(ascii), true
	for range maxCNAME {
		for _, key := range []string{qname, qname + " " + t.String()} {
			if status, ok := f.Fail[key]; ok {
				return Answer{}, NewError(status, name, t)
			}
		}
		secure = secure && f.Secure[qname]
		all, exists := f.Records[qname]
		if !exists {
			e := NewError(NotFound, name, t)
			e.Secure = secure
			return Answer{}, e
		}
		ans, alias := Answer{Name: qname, Secure: secure}, ""
		for _, r := range all {
			switch r.Type {
			case t:
				ans.Records = append(ans.Records, r)
			case CNAME:
				alias = r.Host
			}
		}
		switch {
		case len(ans.Records) > 0 && t == MX && ans.Records[0].Host == "":
			return ans, NewError(NullMX, name, t)
		case len(ans.Records) > 0:
			return ans, nil
		case alias == "":
			e := NewError(NoData, name, t)
			e.Secure = secure
			return ans, e
		}
		qname = strings.ToLower(alias)
	}
	return Answer{}, NewError(Invalid, name, t)
}

// Addrs implements Native from Hosts.
func (f *Fake) Addrs(ctx context.Context, host string, ipv4, ipv6 bool) ([]netip.Addr, error) {
	if status, ok := f.Fail[host]; ok && status == Temporary {
		return nil, &NativeError{Temporary: true, Text: gaiAgain}
	}
	list, ok := f.Hosts[strings.ToLower(host)]
	if !ok {
		return nil, &NativeError{Text: gaiNoName}
	}
	var out []netip.Addr
	for _, s := range list {
		if a := netip.MustParseAddr(s); a.Is4() && ipv4 || a.Is6() && ipv6 {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, &NativeError{Text: gaiNoData}
	}
	return out, nil
}

// Name implements Native from Names.
func (f *Fake) Name(ctx context.Context, addr netip.Addr) (string, error) {
	if status, ok := f.Fail[addr.String()]; ok && status == Temporary {
		return "", &NativeError{Temporary: true, Text: gaiAgain}
	}
	if name, ok := f.Names[addr.String()]; ok {
		return name, nil
	}
	return "", &NativeError{Text: gaiNoName}
}
