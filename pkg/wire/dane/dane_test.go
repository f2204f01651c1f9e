package dane

import (
	"context"
	"strings"
	"testing"

	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/dns"
)

// zone answers "NAME TYPE": secure or insecure TLSA 3 1 1 records or aliases,
// "servfail", or "usage" for a record of usage 1, "short" for one of two octets. asked notes the questions.
type zone struct {
	says  map[string]string
	asked []string
}

func (z *zone) Lookup(_ context.Context, name string, t dns.Type) (dns.Answer, error) {
	question := name + " " + t.String()
	z.asked = append(z.asked, question)
	switch says := z.says[question]; says {
	case "servfail":
		return dns.Answer{}, dns.NewError(dns.Temporary, name, t)
	case "":
		return dns.Answer{}, dns.NewError(dns.NotFound, name, t)
	default:
		rr := dns.Record{Usage: 3, Select: 1, Match: 1, Data: []byte{1}}
		if strings.Contains(says, "usage") {
			rr.Usage = 1
		}
		if strings.Contains(says, "short") {
			rr = dns.Record{Data: []byte{3, 1}, Short: true}
		}
		return dns.Answer{Records: []dns.Record{rr}, Name: name, Secure: !strings.Contains(says, "insecure")}, nil
	}
}

func TestFind(t *testing.T) {
	const mx, al = "_25._tcp.mx.test TLSA", "_25._tcp.al.test TLSA"
	plain, alias := Host{Name: "mx.test", Actual: "mx.test", Secure: true, Port: 25}, Host{Name: "al.test", Actual: "mx.test", Secure: true, Port: 25}
	insecure := func(h Host) Host { h.Secure = false; return h }
	for _, c := range []struct {
		name  string
		host  Host
		force bool
		says  map[string]string
		base  string // "" is not found
		count int
		asked string
		fails bool
	}{
		{name: "found", host: plain, says: map[string]string{mx: "ok"}, base: "mx.test", count: 1, asked: mx},
		{name: "none", host: plain, asked: mx},
		{name: "insecure record", host: plain, says: map[string]string{mx: "insecure"}, asked: mx},
		{name: "no use", host: plain, says: map[string]string{mx: "usage"}, base: "mx.test", asked: mx},
		{name: "too short", host: plain, says: map[string]string{mx: "short"}, base: "mx.test", asked: mx},
		{name: "twice in vain", host: plain, says: map[string]string{mx: "servfail"}, asked: mx + "," + mx, fails: true},
		{name: "insecure host", host: insecure(plain), says: map[string]string{mx: "ok"}},
		{name: "forced", host: insecure(plain), force: true, says: map[string]string{mx: "ok"}, base: "mx.test", count: 1, asked: mx},
		{name: "alias", host: alias, says: map[string]string{mx: "ok", al: "ok"}, base: "mx.test", count: 1, asked: mx},
		{name: "own of alias", host: alias, says: map[string]string{al: "ok"}, base: "al.test", count: 1, asked: mx + "," + al},
		{name: "alias into the open", host: insecure(alias), says: map[string]string{"al.test CNAME": "ok", al: "ok"}, base: "al.test", count: 1, asked: "al.test CNAME," + al},
		{name: "insecure alias", host: insecure(alias), says: map[string]string{"al.test CNAME": "insecure", al: "ok"}, asked: "al.test CNAME"},
		{name: "alias in vain", host: insecure(alias), says: map[string]string{"al.test CNAME": "servfail"}, asked: "al.test CNAME", fails: true},
		{name: "address", host: Host{Name: "192.0.2.1", Secure: true, Port: 25}},
		{name: "not by DNS", host: Host{Name: "mx.test", Port: 25}, force: true},
	} {
		log, _ := maillog.Capture()
		z := &zone{says: c.says}
		r, err := (&Finder{Resolver: z, Force: c.force, Log: log}).Find(t.Context(), c.host)
		if (err != nil) != c.fails || r.Found != (c.base != "") || r.Base != c.base || len(r.Records) != c.count || strings.Join(z.asked, ",") != c.asked {
			t.Errorf("%s: %+v, %v, asked %v", c.name, r, err, z.asked)
		}
	}
}
