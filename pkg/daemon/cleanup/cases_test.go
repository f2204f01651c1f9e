package cleanup

// Pieces that cases share.
const (
	head = `
T 1795330322 123456
S alice@sender.example
`
	one     = head + "R bob@rcpt.example\n"
	content = "M\n>Received: by x\n>\tid 1\n"
	tail    = "X\nE\n"
	plain   = one + content + ">Message-Id: <1@x>\n>Date: d\n>From: f@g.example\n>To: t@u.example\n"
)

// goldenCases are played to both programs.
var goldenCases = []goldenCase{
	{name: "minimal", recs: one + content + ">Subject: x\n>\n>hi\n" + tail},
	{name: "smtpd-stream", recs: `
T 1795329696 886992
A log_ident=D9C909B2179
A rewrite_context=local
A envelope_id=QQ314159
A ret_flags=2
S a@example.com
A encoding=8bit
A log_client_name=localhost
A log_client_address=127.0.0.1
A log_client_port=40436
A log_message_origin=localhost[127.0.0.1]
A log_helo_name=client.test
A log_protocol_name=ESMTP
A client_name=localhost
A helo_name=client.test
A notify_flags=6
A dsn_orig_rcpt=rfc822;bob+x@orig.test
R u1@sink.test
A dsn_orig_rcpt=rfc822;"a b"@defer.test
R a b@defer.test
R carol@ok.test
` + content + ">Subject: x\n>\n>body\n" + tail},
	{name: "no-recipient", recs: head + content + ">\n>hi\n" + tail},
	{name: "no-sender", recs: "T 1795330322 1\nR bob@x.example\n" + content + tail},
	{name: "no-time", recs: "S a@b.example\nR bob@x.example\n" + content + tail},
	{name: "two-senders", recs: head + "S x@y.example\nR bob@x.example\n" + content + tail},
	{name: "no-received", recs: one + "M\n>Subject: x\n>\n>hi\n" + tail},
	{name: "no-end", recs: one + content + ">\n>hi\nX\n"},
	{name: "cut-in-content", recs: one + content + ">\n>hi\n"},
	{name: "bad-type", recs: one + "q foo\n" + content + tail},
	{name: "bad-type-extracted", recs: one + content + ">\n>hi\nX\nS x@y\nE\n"},
	{name: "pointer", recs: one + "p               0\n" + content + tail},
	{name: "padding", recs: one + content + "w 0\n>\n>x\n" + tail},
	{name: "null-attr", recs: head + "A foo=\nA bar=1\nR bob@rcpt.example\n" + content + ">\n" + tail},
	{name: "bad-attr", recs: head + "A foo\nR bob@rcpt.example\n" + content + ">\n" + tail},
	{name: "bad-context", recs: head + "A rewrite_context=x\nR bob@rcpt.example\n" + content + ">\n" + tail},
	{name: "bad-tflag", recs: head + "A trace_flags=x\nR bob@rcpt.example\n" + content + ">\n" + tail},
	{name: "bad-envid", recs: head + "A envelope_id=a\\tb\nR bob@rcpt.example\n" + content + ">\n" + tail},
	{name: "bad-ret", recs: head + "A ret_flags=3\nR bob@rcpt.example\n" + content + ">\n" + tail},
	{name: "bad-notify", recs: head + "A notify_flags=3\nR bob@rcpt.example\n" + content + ">\n" + tail},
	{name: "attr-limit", conf: map[string]string{"queue_file_attribute_count_limit": "2"},
		recs: head + "A a=1\nA b=2\nA a=3\nA c=3\nR bob@rcpt.example\n" + content + ">\n" + tail},
	{name: "odd-envelope", recs: `
C               1               2               3               0               1               0
T 1795330322 1
T 1795330399 1
F Joe Public
F Other Name
A create_time=5
S joe@s.example
W 1795330999
W 1795331999
V +=
V -=
L smtp:[x]
] red@x.example
I foo
O orig@x.example
A dsn_orig_rcpt=rfc822;gone@x.example
D done@x.example
R next@x.example
O o2@x.example
/ c@x.example
O o3@x.example
A notify_flags=1
R third@x.example
K trace_flags=5
A late=1
` + content + ">\n>x\n" + tail},
	{name: "pseudo-types", recs: head + "i envid\n< 1\nc 12345\nn 4\no rfc822;x@y\nR bob@rcpt.example\n" + content + ">\n>x\n" + tail},
	{name: "verp-null-sender", recs: "T 1795330322 1\nS \nV +=\nR bob@x.example\n" + content + ">\n" + tail},
	{name: "verp-bad", recs: head + "V ab\nV +\nR bob@x.example\n" + content + ">\n" + tail},
	{name: "verp-early", recs: "T 1795330322 1\nV +=\nS a@b.example\nR bob@x.example\n" + content + ">\n" + tail},
	{name: "warn-time", conf: map[string]string{"delay_warning_time": "4h"}, recs: plain + ">\n>x\n" + tail},
	{name: "warn-time-norcpt", conf: map[string]string{"delay_warning_time": "4h"}, recs: head + content + ">\n>x\nX\nR late@x.example\nE\n"},
	{name: "warn-null-sender", conf: map[string]string{"delay_warning_time": "4h"}, recs: "T 1795330322 1\nS \nR bob@x.example\n" + content + ">\n" + tail},
	{name: "null-sender", recs: "T 1795330322 1\nS \nR bob@x.example\n" + content + ">\n" + tail},
	{name: "mailer-daemon", recs: "T 1795330322 1\nS Mailer-Daemon\nR \n" + content + ">\n" + tail},
	{name: "mailer-daemon-fqdn", recs: "T 1795330322 1\nS mailer-daemon@SPEC.example\nR x\n" + content + ">\n" + tail},
	{name: "local-names", recs: "T 1795330322 1\nS joe blow\nR bob\nR a b@c.example\nR x%y.example\nR h.example!u\n" + content + ">\n" + tail},
	{name: "duplicates", recs: head + "R bob@x.example\nR BOB@x.example\nR bob@x.example\nA notify_flags=1\nR bob@x.example\n" + content + ">\n" + tail},
	{name: "duplicates-noorig", conf: map[string]string{"enable_original_recipient": "no"},
		recs: head + "R bob@x.example\nR BOB@x.example\nA notify_flags=1\nR bob@x.example\n" + content + ">\n" + tail},
	{name: "dup-limit", conf: map[string]string{"duplicate_filter_limit": "1", "enable_original_recipient": "no"},
		recs: head + "R a@x.example\nR b@x.example\nR b@x.example\nR a@x.example\n" + content + ">\n" + tail},

	{name: "flags-hold", recs: head + "f 4\nR bob@x.example\n" + content + ">\n" + tail},
	{name: "flags-discard", recs: plain + ">\nX\nf 8\nE\n"},
	{name: "flags-bad", recs: head + "f 5\nR bob@x.example\n" + content + ">\n" + tail},
	{name: "hold-flag", flags: 178 + 4, recs: plain + ">\n>x\n" + tail},
	{name: "discard-flag", flags: 178 + 8, recs: plain + ">\n>x\n" + tail},

	{name: "canonical", maps: map[string]string{"canonical_maps": "alice@sender.example al@c.example\nal@c.example al2@c.example\nbob@rcpt.example b o b@r.example\nt@u.example tt@u.example\n@dom.example @new.example"},
		recs: head + "R bob@rcpt.example\nR x+y@dom.example\n" + content + ">From: Alice <alice@sender.example>\n>To: t@u.example, \"x y\"@dom.example\n>\n" + tail},
	{name: "canonical-ext", maps: map[string]string{"canonical_maps": "joe@x.example joe2@y.example\nlocaluser lu@z.example"},
		recs: head + "R joe+ext@x.example\nR localuser+e\nR localuser@x.example\n" + content + ">\n" + tail},
	{name: "canonical-loop", maps: map[string]string{"canonical_maps": "a@x.example b@x.example\nb@x.example a@x.example"},
		recs: head + "R a@x.example\n" + content + ">\n" + tail},
	{name: "canonical-error", maps: map[string]string{"canonical_maps": "x !error"}, recs: plain + ">\n" + tail},
	{name: "canonical-classes", conf: map[string]string{"canonical_classes": "header_recipient", "sender_canonical_classes": "header_sender", "recipient_canonical_classes": "envelope_recipient"},
		maps: map[string]string{"canonical_maps": "a@x.example c@x.example", "sender_canonical_maps": "a@x.example s@x.example", "recipient_canonical_maps": "a@x.example r@x.example"},
		recs: "T 1795330322 1\nS a@x.example\nR a@x.example\n" + content + ">From: a@x.example\n>To: a@x.example\n>\n" + tail},
	{name: "no-mapping", flags: 2, conf: map[string]string{"always_bcc": "bcc@x.example"}, maps: map[string]string{"canonical_maps": "bob@rcpt.example c@x.example", "virtual_alias_maps": "bob@rcpt.example v@x.example"}, recs: plain + ">\n" + tail},
	{name: "masquerade", conf: map[string]string{"masquerade_domains": "!sub.m.example m.example", "masquerade_exceptions": "root"},
		recs: "T 1795330322 1\nS joe@host.m.example\nR x@host.m.example\n" + content + ">From: joe@host.M.Example, root@host.m.example, a@b.sub.m.example, m@m.example\n>To: x@y.m.example\n>\n" + tail},

	{name: "virtual", maps: map[string]string{"virtual_alias_maps": "bob@rcpt.example b1@x.example, b2@x.example\nb2@x.example b2@x.example, b3@x.example\n@cat.example catch@all.example"},
		recs: head + "R bob@rcpt.example\nR any+e@cat.example\nA notify_flags=2\nR single@cat.example\n" + content + ">\n" + tail},
	{name: "virtual-ext", maps: map[string]string{"virtual_alias_maps": "u@x.example v@y.example w\nfull+e@x.example z@z.example\n@dom.example @other.example"},
		recs: head + "R u+ext@x.example\nR full+e@x.example\nR p+q@dom.example\n" + content + ">\n" + tail},
	{name: "virtual-special", maps: map[string]string{"virtual_alias_maps": "n1@x.example <>\nn2@x.example \"\"\nn3@x.example \"a b\"@y.example (comment)\nn4@x.example Joe <j@y.example>"},
		recs: head + "R n1@x.example\nR n2@x.example\nR n3@x.example\nR n4@x.example\n" + content + ">\n" + tail},
	{name: "virtual-noaddr", maps: map[string]string{"virtual_alias_maps": "n@x.example ,"}, recs: head + "R n@x.example\n" + content + ">\n" + tail},
	{name: "virtual-size", conf: map[string]string{"virtual_alias_expansion_limit": "3"}, maps: map[string]string{"virtual_alias_maps": "n@x.example a b c d"}, recs: head + "R n@x.example\n" + content + ">\n" + tail},
	{name: "virtual-nest", conf: map[string]string{"virtual_alias_recursion_limit": "5"}, maps: map[string]string{"virtual_alias_maps": "a@x.example b@x.example\nb@x.example a@x.example"}, recs: head + "R a@x.example\n" + content + ">\n" + tail},
	{name: "virtual-length", conf: map[string]string{"virtual_alias_address_length_limit": "20"}, maps: map[string]string{"virtual_alias_maps": "a@x.example abcdefghijklmnopqrstuvwxyz@x.example"}, recs: head + "R a@x.example\n" + content + ">\n" + tail},
	{name: "virtual-error", maps: map[string]string{"virtual_alias_maps": "x !error"}, recs: plain + ">\n" + tail},
	{name: "virtual-self", maps: map[string]string{"virtual_alias_maps": "a@x.example A@X.example, b@x.example\nb@x.example a@x.example c@x.example"}, recs: head + "R a@x.example\n" + content + ">\n" + tail},

	{name: "bcc", conf: map[string]string{"always_bcc": "always@bcc.example"},
		maps: map[string]string{"sender_bcc_maps": "alice@sender.example sb", "recipient_bcc_maps": "@rcpt.example rb@bcc.example", "virtual_alias_maps": "rb@bcc.example v1@x.example v2@x.example"},
		recs: head + "R bob+x@rcpt.example\nR carl@other.example\n" + content + ">\n>x\n" + tail},
	{name: "bcc-extracted", conf: map[string]string{"always_bcc": "always@bcc.example"},
		recs: head + content + ">\n>x\nX\nA notify_flags=4\nR late@x.example\nR bcc@x.example\nA notify_flags=1\nE\n"},
	{name: "extracted-mix", recs: plain + ">Content-Transfer-Encoding: 8BIT\n>\n>x\nX\nr foo\ne bar\nP 1\nL smtp:x\n] r@x.example\nA foo=bar\nF fn\nR late@x.example\nA foo=bar\nE\n"},

	{name: "headers-missing", recs: one + content + ">\n>x\n" + tail},
	{name: "headers-fullname", recs: "T 1795330322 1\nF Joe   Public\nS joe@d.example\nR x@y.example\n" + content + ">\n>x\n" + tail},
	{name: "headers-fullname-quoted", recs: "T 1795330322 1\nF Joe  Q.  \"Public\"\nS joe x@d.example\nR x@y.example\n" + content + ">\n>x\n" + tail},
	{name: "headers-fullname-blank", recs: "T 1795330322 1\nF   \nS joe@d.example\nR x@y.example\n" + content + ">\n>x\n" + tail},
	{name: "headers-fullname-null", recs: "T 1795330322 1\nF Joe\nS \nR x@y.example\n" + content + ">\n>x\n" + tail},
	{name: "headers-fullname-obsolete", conf: map[string]string{"header_from_format": "obsolete"}, recs: "T 1795330322 1\nF Joe (x) Q.\nS joe@d.example\nR x@y.example\n" + content + ">\n>x\n" + tail},
	{name: "headers-resent", recs: one + content + ">Resent-To: joe\n>Message-Id: <x@y>\n>\n>x\n" + tail},
	{name: "headers-resent-id", recs: one + content + ">Resent-Message-ID: <r@y>\n>Resent-From: a\n>Resent-Date: d\n>\n>x\n" + tail},
	{name: "headers-remote", recs: head + "A rewrite_context=remote\nR bob@x.example\n" + content + ">To: joe\n>\n>x\n" + tail},
	{name: "headers-remote-domain", conf: map[string]string{"remote_header_rewrite_domain": "domain.invalid"}, recs: head + "A rewrite_context=remote\nR bob@x.example\n" + content + ">To: joe\n>\n>x\n" + tail},
	{name: "headers-always", conf: map[string]string{"always_add_missing_headers": "yes"}, recs: head + "A rewrite_context=remote\nR bob@x.example\n" + content + ">To: joe\n>\n>x\n" + tail},
	{name: "headers-undisclosed", conf: map[string]string{"undisclosed_recipients_header": "To: undisclosed-recipients:;"}, recs: one + content + ">Subject: s\n>\n>x\n" + tail},
	{name: "headers-undisclosed-bad", conf: map[string]string{"undisclosed_recipients_header": "nonsense"}, recs: one + content + ">Subject: s\n>\n>x\n" + tail},
	{name: "headers-drop", conf: map[string]string{"message_drop_headers": "bcc, x-foo, content-type, return-path, to"}, recs: one + content + ">Bcc: hidden\n>X-Foo: a\n>\tb\n>X-FOOBAR: c\n>Content-Type: text/plain\n>Return-Path: <x>\n>To: joe\n>\n>X-Foo: body\n" + tail},
	{name: "headers-rewrite", recs: one + content + `>To: alice, Bob Smith <bob@host>,
>  "Carol (x)" <carol@example.com> (a comment), group: dave, erin@host;, frank@a.b.c.example.com
>Sender: a b c <x@y.z> d
>Cc : x, y
>Reply-To:joe@example.com
>From: "joe" <joe @ example.com>
>Errors-To: <>
>Apparently-To: (only comment)
>

` + tail},
	{name: "headers-long", recs: one + content + ">To: {20*user@some.example.domain, }last\n>Cc: {20*user@some.example.domain, }last@x.example\n>\n" + tail},
	{name: "headers-comments", recs: one + content + ">To: joe ({300*x}), bob ({250*y}), {30*wordword }<a>\n>\n" + tail},
	{name: "headers-tokens", conf: map[string]string{"header_address_token_limit": "5"}, recs: one + content + ">To: a, b, c, d, e\n>Cc: a@b.example, c@d.example\n>\n" + tail},
	{name: "header-size", conf: map[string]string{"header_size_limit": "100"}, recs: one + content + ">X-A: {60*a}\n>\t{60*b}\n>\t{60*c}\n>X-B: {200*d}\n>X-C: {91*e}\n> f\n>X-D: {80*g}\n> {80*h}\n>\n" + tail},
	{name: "header-longline", conf: map[string]string{"line_length_limit": "512"}, recs: one + content + ">X-A: {600*a}\n>\t{1100*b}\nL X-B: {507*c}\nL {512*d}\n>end\nL X-C: abc\n>\n>\n" + tail},
	{name: "header-continued-odd", recs: one + content + ">X-A : a\n>X-B\t:b\n>X-C:\n>  c\n>X-D: d\\x00lost\n>Subject: =?x\n>:novalue\n>\n" + tail},
	{name: "header-8bit", recs: one + content + ">Subject: caf\\xc3\\xa9\n>\n>b\n" + tail, flags: 178 + 512},
	{name: "header-8bit-bad", recs: one + content + ">Subject: caf\\xe9\n>\n>b\n" + tail, flags: 178 + 512},
	{name: "utf8-addresses", recs: "T 1795330322 1\nS jos\\u00e9@s.example\nR m\\u00fc@x.example\n" + content + ">\n>b\n" + tail, flags: 178 + 512},
	{name: "utf8-noauto", recs: "T 1795330322 1\nS jos\\u00e9@s.example\nR m\\u00fc@x.example\n" + content + ">\n>b\n" + tail, flags: 178},
	{name: "utf8-requested", recs: head + "R m\\u00fc@x.example\n" + content + ">\n>b\n" + tail, flags: 178 + 256},
	{name: "header-nosep", recs: one + content + ">Subject: x\n>this is body\n>Subject: no header\n" + tail},
	{name: "header-space-first", recs: one + content + ">\n> body\n" + tail},
	{name: "header-only", recs: one + content + ">Subject: x\n" + tail},
	{name: "header-none", recs: one + "M\n" + tail},
	{name: "hops", conf: map[string]string{"hopcount_limit": "3"}, recs: one + content + ">Received: 2\n>Received: 3\n>Received: 4\n>\n" + tail},
	{name: "hops-bounce", flags: 1 + 50, conf: map[string]string{"hopcount_limit": "2"}, recs: one + content + ">Received: 2\n>Received: 3\n>\n" + tail},
	{name: "message-id", recs: one + content + ">Message-ID:   <a@b>\n>\t(x)\n>\n" + tail},
	{name: "received-stripped", checks: map[string][]string{"header_checks": {"/^received:/ IGNORE"}}, recs: one + content + ">Received: x\n>\n" + tail},

	{name: "crlf", recs: one + content + ">Subject: a\\rb\\nc\n>\n>x\\ry\\nz\n" + tail},
	{name: "crlf-off", conf: map[string]string{"cleanup_replace_stray_cr_lf": "no"}, recs: one + content + ">Subject: a\\rb\\nc\n>\n>x\\ry\\nz\n" + tail},
	{name: "reject-chars", conf: map[string]string{"message_reject_characters": "\\0\\200"}, recs: one + content + ">Subject: a\n>\n>x\\x00y\n>z\n" + tail},
	{name: "strip-chars", conf: map[string]string{"message_strip_characters": "\\0ab"}, recs: one + content + ">Subject: abc\n>\n>x\\x00yab\n>z\n" + tail},
	{name: "nul-body", recs: one + content + ">\n>x\\x00y\n" + tail},
	{name: "body-lines", conf: map[string]string{"line_length_limit": "512"}, recs: one + content + ">\n>{1500*x}\nL {512*y}\nL {600*z}\n>\nL last\n" + tail},
	{name: "size", conf: map[string]string{"message_size_limit": "2000"}, recs: one + content + ">\n>{1000*x}\n>{1000*y}\n" + tail},
	{name: "size-ok", conf: map[string]string{"message_size_limit": "3000"}, recs: one + content + ">\n>{1000*x}\n>{1000*y}\n" + tail},
	{name: "size-bounce", flags: 51, conf: map[string]string{"message_size_limit": "2000"}, recs: one + content + ">\n>{1000*x}\n>{1000*y}\n" + tail},

	{name: "hc-reject", checks: map[string][]string{"header_checks": {"/^subject:/ REJECT no thanks"}}, recs: plain + ">Subject: x\n>\n>b\n" + tail},
	{name: "hc-reject-code", checks: map[string][]string{"header_checks": {"/^subject:/ REJECT 5.7.9 no thanks"}}, recs: plain + ">Subject: x\n>\n>b\n" + tail},
	{name: "hc-reject-4", checks: map[string][]string{"header_checks": {"/^subject:/ REJECT 4.7.9 later"}}, recs: plain + ">Subject: x\n>\n>b\n" + tail},
	{name: "hc-reject-2", checks: map[string][]string{"header_checks": {"/^subject:/ REJECT 2.7.9 what"}}, recs: plain + ">Subject: x\n>\n>b\n" + tail},
	{name: "hc-reject-bare", checks: map[string][]string{"header_checks": {"/^subject:/ REJECT"}}, recs: plain + ">Subject: x\n>\n>b\n" + tail},
	{name: "hc-reject-bounce", flags: 51, checks: map[string][]string{"header_checks": {"/^subject:/ REJECT 5.7.9 no thanks"}}, recs: plain + ">Subject: x\n>\n>b\n" + tail},
	{name: "hc-reject-bounce4", flags: 51, checks: map[string][]string{"header_checks": {"/^subject:/ REJECT 4.7.9 no thanks"}}, recs: plain + ">Subject: x\n>\n>b\n" + tail},
	{name: "hc-actions", checks: map[string][]string{"header_checks": {"/^x-warn:/ WARN warned", "/^x-info:/ info  lower", "/^x-pre:/ PREPEND X-Added: by prepend", "/^x-rep:/ REPLACE To: joe", "/^x-strip:/ STRIP why", "/^x-ign:/ IGNORE why", "/^x-ok:/ OK fine", "/^x-dunno:/ DUNNO", "/^x-fold:/ INFO folded", "/^x-filter:/ FILTER smtp:[1.2.3.4]", "/^x-bcc:/ BCC b@c.example", "/^x-bare:/ WARN", "/^x-hold:/ HOLD held"}},
		recs: head + "A log_message_origin=localhost[127.0.0.1]\nA log_helo_name=client.example\nA log_protocol_name=ESMTP\nR bob@x.example\n" + content + ">X-Warn: a\n>X-Info: a\n>X-Pre: a\n>X-Rep: a\n>X-Strip: a\n>X-Ign: a\n>X-Ok: a\n>X-Dunno: a\n>X-Fold: foo\n>\tbar\n>X-Filter: f\n>X-Bcc: b\n>X-Bare : {300*z}\n>X-Hold: 1\n>X-Hold: 2\n>\n>b\n" + tail},
	{name: "hc-bad", checks: map[string][]string{"header_checks": {"/^x-filter:/ FILTER foo", "/^x-filter0:/ FILTER", "/^x-red:/ REDIRECT foo", "/^x-bcc:/ BCC foo", "/^x-pre:/ PREPEND foo bar", "/^x-pre0:/ PREPEND", "/^x-rep:/ REPLACE foo", "/^x-rep0:/ REPLACE", "/^x-delay:/ DELAY 5", "/^x-unk:/ FOO bar"}},
		recs: plain + ">X-filter: a\n>X-filter0: a\n>X-red: a\n>X-bcc: a\n>X-pre: a\n>X-pre0: a\n>X-rep: a\n>X-rep0: a\n>X-delay: a\n>X-unk: a\n>\n>b\n" + tail},
	{name: "hc-redirect", checks: map[string][]string{"header_checks": {"/^x-red:/ REDIRECT r@d.example", "/^subject:/ REJECT"}}, recs: plain + ">X-Red: a\n>Subject: later\n>\n>b\n" + tail},
	{name: "hc-discard", checks: map[string][]string{"header_checks": {"/^subject:/ DISCARD gone"}}, recs: plain + ">Subject: x\n>\n>b\n" + tail},
	{name: "hc-pass", checks: map[string][]string{"header_checks": {"/^x-pass:/ PASS ok", "/^subject:/ REJECT"}}, recs: plain + ">X-Pass: 1\n>Subject: x\n>\n>b\n" + tail},
	{name: "hc-nofilter", flags: 48, checks: map[string][]string{"header_checks": {"/^subject:/ REJECT"}, "body_checks": {"/./ REJECT"}}, recs: plain + ">Subject: x\n>\n>b\n" + tail},
	{name: "hc-replace-known", checks: map[string][]string{"header_checks": {"/^x-utf/ PREPEND X-N: \u00fc", "/^x-mid:/ REPLACE Message-Id: <new@x>", "/^from:/ REPLACE X-From: y", "/^date:/ STRIP"}}, recs: one + content + ">X-Mid: a\n>From: joe\n>Date: d\n>\n>b\n" + tail},
	{name: "hc-prepend-utf8", checks: map[string][]string{"header_checks": {"/^x-utf/ PREPEND X-N: \u00fc"}}, recs: one + content + ">X-utf: a\n>\n>b\n" + tail},
	{name: "hc-strip-utf8", checks: map[string][]string{"header_checks": {"/^x-utf/ STRIP"}}, recs: one + content + ">X-utf: \\u00fc\n>\n>b\n" + tail},
	{name: "odd-content", recs: plain + ">\nR x@y\n>abc\n" + tail},
	{name: "last-cont-nofilter", flags: 48, recs: plain + ">\n>abc\nL foo\n" + tail},
	{name: "last-cont-header", recs: plain + "L X-Foo: bar\n" + tail},
	{name: "drop-utf8", recs: plain + ">Bcc: \\u00fc\n>\n>abc\n" + tail},
	{name: "hc-notext-cte", checks: map[string][]string{"mime_header_checks": {"/^content-transfer/ STRIP"}}, recs: one + content + ">Content-Transfer-Encoding: 8bit\n>\n>b\n" + tail},
	{name: "bc-actions", checks: map[string][]string{"body_checks": {"/^warn/ WARN w", "/^pre/ PREPEND before", "/^rep/ REPLACE new text", "/^strip/ STRIP", "/^ign/ IGNORE", "/^hold/ HOLD", "/^prx$/ PREPEND", "/^$/ WARN empty"}},
		recs: plain + ">\n>warn me\n>prefix\n>replace\n>stripped\n>ignored\n\n>\n>hold\n>text\n>prx\nL replL\n>tail\n" + tail},
	{name: "bc-limit", conf: map[string]string{"body_checks_size_limit": "10"}, checks: map[string][]string{"body_checks": {"/./ WARN seen"}}, recs: plain + ">\n>12345\n>abc\n>def\n>ghi\n" + tail},
	{name: "bc-limit-parts", conf: map[string]string{"body_checks_size_limit": "12"}, checks: map[string][]string{"body_checks": {"/./ WARN seen"}}, recs: plain + ">Content-Type: multipart/mixed; boundary=b1\n>\n>pre1\n>--b1\n>Content-Type: text/plain\n>\n>12345\n>abc\n>def\n>--b1\n>\n>67890\n>ghi\n>jkl\n>--b1--\n>epi1\n>epi2\n>epi3\n" + tail},
	{name: "bc-reject", checks: map[string][]string{"body_checks": {"/bad/ REJECT body"}}, recs: plain + ">\n>good\n>bad\n>more\n" + tail},
}

func allCases() []goldenCase { return append(append([]goldenCase(nil), goldenCases...), mimeCases...) }
