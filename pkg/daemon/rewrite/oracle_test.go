package rewrite

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/rewrite"
	"posthaste/pkg/sys/maillog"
)

// The answers in testdata/answers.txt are those of Debian's trivial-rewrite
// 3.7.11. They are made anew on a machine (namespace) where Debian's postfix is
// installed: TestOracle adds, with the environment variable ORACLE_MASTER, one
// service a run to that master.cf; then "postfix start", and TestOracle with
// ORACLE_SOCKETS=/var/spool/postfix/private asks them.
const answers = "testdata/answers.txt"

// common is the part of the configuration that all runs share.
var common = []string{"myhostname=mx.spec.example", "mydomain=spec.example", "myorigin=spec.example",
	"mydestination=spec.example, mx.spec.example, localhost", "inet_interfaces=loopback-only", "inet_protocols=ipv4",
	"compatibility_level=3.6", "append_dot_mydomain=no", "virtual_alias_maps=", "virtual_mailbox_maps=",
	"virtual_alias_domains=valias.example", "virtual_mailbox_domains=vbox.example", "relay_domains=relay.example"}

type run struct {
	name      string
	settings  []string
	senders   []string
	addresses []string
	kinds     []string // default: all four
}

var syntaxAddresses = []string{
	"joe", "joe@", "@", "@joe", "a!b!user", "a!b%c", "h!u@dom", "u%a%b", "joe@[1.2.3.4].", `a\|b`, "a|b", "@a,@b:joe@c", "@a:", "a@b@c", "joe blow",
	"(c) joe@h", "<joe@h>", "joe.", "joe@h.dom..", `"joe"@h`, "a@b,c@d", `""`, `""@`, `"a b"@spec.example`, "joe@spec.example", "joe@mx.spec.example.",
	"joe@SPEC.example", "user%other.com@spec.example", "user@a@b@spec.example", "user@a@spec.example@spec.example", "@spec.example:user@other.com",
	"@spec.example", "u%x@else.com", "a!b@else.com", "a!b@spec.example", "joe@127.0.0.1", "joe@[127.0.0.1]", "joe@[10.9.8.7]", "joe@[bad]", "joe@[IPv6:::1]",
	"joe@[ipv6:2001:db8::1]", "-joe@else.com", "-joe", `"user@other.com"@spec.example`, `"user%other.com"@spec.example`, `"other.com!user"@spec.example`, `"a b@c d"@spec.example`,
	"joe@valias.example", "joe@VALIAS.example", "joe@sub.valias.example", "joe@vbox.example", "joe@relay.example", "joe@sub.relay.example", "joe@xrelay.example",
	"joe@else.com.", "joe@else..com", "joe@.else.com", "joe@-else.com", "joe@under_score.com", "joe@a-.com", "joe@123.456", "joe@1.2.3", "joe@else.com:25", "joe+ext@else.com",
	"postmaster", "owner-list@spec.example", "ü@spec.example", "joe@ü.example", "joe@xn--tda.example", "joe@host", "joe@localhost", "joe@localhost.",
	"a.b.c@host.dom", ".a@x.com", "a..b@x.com", `"a\"b"@x.com`, "x y z@d e", "a;b@c", "group: a@b;", "joe@x.com\t", "u%", "!u", "u!", "a%b!c", "%a", "x@@y", "x@y.@z",
	strings.Repeat("a", 70) + "@" + strings.Repeat("b", 64) + ".com", "joe@[1.2.3.4]x", "joe@a[1.2.3.4]", "mail@ex ample.com", "\"joe\" \"blow\"@x.com", "joe@spec.example.", "joe@spec.example..",
}

var mapAddresses = []string{"joe@relay.example", "joe@else.com", "joe+x@else.com", "joe@sub.else.com", "joe@a.sub.else.com", "joe@err.example", "joe@retry.example", "joe@hop.example",
	"joe@trans.example", "joe@colon.example", "joe@full.example", "joe", "joe+x", "jane@spec.example", "joe@vbox.example", "joe@valias.example", "moved@else.com", "moved@spec.example", "moved+x@spec.example",
	"any@gone.example", "-joe@else.com", "\"a b\"@else.com", "", "joe@[1.2.3.4]", "joe@", "moved@valias.example"}

const transports = "transport_maps=inline:{ {joe@full.example=full:fullhop}, {else.com=smtp:[one]}, {.else.com=sub:}, {err.example=error:}, {retry.example=retry}, {hop.example=:hop}, {trans.example=trans}, {colon.example=:}, {jane@spec.example=jane:x:y} }"

const wildcard = "transport_maps=inline:{ {else.com=smtp:[one]}, {*=star:sky} }"

const relocated = "relocated_maps=inline:{ {moved@else.com=new place}, {moved=elsewhere}, {@gone.example=nowhere} }"

var runs = []run{
	{name: "defaults", addresses: syntaxAddresses},
	{name: "swap and percent off", settings: []string{"swap_bangpath=no", "allow_percent_hack=no"}, addresses: syntaxAddresses},
	{name: "dot mydomain", settings: []string{"append_dot_mydomain=yes", "remote_header_rewrite_domain=invalid.test"}, addresses: syntaxAddresses},
	{name: "no origin, null domain, numeric", settings: []string{"append_at_myorigin=no", "resolve_null_domain=yes", "resolve_numeric_domain=yes", "resolve_dequoted_address=no", "allow_min_user=yes"}, addresses: syntaxAddresses},
	{name: "numeric local", settings: []string{"resolve_numeric_domain=yes", "proxy_interfaces=10.9.8.7", "smtputf8_enable=no"}, addresses: []string{"joe@127.0.0.1", "joe@10.9.8.7", "joe@[10.9.8.7]", "joe@8.8.8.8", "joe@::1", "ü@ü.example", "joe@1.2.3.4.", "u%127.0.0.1@spec.example"}},
	{name: "transport maps", settings: []string{transports, "recipient_delimiter=+"}, addresses: mapAddresses},
	{name: "parent style", settings: []string{transports, "parent_domain_matches_subdomains=transport_maps", "relay_domains=relay.example, .dot.example"}, addresses: append([]string{"joe@x.dot.example", "joe@dot.example", "joe@sub.relay.example"}, mapAddresses...)},
	{name: "wildcard", settings: []string{wildcard, "relayhost=[relay.host]:26", "local_transport=local"}, addresses: mapAddresses},
	{name: "relocated", settings: []string{relocated, "recipient_delimiter=+", "default_transport=smtp:defhop", "relay_transport=relay:relhop", "virtual_transport=lmtp:unix:/x", "show_user_unknown_table_name=no"}, addresses: mapAddresses},
	{name: "sender dependent", settings: []string{"sender_dependent_relayhost_maps=inline:{ {a@x=[ahost]}, {@y=[yhost]}, {<>=[nullhost]}, {d@x=DUNNO} }",
		"sender_dependent_default_transport_maps=inline:{ {a@x=atrans:}, {b@x=btrans:bhop}, {<>=nulltrans:}, {d@x=dunno}, {joe=joetrans} }", "relayhost=relay.host", "recipient_delimiter=+"},
		senders: []string{"", "a@x", "a+b@x", "b@x", "c@y", "d@x", "joe@spec.example", "e@z"}, addresses: []string{"joe@else.com", "joe@relay.example", "joe@spec.example", "joe@vbox.example"}, kinds: []string{"resolve", "verify"}},
	{name: "verify parameters", settings: []string{"address_verify_default_transport=vd", "address_verify_relay_transport=vr:rh", "address_verify_local_transport=vl", "address_verify_virtual_transport=vv", "address_verify_relayhost=vhost", "address_verify_transport_maps=inline:{else.com=vt:}"},
		addresses: []string{"joe@else.com", "joe@relay.example", "joe", "joe@vbox.example", "joe@third.example"}, kinds: []string{"resolve", "verify"}},
	{name: "failing tables", settings: []string{"transport_maps=fail:x"}, addresses: []string{"joe@else.com", "joe@relay.example", "joe", "joe@valias.example", "joe@"}, kinds: []string{"resolve"}},
	{name: "failing classes", settings: []string{"virtual_alias_domains=fail:x"}, addresses: []string{"joe@else.com", "joe"}, kinds: []string{"resolve"}},
	{name: "failing destination", settings: []string{"mydestination=fail:x"}, addresses: []string{"joe@else.com", "joe", "joe@spec.example"}, kinds: []string{"resolve"}},
	{name: "failing sender maps", settings: []string{"sender_dependent_default_transport_maps=fail:x"}, addresses: []string{"joe@else.com", "joe@relay.example"}, senders: []string{"a@b"}, kinds: []string{"resolve"}},
	{name: "failing relocated", settings: []string{"relocated_maps=fail:x"}, addresses: []string{"joe@else.com", "joe"}, kinds: []string{"resolve"}},
	{name: "null transport", settings: []string{"default_transport=:x", "local_transport=:y"}, addresses: []string{"joe@else.com", "joe"}, kinds: []string{"resolve"}},
}

// requests are the questions of a run.
func (r run) requests() []rewrite.Request {
	kinds, senders := r.kinds, r.senders
	if kinds == nil {
		kinds = []string{"local", "remote", "resolve"}
	}
	if senders == nil {
		senders = []string{""}
	}
	var list []rewrite.Request
	for _, a := range r.addresses {
		for _, k := range kinds {
			if k == "local" || k == "remote" {
				if a != "" {
					list = append(list, rewrite.Request{Kind: "rewrite", Rule: k, Address: a})
				}
				continue
			}
			for _, s := range senders {
				list = append(list, rewrite.Request{Kind: k, Sender: s, Address: a})
			}
		}
	}
	return list
}

func question(q rewrite.Request) string {
	if q.Kind == rewrite.RequestRewrite {
		return fmt.Sprintf("%s %s", q.Rule, strconv.Quote(q.Address))
	}
	return fmt.Sprintf("%s %s %s", q.Kind, strconv.Quote(q.Sender), strconv.Quote(q.Address))
}

func answer(kind string, r rewrite.Reply) string {
	if kind == rewrite.RequestRewrite {
		return strconv.Quote(r.Recipient)
	}
	return fmt.Sprintf("%s %s %s %d", strconv.Quote(r.Transport), strconv.Quote(r.NextHop), strconv.Quote(r.Recipient), r.Flags)
}

func TestAgainstAnswers(t *testing.T) {
	text, err := os.ReadFile(answers)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	name := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "# ") {
			name = line[2:]
		} else if q, a, ok := strings.Cut(line, " => "); ok {
			want[name+"\n"+q] = a
		}
	}
	checked := 0
	for _, run := range runs {
		t.Run(run.name, func(t *testing.T) {
			m := make(map[string]string)
			for _, s := range append(common[:len(common):len(common)], run.settings...) {
				k, v, _ := strings.Cut(s, "=")
				m[k] = v
			}
			log, _ := maillog.Capture()
			r, err := NewResolver(conf.FromMap(m), log)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range run.requests() {
				var got rewrite.Reply
				if q.Kind == rewrite.RequestRewrite {
					got.Recipient, _ = r.Rewrite(q.Rule, q.Address)
				} else {
					got = r.Resolve(context.Background(), q.Kind == rewrite.RequestVerify, q.Sender, q.Address)
				}
				w, ok := want[run.name+"\n"+question(q)]
				if !ok {
					t.Errorf("%s: no answer on file", question(q))
				} else if g := answer(q.Kind, got); g != w {
					t.Errorf("%s:\n got %s\nwant %s", question(q), g, w)
				}
				checked++
			}
		})
	}
	t.Logf("%d questions", checked)
}

// TestOracle writes the file.
func TestOracle(t *testing.T) {
	if master := os.Getenv("ORACLE_MASTER"); master != "" {
		var b strings.Builder
		for i, run := range runs {
			fmt.Fprintf(&b, "rw%d unix - - n - - trivial-rewrite", i)
			for _, s := range append(common[:len(common):len(common)], run.settings...) {
				fmt.Fprintf(&b, " -o { %s }", s)
			}
			b.WriteString("\n")
		}
		f, err := os.OpenFile(master, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(b.String())
		f.Close()
		return
	}
	sockets := os.Getenv("ORACLE_SOCKETS")
	if sockets == "" {
		t.Skip("ORACLE_SOCKETS is not set: see the comment on answers")
	}
	var b strings.Builder
	for i, run := range runs {
		fmt.Fprintf(&b, "# %s\n", run.name)
		if err := askAll(fmt.Sprintf("%s/rw%d", sockets, i), run.requests(), func(q rewrite.Request, r rewrite.Reply) {
			fmt.Fprintf(&b, "%s => %s\n", question(q), answer(q.Kind, r))
		}); err != nil {
			t.Errorf("%s: %v", run.name, err)
		}
	}
	if err := os.WriteFile(answers, []byte(b.String()), 0644); err != nil {
		t.Fatal(err)
	}
}

// askAll asks a running trivial-rewrite.
func askAll(path string, list []rewrite.Request, f func(rewrite.Request, rewrite.Reply)) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	from, to := attr.NewReader(conn, attr.Null, "oracle"), attr.NewWriter(conn, attr.Null)
	if err := attr.Expect(from, rewrite.Protocol); err != nil {
		return err
	}
	for _, q := range list {
		if err := rewrite.WriteRequest(to, q); err != nil {
			return err
		}
		var r rewrite.Reply
		var server, flags int
		if q.Kind == rewrite.RequestRewrite {
			err = from.Scan(attr.Int("flags", &server), attr.Str("address", &r.Recipient))
		} else {
			err = from.Scan(attr.Int("flags", &server), attr.Str("transport", &r.Transport), attr.Str("nexthop", &r.NextHop),
				attr.Str("recipient", &r.Recipient), attr.Int("flags", &flags))
			r.Flags = rewrite.Flags(flags)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", question(q), err)
		}
		f(q, r)
	}
	return nil
}
