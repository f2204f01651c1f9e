package rewrite

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/sys/maillog"
)

func resolver(t testing.TB, settings ...string) (*Resolver, *maillog.Buffer) {
	t.Helper()
	m := make(map[string]string)
	for _, s := range append(common[:len(common):len(common)], settings...) {
		k, v, _ := strings.Cut(s, "=")
		m[k] = v
	}
	log, lines := maillog.Capture()
	r, err := NewResolver(conf.FromMap(m), log)
	if err != nil {
		t.Fatal(err)
	}
	return r, lines
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		settings []string
		addr     string
		want     string
	}{
		{[]string{"virtual_mailbox_domains=valias.example"}, "a@valias.example", "warning: do not list domain valias.example in BOTH virtual_alias_domains and virtual_mailbox_domains"},
		{[]string{"virtual_alias_domains=spec.example"}, "a@spec.example", "warning: do not list domain spec.example in BOTH mydestination and virtual_alias_domains"},
		{[]string{"helpful_warnings=no", "virtual_alias_domains=spec.example"}, "a@spec.example", ""},
		{[]string{"transport_maps=fail:x"}, "a@else.com", "warning: transport_maps lookup failure"},
		{[]string{"relocated_maps=fail:x"}, "a@else.com", "warning: relocated_maps lookup failure"},
		{[]string{"virtual_alias_domains=fail:x"}, "a@else.com", "warning: virtual_alias_domains lookup failure"},
		{[]string{"sender_dependent_relayhost_maps=fail:x"}, "a@else.com", "warning: sender_dependent_relayhost_maps lookup failure"},
		{[]string{"default_transport=:x"}, "a@else.com", "parameter default_transport: null transport is not allowed"},
	} {
		r, lines := resolver(t, c.settings...)
		r.Resolve(context.Background(), false, "s@t", c.addr)
		if got := strings.Join(lines.Lines(), "\n"); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%v: %q, want %q", c.settings, got, c.want)
		}
	}
}

func TestRewriteRules(t *testing.T) {
	r, lines := resolver(t)
	if got, ok := r.Rewrite("local", ""); got != "" || !ok || !strings.Contains(strings.Join(lines.Lines(), ""), "rewrite_addr: null address") {
		t.Errorf("%q %v %q", got, ok, lines.Lines())
	}
	if _, ok := r.Rewrite("elsewhere", "joe"); ok {
		t.Error("unknown rule accepted")
	}
}

func TestLegacyDomain(t *testing.T) {
	r, lines := resolver(t, "mydestination=spec.example")
	r.syntax.AppendDomain, r.syntax.Legacy = true, r.legacy
	r.Rewrite("local", "a@host")
	r.Rewrite("local", "a@localhost")
	want := "using backwards-compatible default setting append_dot_mydomain=yes to rewrite \"host\" to \"host.spec.example\"\n" +
		"using backwards-compatible default setting append_dot_mydomain=yes to rewrite \"localhost\" to \"localhost.spec.example\"; please add \"localhost\" to mydestination or other address class"
	if got := strings.Join(lines.Lines(), "\n"); got != want {
		t.Errorf("%q", got)
	}
}

// The "*" entry is asked for once in 30 seconds, other entries always.
func TestWildcardAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "transport")
	os.WriteFile(path, []byte("* one:\n"), 0644)
	r, _ := resolver(t, "transport_maps=texthash:"+path)
	now := time.Now()
	r.normal.transport.now = func() time.Time { return now }
	get := func() string { return r.Resolve(context.Background(), false, "", "a@else.com").Transport }
	if got := get(); got != "one" {
		t.Fatal(got)
	}
	r.normal.transport.value = "remembered:"
	if got := get(); got != "remembered" {
		t.Errorf("asked again: %s", got)
	}
	now = now.Add(31 * time.Second)
	if got := get(); got != "one" {
		t.Errorf("not asked again: %s", got)
	}
}

// Many clients at once get their own answers.
func TestConcurrentClients(t *testing.T) {
	r, _ := resolver(t, transports, relocated, "recipient_delimiter=+")
	d := &daemon{r: r}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			ours, theirs := net.Pipe()
			defer ours.Close()
			go func() { d.talk(context.Background(), theirs, "rewrite socket", func() {}, func() {}); theirs.Close() }()
			in, out := attr.NewReader(ours, attr.Null, "x"), attr.NewWriter(ours, attr.Null)
			if err := attr.Expect(in, rewrite.Protocol); err != nil {
				t.Error(err)
				return
			}
			for n := range 50 {
				addr := fmt.Sprintf("u%d-%d@else.com", i, n)
				if err := rewrite.WriteRequest(out, rewrite.Request{Kind: "resolve", Address: addr}); err != nil {
					t.Error(err)
					return
				}
				var a, b int
				var transport, hop, rcpt string
				if err := in.Scan(attr.Int("flags", &a), attr.Str("transport", &transport), attr.Str("nexthop", &hop), attr.Str("recipient", &rcpt), attr.Int("flags", &b)); err != nil || rcpt != addr || hop != "[one]" {
					t.Errorf("%s: %s %s %v", addr, rcpt, hop, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

type rw struct {
	io.Reader
	io.Writer
}

func FuzzTalk(f *testing.F) {
	f.Add([]byte("request\x00resolve\x00sender\x00\x00address\x00joe@else.com\x00\x00"))
	f.Add([]byte("request\x00rewrite\x00rule\x00local\x00address\x00a!b%c@\"x\"\x00\x00"))
	f.Add([]byte("request\x00verify\x00sender\x00<>\x00address\x00\"a@b\"@spec.example\x00\x00request\x00x\x00\x00"))
	r, _ := resolver(f, transports, relocated, "recipient_delimiter=+", "append_dot_mydomain=yes")
	d := &daemon{r: r}
	f.Fuzz(func(t *testing.T, data []byte) {
		d.talk(context.Background(), rw{bytes.NewReader(data), io.Discard}, "rewrite socket", func() {}, func() {})
	})
}

func BenchmarkResolve(b *testing.B) {
	r, _ := resolver(b, transports)
	for b.Loop() {
		r.Resolve(context.Background(), false, "s@t", "joe@else.com")
	}
}
