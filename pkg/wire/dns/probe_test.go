package dns

import (
	"fmt"
	"strings"
	"testing"
)

func TestProbe(t *testing.T) {
	for _, c := range []struct {
		text, warning string
		fail          bool
		ans           Answer
	}{
		{text: "ns:good.example", ans: Answer{}},
		{text: "ns:bare.example", ans: Answer{}, warning: "reason: dnssec_probe 'ns:bare.example' received a response that is not DNSSEC validated"},
		{text: "ns:bare.example", ans: Answer{Secure: true}},
		{text: "NS:gone.example", ans: Answer{}, warning: "reason: dnssec_probe 'NS:gone.example' received no response: Host or domain name not found. Name service error for name=gone.example type=NS: Host not found, try again"},
		{text: "", ans: Answer{}},
		{text: "xyzzy", fail: true}, {text: "xyzzy:x", fail: true}, {text: "ns:", fail: true},
	} {
		f := &Fake{Secure: map[string]bool{"good.example": true}, Fail: map[string]Status{"gone.example": Temporary}}
		f.Add("good.example", "NS a.example").Add("bare.example", "NS a.example")
		var warned []string
		p, err := NewProbe(f, c.text, func(format string, a ...any) { warned = append(warned, fmt.Sprintf(format, a...)) })
		if (err != nil) != c.fail {
			t.Fatal(c.text, err)
		}
		for range 2 {
			p.Check(t.Context(), c.ans, nil)
		}
		want := c.warning
		if want != "" {
			want = "DNSSEC validation may be unavailable|" + want
		}
		if got := strings.Join(warned, "|"); got != want {
			t.Errorf("%s: %s", c.text, got)
		}
	}
}
