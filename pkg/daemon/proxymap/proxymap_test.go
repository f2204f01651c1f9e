package proxymap

import (
	"bufio"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	protocol "posthaste/pkg/ipc/proxymap"
	"posthaste/pkg/sys/maillog"
)

func TestApproved(t *testing.T) {
	for _, c := range []struct {
		list string
		want []string
	}{
		{"hash:/x proxy:hash:/a, proxy:proxy:cdb:/b", []string{"cdb:/b", "hash:/a"}},
		{"{proxy:ldap:x, search_order = local} proxy:unix:passwd.byname", []string{"ldap:x", "unix:passwd.byname"}},
		{"unionmap:{proxy:hash:/u, static:x} pipemap:{proxy:hash:/p}", []string{"hash:/p", "hash:/u"}},
		{"proxy:inline:{{foo=bar}}", []string{"inline:{{foo=bar}}"}},
		{"proxy:x", nil},
	} {
		got, err := approved(c.list)
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), c.want) {
			t.Errorf("%s: %v %v", c.list, got, err)
		}
	}
	if _, err := approved("{proxy:a:b"); err == nil {
		t.Error("unbalanced braces are accepted")
	}
}

// talk sends raw requests to a server and returns what it writes.
func talk(t *testing.T, name string, requests ...string) (replies []string, log *maillog.Buffer) {
	t.Helper()
	logger, log := maillog.Capture()
	c := conf.FromMap(map[string]string{
		"proxy_read_maps":  "proxy:inline:{{foo=bar}} proxy:hash:/nonexistent/x",
		"proxy_write_maps": "proxy:internal:cache",
	})
	s, err := newServer(c, logger, name)
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- s.requests(t.Context(), server, func() {}, func() {})
		server.Close()
	}()
	client.SetDeadline(time.Now().Add(10 * time.Second))
	r := attr.NewReader(bufio.NewReader(client), attr.Null, "test")
	if err := attr.Expect(r, protocol.Protocol); err != nil {
		t.Fatal(err)
	}
	for _, q := range requests {
		if _, err := client.Write([]byte(strings.ReplaceAll(q, "|", "\x00") + "\x00")); err != nil {
			t.Fatal(err)
		}
		list, err := r.List()
		if err != nil {
			t.Fatal(q, err)
		}
		var b strings.Builder
		for _, a := range list {
			b.WriteString(a.Name + "=" + a.Value + " ")
		}
		replies = append(replies, strings.TrimSpace(b.String()))
	}
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return replies, log
}

// The conversations of the spec (config.md §4.1, ipc.md §2.14).
func TestConversation(t *testing.T) {
	got, log := talk(t, "proxymap",
		"request|lookup|table|inline:{{foo=bar}}|flags|16448|key|FOO|",
		"request|lookup|table|proxy:inline:{{foo=bar}}|flags|16448|key|none|",
		"request|lookup|table|hash:/nope|flags|0|key|abc|",
		"request|open|table|inline:{{foo=bar}}|flags|0|",
		"request|update|table|inline:{{foo=bar}}|flags|64|key|a|value|b|",
		"request|frob|",
		"request|sequence|table|inline:{{foo=bar}}|flags|64|function|7|",
		"request|lookup|table|hash:/nonexistent/x|flags|64|key|a|")
	want := []string{
		"status=0 value=bar", "status=1 value=", "status=4 value=", "status=0 flags=80", "status=4", "status=3", "status=3 key= value=", "status=2 value=",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, line := range []string{
		`warning: request for unapproved table: "hash:/nope"`,
		`warning: to approve this table for read-only access, list proxy:hash:/nope in main.cf:proxy_read_maps`,
		`warning: refusing inline:{{foo=bar}} update request on non-proxywrite service`,
	} {
		if !slices.Contains(log.Lines(), line) {
			t.Errorf("not logged: %s\nbut %q", line, log.Lines())
		}
	}
}

func TestWrite(t *testing.T) {
	got, _ := talk(t, "proxywrite",
		"request|update|table|internal:cache|flags|64|key|a|value|b|",
		"request|lookup|table|internal:cache|flags|64|key|a|",
		"request|sequence|table|internal:cache|flags|64|function|0|",
		"request|delete|table|internal:cache|flags|64|key|a|",
		"request|delete|table|internal:cache|flags|64|key|a|")
	want := []string{"status=0", "status=0 value=b", "status=0 key=a value=b", "status=0", "status=1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestServiceName(t *testing.T) {
	if _, err := newServer(conf.FromMap(nil), maillog.Discard(), "other"); err == nil {
		t.Error("another service name is accepted")
	}
}
