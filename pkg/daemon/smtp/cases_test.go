package smtp

import (
	"strings"
	"time"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
)

// testCase is a request and the servers it meets. servers hold scripts for
// fakeServer, one for each connection separated by "---" lines; PORT1.. in
// nexthop are their ports, CLOSED is one where nobody listens.
type testCase struct {
	name     string
	servers  []string
	nexthop  string
	lmtp     bool
	settings map[string]string
	args     []string
	sender   *string
	rcpts    []deliver.Recipient
	flags    deliver.Flags
	encoding string
	utf8     int
	envid    string
	ret      dsn.Ret
	content  string
	age      time.Duration
	again    bool        // deliver a second time
	differs  [][2]string // deliberate differences: the original's text, ours
}

type mp = map[string]string

func to(addrs ...string) (list []deliver.Recipient) {
	for _, a := range addrs {
		list = append(list, deliver.Recipient{Address: a})
	}
	return list
}

// manyAddresses makes so many long addresses that they do not fit into one
// batch of commands.
func manyAddresses(n int) (list []string) {
	for i := range n {
		list = append(list, "user"+strings.Repeat("x", 20)+string(rune('a'+i%26))+"@dest.test")
	}
	return list
}

const (
	one    = "[127.0.0.1]:PORT1"
	two    = "[127.0.0.1]:PORT1, [127.0.0.1]:PORT2"
	pipe   = "EHLO: 250-fake.test|250-PIPELINING|250 8BITMIME"
	full   = "EHLO: 250-fake.test|250-PIPELINING|250-SIZE 1000000|250-8BITMIME|250-DSN|250-SMTPUTF8|250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
	plenty = pipe + "\n"
)

var short = mp{"smtp_helo_timeout": "1s", "smtp_mail_timeout": "1s", "smtp_rcpt_timeout": "1s", "smtp_data_init_timeout": "1s", "smtp_data_done_timeout": "1s", "smtp_rset_timeout": "1s", "smtp_quit_timeout": "1s"}

var null = ""

var cases = []testCase{
	{name: "plain", servers: []string{""}, nexthop: one},
	{name: "pipelining", servers: []string{pipe}, nexthop: one, rcpts: to("a@x.test", "b@x.test")},
	{name: "refused", nexthop: "[127.0.0.1]:CLOSED"},
	{name: "banner 421", servers: []string{"BANNER: 421 4.3.2 busy"}, nexthop: one},
	{name: "banner 554", servers: []string{"BANNER: 554 5.7.1 go away"}, nexthop: one},
	{name: "banner 554 no skip", servers: []string{"BANNER: 554 5.7.1 go away"}, nexthop: one, settings: mp{"smtp_skip_5xx_greeting": "no"}},
	{name: "banner 354", servers: []string{"BANNER: 354 what"}, nexthop: one},
	{name: "banner close", servers: []string{"BANNER: close"}, nexthop: one},
	{name: "banner hang", servers: []string{"BANNER: hang"}, nexthop: one, settings: short},
	{name: "banner garbage", servers: []string{"BANNER: hello there|220 ok"}, nexthop: one},
	{name: "ehlo 421", servers: []string{"EHLO: 421 4.3.2 not now"}, nexthop: one},
	{name: "ehlo 502 then helo", servers: []string{"EHLO: 502 5.5.2 what"}, nexthop: one},
	{name: "ehlo and helo refused", servers: []string{"EHLO: 502 5.5.2 what\nHELO: 550 5.7.1 bad name"}, nexthop: one},
	{name: "ehlo close", servers: []string{"EHLO: close"}, nexthop: one},
	{name: "ehlo hang", servers: []string{"EHLO: hang"}, nexthop: one, settings: short},
	{name: "helo close", servers: []string{"EHLO: 502 x\nHELO: close"}, nexthop: one},
	{name: "never ehlo", servers: []string{""}, nexthop: one, settings: mp{"smtp_never_send_ehlo": "yes"}},
	{name: "mail 451", servers: []string{"MAIL: 451 4.3.0 later"}, nexthop: one},
	{name: "mail 550", servers: []string{"MAIL: 550 5.7.1 no"}, nexthop: one, rcpts: to("a@x.test", "b@x.test")},
	{name: "mail 550 pipelining", servers: []string{plenty + "MAIL: 550 5.7.1 no\nRCPT: 503 5.5.1 no mail\nDATA: 503 5.5.1 no mail"}, nexthop: one, rcpts: to("a@x.test", "b@x.test")},
	{name: "mail close", servers: []string{"MAIL: close"}, nexthop: one},
	{name: "mail close pipelining", servers: []string{plenty + "MAIL: close"}, nexthop: one},
	{name: "mail hang", servers: []string{"MAIL: hang"}, nexthop: one, settings: short},
	{name: "mail 250 only", servers: []string{"MAIL: 250"}, nexthop: one},
	{name: "rcpt 550", servers: []string{"RCPT: 550 5.1.1 no such user"}, nexthop: one},
	{name: "rcpt 550 pipelining", servers: []string{plenty + "RCPT: 550 5.1.1 no such user\nDATA: 503 5.5.1 no rcpt"}, nexthop: one},
	{name: "rcpt 550 pipelining data accepted", servers: []string{plenty + "RCPT: 550 5.1.1 no such user"}, nexthop: one},
	{name: "rcpt mixed", servers: []string{"RCPT: 550 5.1.1 no|close\nRCPT: 550 5.1.1 no such user\nRCPT: 250 ok\nRCPT: 450 4.2.0 grey"}, nexthop: one, rcpts: to("a@x.test", "b@x.test", "c@x.test")},
	{name: "rcpt mixed 2", servers: []string{"RCPT: 550 no such user\nRCPT: 250 ok\nRCPT: 450 4.2.0 grey"}, nexthop: one, rcpts: to("a@x.test", "b@x.test", "c@x.test")},
	{name: "rcpt mixed pipelining", servers: []string{plenty + "RCPT: 552 too many\nRCPT: 250 ok\nRCPT: 450-4.2.0 grey|450 4.2.0 list"}, nexthop: one, rcpts: to("a@x.test", "b@x.test", "c@x.test")},
	{name: "rcpt close", servers: []string{"RCPT: 250 ok\nRCPT: close"}, nexthop: one, rcpts: to("a@x.test", "b@x.test", "c@x.test")},
	{name: "rcpt hang", servers: []string{"RCPT: hang"}, nexthop: one, settings: short},
	{name: "rcpt 3xx", servers: []string{"RCPT: 354 what"}, nexthop: one},
	{name: "data 451", servers: []string{"DATA: 451 4.3.0 later"}, nexthop: one, rcpts: to("a@x.test", "b@x.test")},
	{name: "data 250", servers: []string{"DATA: 250 what"}, nexthop: one},
	{name: "data 554 pipelining", servers: []string{plenty + "DATA: 554 5.7.1 no"}, nexthop: one},
	{name: "data close", servers: []string{"DATA: close"}, nexthop: one},
	{name: "data hang", servers: []string{"DATA: hang"}, nexthop: one, settings: short},
	{name: "dot 451", servers: []string{"DOT: 451 4.3.0 later"}, nexthop: one},
	{name: "dot 552", servers: []string{plenty + "DOT: 552 5.3.4 too big"}, nexthop: one},
	{name: "dot 354", servers: []string{"DOT: 354 what"}, nexthop: one},
	{name: "dot 500", servers: []string{"DOT: 500 bad"}, nexthop: one},
	{name: "dot close", servers: []string{"DOT: close"}, nexthop: one},
	{name: "dot hang", servers: []string{plenty + "DOT: hang"}, nexthop: one, settings: short},
	{name: "dot 250 close", servers: []string{"DOT: 250 2.6.0 fine|close"}, nexthop: one},
	{name: "body early 552", servers: []string{"BODY: 552 5.3.4 enough"}, nexthop: one, content: "Subject: x\n\n" + strings.Repeat(strings.Repeat("y", 70)+"\n", 200000)},
	{name: "quit hang", servers: []string{"QUIT: hang"}, nexthop: one, settings: mp{"smtp_skip_quit_response": "no", "smtp_quit_timeout": "1s"}},
	{name: "multi-line replies", servers: []string{"MAIL: 250-one|250 two\nDOT: 250-2.0.0 first|250-2.0.0 second|250 2.0.0 third"}, nexthop: one},
	{name: "garbage reply", servers: []string{plenty + "MAIL: what is this|250 ok"}, nexthop: one},
	{name: "long reply line", servers: []string{"RCPT: 550 5.1.1 <x3000>"}, nexthop: one},
	{name: "non-printable", servers: []string{"RCPT: 550 5.1.1 a\tb\x01c\xffd"}, nexthop: one},
	{name: "dsn class mismatch", servers: []string{"RCPT: 550 4.1.1 odd"}, nexthop: one},
	{name: "full esmtp", servers: []string{full}, nexthop: one, encoding: "8bit", envid: "a+b=c d", ret: dsn.RetHdrs, rcpts: []deliver.Recipient{
		{Address: "a@x.test", DSNOrig: "rfc822;x+y@z.test", Notify: dsn.NotifySuccess | dsn.NotifyFailure}, {Address: "b@x.test", Original: "o@x.test", Notify: dsn.NotifyNever}}},
	{name: "xforward", servers: []string{full}, nexthop: one, settings: mp{"smtp_send_xforward_command": "yes"}},
	{name: "xforward refused", servers: []string{full + "\nXFORWARD: 550 5.7.0 no"}, nexthop: one, settings: mp{"smtp_send_xforward_command": "yes"}},
	{name: "notify success without dsn", servers: []string{pipe}, nexthop: one, rcpts: []deliver.Recipient{{Address: "a@x.test", Notify: dsn.NotifySuccess}}},
	{name: "size exceeded", servers: []string{"EHLO: 250-fake.test|250 SIZE 10"}, nexthop: one},
	{name: "size bad", servers: []string{"EHLO: 250-fake.test|250 SIZE abc"}, nexthop: one},
	{name: "discard keywords", servers: []string{full}, nexthop: one, settings: mp{"smtp_discard_ehlo_keywords": "pipelining, dsn size"}},
	{name: "utf8 not offered", servers: []string{pipe}, nexthop: one, utf8: 1 | 8, rcpts: to("ü@x.test")},
	{name: "utf8", servers: []string{full}, nexthop: one, utf8: 1 | 8, rcpts: []deliver.Recipient{{Address: "ü@x.test", Original: "ö@x.test"}}},
	{name: "quoting", servers: []string{""}, nexthop: one, rcpts: to("a b@x.test", ".dot@x.test", `q"uote@x.test`, "nodomain", "a@b@x.test")},
	{name: "null sender", servers: []string{""}, nexthop: one, sender: &null},
	{name: "content", servers: []string{""}, nexthop: one, content: "Subject: x\n\n.\n..\n.a\n" + strings.Repeat("z", 998) + "\n" + strings.Repeat("y", 999) + "\n" + strings.Repeat("x", 990) + strings.Repeat(".", 2100) + "\nend"},
	{name: "downgrade", servers: []string{"EHLO: 250-fake.test|250 SIZE 10000"}, nexthop: one, encoding: "8bit", content: "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nä ö = ü\n.\nx \n"},
	{name: "downgrade multipart", servers: []string{"EHLO: 250 fake.test"}, nexthop: one, encoding: "8bit", content: "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\npre\n--b\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\nä\n--b--\n"},
	{name: "header checks", servers: []string{""}, nexthop: one, settings: mp{"smtp_header_checks": "regexp:{ {/^x-drop:/ IGNORE}, {/^x-strip/ STRIP gone}, {/^subject: (.*)/ REPLACE Subject: [x] $$1}, {/^to:/ PREPEND X-Pre: y}, {/^x-warn/ WARN hm}, {/^x-bad/ REJECT no} }", "smtp_body_checks": "regexp:{ {/^secret/ REPLACE public}, {/^gone/ IGNORE} }"},
		content: "X-Drop: a\nX-Strip: b\nSubject: s\nTo: t\nX-Warn: w\nX-Bad: b\n\nsecret\ngone\nend\n"},
	{name: "generic", servers: []string{full}, nexthop: one, settings: mp{"smtp_generic_maps": "inline:{ {s@ok.test = s2@out.test}, {a@dest.test = a2@out.test}, {@in.test = x@out.test} }"},
		content: "From: Me <s@ok.test>\nTo: a@dest.test, \"J\" <joe@in.test>, keep@else.test\nSubject: s@ok.test\n\ns@ok.test\n"},
	{name: "generic chain", servers: []string{""}, nexthop: one, rcpts: to("u+x@in.test", "u+x@dom.test", "bare@mail.example.com", "q+y@out.test", "other@else.test"), settings: mp{"recipient_delimiter": "+",
		"smtp_generic_maps": "inline:{ {s@ok.test = mid@ok.test}, {mid@ok.test = end@ok.test}, {u@in.test = v@out.test}, {@dom.test = @new.test}, {bare = local@out.test}, {q@out.test = plain}, {@else.test = \"a b\"@x.test} }"},
		content: "From: u+tag@in.test (comment), \"Joe Long Name\" <someone@dom.test>,\n  another.address@dom.test, yet-another@dom.test\nX-Other: s@ok.test\n\nx\n"},
	{name: "line limit off", servers: []string{""}, nexthop: one, settings: mp{"smtp_line_length_limit": "0"}, content: strings.Repeat("x", 3000) + "\n"},
	{name: "no envelope quoting", servers: []string{""}, nexthop: one, settings: mp{"smtp_quote_rfc821_envelope": "no"}, rcpts: to("a b@x.test")},
	{name: "long header line", servers: []string{""}, nexthop: one, settings: mp{"smtp_line_length_limit": "50", "smtp_header_checks": "regexp:{ {/^nothing/ IGNORE} }"}, content: "Subject: " + strings.Repeat("word ", 30) + "\n\n" + strings.Repeat(".", 120) + "\n"},
	{name: "no header", servers: []string{"EHLO: 250 fake.test"}, nexthop: one, encoding: "8bit", content: "\nonly body \xe4\n"},
	{name: "lmtp rcpt all refused", lmtp: true, servers: []string{"LMTP: x\nLHLO: 250-fake.test|250 PIPELINING\nRCPT: 550 5.1.1 nope"}, nexthop: "unix:PORT1", rcpts: to("b1@x.test", "b2@x.test")},
	{name: "per request deadline", servers: []string{pipe}, nexthop: one, settings: mp{"smtp_per_request_deadline": "yes"}},
	{name: "port 465", nexthop: "[127.0.0.1]:465"},
	{name: "reply filter", servers: []string{"RCPT: 550 5.1.1 no"}, nexthop: one, settings: mp{"smtp_reply_filter": "regexp:{ {/^550 5(.*)/ 450 4$$1} }"}},
	{name: "soft bounce", servers: []string{"RCPT: 550 5.1.1 no"}, nexthop: one, settings: mp{"soft_bounce": "yes"}},
	{name: "second server after 421", servers: []string{"BANNER: 421 4.3.2 busy", ""}, nexthop: two},
	{name: "second server after refused", servers: []string{""}, nexthop: "[127.0.0.1]:CLOSED, [127.0.0.1]:PORT1"},
	{name: "second server rcpt", servers: []string{"RCPT: 450 4.2.0 grey\nRCPT: 550 5.1.1 no\nRCPT: 250 ok", "RCPT: 451 4.2.1 still"}, nexthop: two, rcpts: to("a@x.test", "b@x.test", "c@x.test")},
	{name: "second server refused", servers: []string{"RCPT: 450 4.2.0 grey"}, nexthop: "[127.0.0.1]:PORT1, [127.0.0.1]:CLOSED"},
	{name: "second server mail", servers: []string{"MAIL: 451 4.2.0 later", "MAIL: 550 5.1.0 no"}, nexthop: two},
	{name: "second server dot lost", servers: []string{"DOT: close", ""}, nexthop: two},
	{name: "fallback relay", servers: []string{"", ""}, nexthop: "[127.0.0.1]:CLOSED", settings: mp{"smtp_fallback_relay": "[127.0.0.2]:1"}},
	{name: "nexthop loop", nexthop: "[127.0.0.1]"},
	{name: "probe", servers: []string{""}, nexthop: one, flags: deliver.UsrVerify, rcpts: to("a@x.test", "b@x.test")},
	{name: "probe pipelining", servers: []string{plenty + "RCPT: 250 2.1.5 yes\nRCPT: 550 5.1.1 no"}, nexthop: one, flags: deliver.UsrVerify, rcpts: to("a@x.test", "b@x.test")},
	{name: "probe data", servers: []string{plenty + "RCPT: 250 2.1.5 yes\nRCPT: 550 5.1.1 no"}, nexthop: one, flags: deliver.UsrVerify, rcpts: to("a@x.test", "b@x.test"), settings: mp{"smtp_address_verify_target": "data"}},
	{name: "record", servers: []string{""}, nexthop: one, flags: deliver.Record},
	{name: "cached", servers: []string{pipe}, nexthop: one, flags: deliver.ConnLoad | deliver.ConnStore, again: true},
	{name: "cached no pipelining", servers: []string{""}, nexthop: one, flags: deliver.ConnLoad | deliver.ConnStore, again: true},
	{name: "cached rset fails", servers: []string{"RSET: 421 bye|close"}, nexthop: one, flags: deliver.ConnLoad | deliver.ConnStore, again: true},
	{name: "cached rcpt refused", servers: []string{"RCPT: 550 5.1.1 no"}, nexthop: one, flags: deliver.ConnLoad | deliver.ConnStore, again: true},
	{name: "cached grey", servers: []string{"RCPT: 250 ok\nRCPT: 450 4.2.0 grey"}, nexthop: one, flags: deliver.ConnLoad | deliver.ConnStore, again: true},
	{name: "cached data lost", servers: []string{"DATA: 354 ok\nDATA: close"}, nexthop: one, flags: deliver.ConnLoad | deliver.ConnStore, again: true},
	{name: "nested rfc822 downgrade", servers: []string{"EHLO: 250 fake.test"}, nexthop: one, encoding: "8bit", content: "Subject: x\nMIME-Version: 1.0\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: y\nContent-Type: text/plain; charset=x\nContent-Transfer-Encoding: 8bit\n\n\xe4\n"},
	{name: "deep nesting downgrade", servers: []string{"EHLO: 250 fake.test"}, nexthop: one, encoding: "8bit", settings: mp{"mime_nesting_limit": "1"}, content: "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\n\xe4\n--c--\n"},
	{name: "many recipients", servers: []string{pipe}, nexthop: one, rcpts: to(manyAddresses(200)...)},
	{name: "banner 554 second server", servers: []string{"BANNER: 554 5.7.1 go away", ""}, nexthop: two},
	{name: "rcpt 550 second server", servers: []string{"RCPT: 550 5.7.1 go away", ""}, nexthop: two},
	{name: "size second server", servers: []string{"EHLO: 250-x|250 SIZE 10", ""}, nexthop: two},
	{name: "sasl not offered", servers: []string{pipe}, nexthop: one, settings: mp{"smtp_sasl_auth_enable": "yes", "smtp_sasl_password_maps": "inline:{x=y}"}},
	{name: "note starttls", servers: []string{"EHLO: 250-fake.test|250 STARTTLS"}, nexthop: one, settings: mp{"smtp_tls_note_starttls_offer": "yes"}},
	{name: "own helo name", servers: []string{"BANNER: 220 mail.example.com ESMTP\nEHLO: 250 mail.example.com"}, nexthop: one},
	{name: "bind enforced", servers: []string{""}, nexthop: one, settings: mp{"smtp_bind_address": "192.0.2.1", "smtp_bind_address_enforce": "yes"}},
	{name: "bind", servers: []string{""}, nexthop: one, settings: mp{"smtp_bind_address": "192.0.2.1"}},
	{name: "relayhost problem", nexthop: "[127.0.0.1]", settings: mp{"relayhost": "[127.0.0.1]"}},
	{name: "fallback problem", nexthop: "[127.0.0.1]:CLOSED", settings: mp{"smtp_fallback_relay": "[127.0.0.1]"}},
	{name: "flags", servers: []string{""}, nexthop: one, args: []string{"flags=DRO"}, rcpts: []deliver.Recipient{{Address: "a b@x.test", Original: "o@x.test"}}},
	{name: "flags two recipients", nexthop: "[127.0.0.1]:CLOSED", args: []string{"flags=D"}, rcpts: to("a@x.test", "b@x.test")},
	{name: "flags loop", nexthop: "[127.0.0.1]:CLOSED", args: []string{"flags=D"}, content: "Subject: x\nDelivered-To: A@dest.test\n\nx\n"},
	{name: "bad record", servers: []string{""}, nexthop: one, content: "Subject: x\n\n<bad record>\nx\n", differs: [][2]string{{"reply: 0", "reply: -1"}}},
	{name: "tls required", servers: []string{pipe}, nexthop: one, settings: mp{"smtp_tls_security_level": "encrypt"}},
	{name: "tls refused", servers: []string{"EHLO: 250-fake.test|250 STARTTLS"}, nexthop: one, settings: mp{"smtp_tls_security_level": "encrypt"}},
	{name: "tls may refused", servers: []string{"EHLO: 250-fake.test|250 STARTTLS"}, nexthop: one, settings: mp{"smtp_tls_security_level": "may"}},
	{name: "pix", servers: []string{"BANNER: 220 *********2**0***"}, nexthop: one, age: 1000 * time.Second, settings: mp{"smtp_pix_workaround_delay_time": "1s"}},
	{name: "lmtp", lmtp: true, servers: []string{"LMTP: x\nLHLO: 250-fake.test|250-PIPELINING|250 8BITMIME\nRCPT: 250 ok\nRCPT: 550 5.1.1 nope\nRCPT: 250 ok\nDOT: 250 2.1.5 saved\nDOT: 452 4.2.2 over quota"}, nexthop: "inet:[127.0.0.1]:PORT1", rcpts: to("b1@x.test", "b2@x.test", "b3@x.test")},
	{name: "lmtp unix", lmtp: true, servers: []string{"LMTP: x"}, nexthop: "unix:PORT1"},
	{name: "lmtp lhlo refused", lmtp: true, servers: []string{"LHLO: 502 5.5.1 no"}, nexthop: "unix:PORT1"},
	{name: "lmtp no socket", lmtp: true, nexthop: "unix:/nonexistent/socket"},
	{name: "lmtp dot lost", lmtp: true, servers: []string{"LMTP: x\nDOT: 250 2.1.5 saved\nDOT: close"}, nexthop: "unix:PORT1", rcpts: to("b1@x.test", "b2@x.test")},
}
