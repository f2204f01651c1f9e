package local

import (
	"strings"
	"testing"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/address"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// FuzzList: whatever stands in a list, its elements are found without harm, and
// no element of it can be taken for two kinds.
func FuzzList(f *testing.F) {
	for _, s := range []string{"joe", `a, "b c"@d (x)`, ":include:/etc/passwd", "\\joe, <@a:b@c>", "group: a, b;", "\"|x", "~/x", "~joe", "<\x00>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		n := 0
		address.Parse(list, 0).Addresses(func(words address.List) {
			n++
			_ = words.Internal()
			_ = words.String()
		})
		if n > len(list)+1 {
			t.Errorf("%d elements in %q", n, list)
		}
	})
}

// FuzzParse: any recipient is taken apart into pieces that make the whole.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"joe@x", "joe+a@x", "+@", "\\joe@x", "", "a@b@c", "joe+a/b@x", "owner-x@y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		d := newDaemon(nil)
		d.ext = address.Extensions{Delimiters: "+-", OwnerRequest: true}
		k := &task{daemon: d, job: &agent.Job{Log: maillog.Discard()}}
		s := state{rcpt: deliver.Recipient{Address: addr}}
		k.parse(&s)
		if !strings.HasPrefix(s.local, s.user) || s.extension != "" && s.user+s.extension != s.local {
			t.Errorf("%q: %q %q %q", addr, s.local, s.user, s.extension)
		}
		m := macros{state: &s, id: &cred.Identity{Home: "/h"}, delimiters: "+"}
		path, err := m.expand("$home/.forward$recipient_delimiter$extension", "/abch+")
		if err == nil && strings.Count(path, "/") != 2 && !m.undefined {
			t.Errorf("%q leaves the directory: %q", addr, path)
		}
	})
}

// FuzzMacros: a template from main.cf is expanded or refused.
func FuzzMacros(f *testing.F) {
	for _, s := range []string{"$home/.forward${recipient_delimiter}${extension}", "${x?{a}:{b}}", "$$home", "$(user)", "${"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, template string) {
		m := macros{state: &state{user: "u", local: "u"}, delimiters: "+"}
		_, _ = m.expand(template, "")
	})
}
