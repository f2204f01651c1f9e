package localdomain

import (
	"testing"

	"posthaste/pkg/conf"
	"posthaste/pkg/table"
)

func TestSet(t *testing.T) {
	c := conf.FromMap(map[string]string{
		"myhostname": "mail.example.com", "mydomain": "example.com", "myorigin": "$mydomain",
		"mydestination": "$myhostname localhost inline:{listed.test=x}", "proxy_interfaces": "192.0.2.7 [2001:db8::7]",
		"inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
	})
	s, err := New(table.Env{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]struct{ match, bare bool }{
		"mail.example.com":    {true, true},
		"MAIL.example.com.":   {true, true},
		"mail.example.com..":  {false, false},
		"example.com":         {false, true},
		"listed.test":         {true, true},
		"sub.localhost":       {false, false},
		"":                    {false, false},
		"[127.0.0.1]":         {true, true},
		"[192.0.2.7]":         {true, true},
		"[192.0.2.8]":         {false, false},
		"[IPv6:2001:db8::7]":  {true, true},
		"[2001:db8::7]":       {false, false}, // not the syntax of a literal
		"[IPv6:192.0.2.7]":    {false, false},
		"[IPv6:2001:db8::7%1": {false, false},
	} {
		match, err1 := s.Match(t.Context(), domain)
		bare, err2 := s.Bare(t.Context(), domain)
		if err1 != nil || err2 != nil || match != want.match || bare != want.bare {
			t.Errorf("%s: %v %v, want %v (%v %v)", domain, match, bare, want, err1, err2)
		}
	}
	var none *Set
	if ok, err := none.Bare(t.Context(), "example.com"); ok || err != nil {
		t.Error("a nil Set holds something")
	}
}
