package milter

import "strings"

// editCase is a message and what the filters do to it at its end.
type editCase struct {
	name    string
	mail    mail
	edits   []string          // of the first filter
	edits2  []string          // of the second
	conf    []string          // main.cf
	differs []string          // parts of the outcome in which ours is another
	events  map[byte][]string // of the first, at other events
}

func (c editCase) scripts() []script {
	first := map[byte][]string{'E': c.edits}
	for event, packets := range c.events {
		first[event] = packets
	}
	return []script{{replies: first}, {replies: map[byte][]string{'E': c.edits2}}}
}

// fill gives a message what a case leaves open.
func fill(m *mail) {
	if m.from == "" {
		m.from = "a@example.test"
	}
	if m.to == "" {
		m.to = "u1@sink.test u2@sink.test"
	}
	if m.text == "" {
		m.text = "From: a@example.test\nTo: u1@sink.test\nX: y\nSubject: hello\n there\nX-Third: third header\nX: z\nMessage-Id: <1@x>\nDate: now\n\nbody line one\nbody line two\n"
	}
}

var editCases = []editCase{
	{name: "none"},
	{name: "plain", mail: mail{port: 2525}},
	{name: "no filters wanted by flags", mail: mail{sendmail: true}},
	{name: "null sender", mail: mail{from: ""}},
	{name: "add", edits: []string{addHeader("X-Added", "added value"), addHeader("X-Added", "second"), addHeader("S", "s")}},
	{name: "insert 0", edits: []string{insHeader(0, "X-Ins", "zero")}},
	{name: "insert 1", edits: []string{insHeader(1, "X-Ins", "one")}},
	{name: "insert 2", edits: []string{insHeader(2, "X-Ins", "two")}},
	{name: "insert 0 twice", edits: []string{insHeader(0, "X-Ins", "zero"), insHeader(0, "X-Ins", "again")}},
	{name: "insert 1 thrice", edits: []string{insHeader(1, "X-Ins", "one"), insHeader(1, "X-Ins", "again"), insHeader(1, "X", "t")}},
	{name: "insert 4 before short", edits: []string{insHeader(4, "X-Ins", "four"), insHeader(4, "X-Ins", "five")}},
	{name: "insert 5 after padded", edits: []string{insHeader(5, "X-Ins", "four"), insHeader(6, "X-Ins", "five")}},
	{name: "insert far", edits: []string{insHeader(100, "X-Ins", "end"), insHeader(100, "X-Ins", "end2")}},
	{name: "insert before added", edits: []string{addHeader("X-Added", "1"), insHeader(10, "X-Ins", "before added"), insHeader(11, "X-Ins", "again"), addHeader("X-Added", "2"), insHeader(13, "X-Ins", "third")}},
	{name: "change 1", edits: []string{chgHeader(1, "Subject", "changed")}},
	{name: "change 0", edits: []string{chgHeader(0, "subject", "changed\n\tfolded")}},
	{name: "change second X", edits: []string{chgHeader(2, "X", "changed second")}},
	{name: "change again", edits: []string{chgHeader(1, "X", "c1"), chgHeader(1, "X", "c2"), chgHeader(2, "X", "c3")}},
	{name: "change missing", edits: []string{chgHeader(3, "X", "not there"), chgHeader(1, "X-None", "value")}},
	{name: "delete", edits: []string{chgHeader(1, "X", ""), chgHeader(1, "Subject", "")}},
	{name: "delete all X", edits: []string{chgHeader(1, "X", ""), chgHeader(1, "X", ""), chgHeader(1, "X", "")}},
	{name: "delete missing", edits: []string{chgHeader(7, "X", "")}},
	{name: "delete adjacent", edits: []string{chgHeader(1, "To", ""), chgHeader(1, "X", ""), chgHeader(1, "Subject", ""), insHeader(2, "X-Ins", "hm"), insHeader(3, "X-Ins", "hm3")}},
	{name: "delete last and add", edits: []string{chgHeader(1, "Date", ""), addHeader("X-Added", "v"), chgHeader(1, "X-Added", ""), addHeader("X-Added", "w"), chgHeader(1, "X-Added", "longer value than before")}},
	{name: "received", edits: []string{chgHeader(1, "Received", "changed")}},
	{name: "received delete", mail: mail{text: "Received: from x by y\nReceived: two\nSubject: s\n\nbody\n"}, edits: []string{chgHeader(1, "Received", ""), chgHeader(1, "Received", "now first")}},
	{name: "insert then change", edits: []string{insHeader(3, "X", "inserted first X"), chgHeader(1, "X", "changed"), chgHeader(2, "X", "")}},
	{name: "rcpt add", edits: []string{addRcpt("<new@sink.test>"), addRcpt("new2@sink.test"), addRcpt("list@example.test"), addRcpt("<u1@sink.test>")}},
	{name: "rcpt add par", differs: []string{"log"}, edits: []string{addRcptPar("<new@sink.test>", "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;n+2Bw@x.y"), addRcptPar("b@c", "NOTIFY=BAD"), addRcptPar("c@d", "ORCPT=bad"), addRcptPar("d@e", "FOO=bar"), addRcpt("<>"), addRcpt("")}},
	{name: "rcpt del", edits: []string{delRcpt("<u1@sink.test>"), delRcpt("nobody@sink.test")}},
	{name: "rcpt del all", edits: []string{delRcpt("<u1@sink.test>"), delRcpt("u2@sink.test")}},
	{name: "rcpt del added", edits: []string{addRcpt("x@y.z"), delRcpt("x@y.z"), addRcpt("x@y.z"), delRcpt("U2@sink.test")}},
	{name: "rcpt del alias", mail: mail{to: "list@example.test u1@sink.test"}, edits: []string{delRcpt("one@example.test"), delRcpt("list@example.test"), addRcpt("list@example.test")}},
	{name: "from", edits: []string{chgFrom("<b@example.test>", "")}},
	{name: "from par", edits: []string{chgFrom("<sbcc@example.test>", "ENVID=e+2B1 RET=HDRS"), chgFrom("longer-address-now@example.test", "RET=FULL"), chgFrom("<>", "FOO=x RET=BAD ENVID=")}},
	{name: "from null", mail: mail{from: "", text: "Subject: x\n\nb\n"}, edits: []string{chgFrom("<who@example.test>", "")}},
	{name: "from to null", edits: []string{chgFrom("<>", ""), chgFrom("", "")}},
	{name: "body short", edits: []string{replBody("new\r\n")}},
	{name: "body empty", edits: []string{replBody("")}},
	{name: "body no newline", edits: []string{replBody("new text")}},
	{name: "body longer", edits: []string{replBody("replaced body line one\r\nline two which is rather longer than original\r\nand three\r\n")}},
	{name: "body chunks", edits: []string{replBody("part one, "), replBody("continued\r\nline"), replBody(" two\r"), replBody("\nlast\nx\ry\r\n\r\n")}},
	{name: "body exact", edits: []string{replBody("body line one\r\nbody line two\r\n")}},
	{name: "body twice", edits: []string{replBody("replaced body line one\r\nline two which is rather longer than original\r\nand three\r\n")}, edits2: []string{replBody("second filter's text is longer than that of the first one\r\nline two is longer too, much longer\r\nand three\r\nand four is new\r\n")}},
	{name: "body twice shorter", edits: []string{replBody("replaced body line one\r\nline two which is rather longer than original\r\nand three\r\n"), addHeader("X-A", "b")}, edits2: []string{addHeader("X-C", "d"), replBody("s\r\n")}},
	{name: "body and headers", edits: []string{addHeader("X-A", "b"), replBody("replaced\r\n"), addHeader("X-B", "c"), insHeader(1, "X-C", "d")}},
	{name: "body interleaved", edits: []string{replBody("replaced\r\n"), addHeader("X-B", "c"), replBody("more of body\r\n")}},
	{name: "all", edits: []string{chgFrom("<sender2@example.test>", ""), addRcpt("new@defer.test"), delRcpt("u1@sink.test"), insHeader(0, "X-Ins0", "ins"), chgHeader(1, "Subject", "changed subject"), chgHeader(1, "X", ""), addHeader("X-Added", "added value"), replBody("replaced body line one\r\nline two which is rather longer than original\r\n")}},
	{name: "no header message", mail: mail{text: "\nbody only\n"}, edits: []string{addHeader("X-A", "b"), insHeader(1, "X-B", "c"), replBody("new\r\n")}},
	{name: "no body message", mail: mail{text: "Subject: only\n"}, edits: []string{addHeader("X-A", "b"), replBody("new\r\n")}},
	{name: "no blank line", mail: mail{text: "Subject: only\nnot a header\nbody\n"}, edits: []string{addHeader("X-A", "b")}},
	{name: "short headers", mail: mail{text: "A: b\nC: d\nE:\nSubject: fifteen\n\n\n"}, edits: []string{chgHeader(1, "A", "x"), chgHeader(1, "C", ""), chgHeader(1, "E", "filled"), insHeader(2, "F", "g"), insHeader(3, "H", "i"), insHeader(4, "J", "k"), insHeader(5, "L", "m")}},
	{name: "header with lines", mail: mail{text: "A: b\n c\n d\nB: c\n d\n\nx\n"}, edits: []string{chgHeader(1, "A", "x\n y"), insHeader(2, "F", "g\n h\ni"), insHeader(3, "H", ""), chgHeader(1, "B", "")}},
	{name: "mime", mail: mail{text: "Subject: m\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\npre\n--b\nContent-Type: text/plain\nX: 1\n\npart\n--b--\n"}, edits: []string{chgHeader(1, "Content-Type", "text/plain"), chgHeader(1, "X", "no"), replBody("flat\r\n")}},
	{name: "quarantine", edits: []string{quarantine("because"), addHeader("X-Q", "1")}},
	{name: "quarantine twice", edits: []string{quarantine("because"), quarantine("twice"), "c"}, edits2: []string{quarantine("other")}},
	{name: "discard", edits: []string{addHeader("X-Q", "1"), "d"}},
	{name: "reject", edits: []string{"r"}},
	{name: "tempfail", edits: []string{"t"}},
	{name: "shutdown", edits: []string{"4"}},
	{name: "accept", edits: []string{addHeader("X-Q", "1"), "a"}, edits2: []string{addHeader("X-R", "2")}},
	{name: "replycode", differs: []string{"replies", "log", "seen"}, edits: []string{replyCode("554 5.7.9 no %% thanks\r\nfor that")}},
	{name: "replycode multi", edits: []string{replyCode("451-4.7.9 try\r\n451 4.7.9 later")}},
	{name: "replycode bad", edits: []string{replyCode("250 fine")}},
	{name: "hang", edits: []string{"SLEEP"}},
	{name: "die", edits: []string{addHeader("X-Q", "1"), "CLOSE"}},
	{name: "lie", edits: []string{"Z"}},
	{name: "lie in edit", edits: []string{"hno-nul"}},
	{name: "sendmail edits", mail: mail{sendmail: true}, edits: []string{addHeader("X-Q", "1"), chgFrom("<b@example.test>", ""), addRcpt("new@x.y"), insHeader(1, "X-I", "2"), delRcpt("u1@sink.test"), replBody("x\r\n")}},
	{name: "sendmail reject", mail: mail{sendmail: true}, edits: []string{replyCode("554 5.7.9 no thanks")}},
	{name: "sendmail tempfail", mail: mail{sendmail: true}, edits: []string{"t"}},
	{name: "bad header text", edits: []string{addHeader("X Bad", "v"), addHeader("", "v"), addHeader("X-8bit", "caf\xc3\xa9"), addHeader("X-Cr", "a\r\n b\r\nc")}},

	{name: "macros smtp", conf: allMacros},
	{name: "macros sendmail", conf: allMacros, mail: mail{sendmail: true}},
	{name: "macros no recipient", conf: allMacros, mail: mail{sendmail: true, options: []string{"-t"}, to: " ", text: "To: x@sink.test, y@sink.test\nSubject: t\n\nb\n"}, edits: []string{addRcpt("z@sink.test"), delRcpt("x@sink.test")}},
	{name: "prepend and replace", conf: headerChecks, mail: mail{text: "Subject: hello\nX-PREPEND: y\nX-REPLACE: y\n\nb\n"}, edits: []string{chgHeader(1, "X-Pre", "changed")}},
	{name: "emulated connect reject", mail: mail{sendmail: true}, events: map[byte][]string{'C': {"r"}}},
	{name: "emulated helo tempfail", mail: mail{sendmail: true}, events: map[byte][]string{'H': {"t"}}},
	{name: "emulated mail reject", mail: mail{sendmail: true}, events: map[byte][]string{'M': {replyCode("550 5.1.8 no such sender")}}},
	{name: "emulated rcpt reject", mail: mail{sendmail: true}, events: map[byte][]string{'R': {"r"}}},
	{name: "emulated rcpt tempfail", mail: mail{sendmail: true}, events: map[byte][]string{'R': {"t"}}},
	{name: "emulated rcpt discard", mail: mail{sendmail: true}, events: map[byte][]string{'R': {"d"}}},
	{name: "emulated data reject", mail: mail{sendmail: true}, events: map[byte][]string{'T': {"r"}}},
	{name: "emulated data accept", mail: mail{sendmail: true}, events: map[byte][]string{'T': {"a"}}},
	{name: "emulated shutdown", mail: mail{sendmail: true}, events: map[byte][]string{'M': {"4"}}},
	{name: "header event reject", events: map[byte][]string{'L': {"r"}}},
	{name: "header event accept", events: map[byte][]string{'L': {"a"}}},
	{name: "header event skip", events: map[byte][]string{'L': {"s"}}},
	{name: "eoh event discard", events: map[byte][]string{'N': {"d"}}},
	{name: "body event tempfail", events: map[byte][]string{'B': {"t"}}},
	{name: "body event quarantine", events: map[byte][]string{'B': {quarantine("q")}}},
	{name: "edit before the end", events: map[byte][]string{'B': {addHeader("X", "y")}}},
	{name: "large body", mail: mail{text: "Subject: big\n\n" + strings.Repeat(strings.Repeat("0123456789", 7)+"\n", 3000)}, edits: []string{replBody(strings.Repeat("abcdefg\r\n", 5000)), replBody(strings.Repeat("h", 5000))}},
	{name: "long header", mail: mail{text: "Subject: " + strings.Repeat("x", 5000) + "\nX-Fold: a\n" + strings.Repeat(" "+strings.Repeat("y", 900)+"\n", 80) + "Y: z\n\nb\n"}, edits: []string{insHeader(1, "X-Ins", "1"), insHeader(3, "X-Ins", "2"), chgHeader(1, "X-Fold", ""), chgHeader(1, "Subject", strings.Repeat("z", 5000))}},
	{name: "body checks reject", conf: []string{"body_checks = regexp:/etc/postfix/checks"}, mail: mail{text: "Subject: s\n\nbody-reject\n"}},
	{name: "checks discard", conf: headerChecks, mail: mail{text: "Subject: s\nX-DISCARD: z\n\nb\n"}},
	{name: "checks pass", conf: headerChecks, mail: mail{text: "Subject: s\nX-PASS: z\n\nb\n"}, edits: []string{addHeader("X-A", "b")}},
	{name: "checks hold", conf: headerChecks, mail: mail{text: "Subject: s\nX-HOLD: z\n\nb\n"}, edits: []string{addHeader("X-A", "b"), quarantine("too")}},
	{name: "checks redirect", conf: headerChecks, mail: mail{text: "Subject: s\nX-REDIRECT: z\n\nb\n"}, edits: []string{addHeader("X-A", "b")}},
	{name: "checks filter", conf: headerChecks, mail: mail{text: "Subject: s\nX-FILTER: z\n\nb\n"}, edits: []string{addHeader("X-A", "b")}},
	{name: "milter checks", conf: milterChecks, edits: []string{addHeader("W", "warn"), addHeader("I", "info"), addHeader("F", "filter"), addHeader("G", "ignore"), addHeader("H", "hold"), addHeader("B", "bcc"), addHeader("S", "strip"), addHeader("P", "prepend"), addHeader("D", "dunno"), addHeader("O", "ok"), addHeader("X", "replace"), addHeader("Y", "nothing"), addHeader("A", "pass"), addHeader("N", "unknown"), addHeader("L", "longer text that goes beyond the sixty bytes which are shown in the log"), insHeader(1, "S", "strip"), chgHeader(1, "Subject", "subject"), addHeader("XB", "bad replace")}},
	{name: "milter checks redirect", conf: milterChecks, edits: []string{addHeader("B", "bcc"), addHeader("R", "redirect"), addHeader("W", "warn"), addHeader("S", "strip")}},
	{name: "milter checks reject", conf: milterChecks, edits: []string{addHeader("J", "reject"), addHeader("W", "warn")}},
	{name: "milter checks tempfail", conf: milterChecks, edits: []string{addHeader("T", "reject")}},
	{name: "milter checks discard", differs: []string{"seen"}, conf: milterChecks, edits: []string{addHeader("K", "discard"), addHeader("W", "warn")}},
	{name: "canonical", conf: []string{"canonical_maps = inline:{ u1@sink.test=canon@sink.test a@example.test=csender@example.test new@sink.test=cnew@sink.test from@x.y=cfrom@x.y}", "always_bcc = always@bcc.test", "recipient_bcc_maps = inline:{ cnew@sink.test=rbcc@sink.test }"}, mail: mail{sendmail: true}, edits: []string{addRcpt("new@sink.test"), delRcpt("u1@sink.test"), delRcpt("canon@sink.test"), chgFrom("from@x.y", ""), addRcpt("unqualified"), addRcpt("Name <friend@x.y>"), addRcpt("a@b, c@d"), delRcpt("always@bcc.test")}},
	{name: "unreachable", conf: []string{"smtpd_milters = inet:127.0.0.1:7009", "non_smtpd_milters = inet:127.0.0.1:7009"}},
	{name: "unreachable sendmail", conf: []string{"smtpd_milters = inet:127.0.0.1:7009", "non_smtpd_milters = inet:127.0.0.1:7009"}, mail: mail{sendmail: true}},
	{name: "unreachable reject", conf: []string{"milter_default_action = reject", "non_smtpd_milters = inet:127.0.0.1:7009"}, mail: mail{sendmail: true}},
	{name: "unreachable accept", conf: []string{"milter_default_action = accept", "non_smtpd_milters = inet:127.0.0.1:7009"}, mail: mail{sendmail: true}},
	{name: "unreachable quarantine", conf: []string{"milter_default_action = quarantine", "non_smtpd_milters = inet:127.0.0.1:7009"}, mail: mail{sendmail: true}},
	{name: "die accept", conf: []string{"milter_default_action = accept"}, edits: []string{addHeader("X-A", "b"), "CLOSE"}},
	{name: "die quarantine", conf: []string{"milter_default_action = quarantine"}, edits: []string{addHeader("X-A", "b"), "CLOSE"}},
	{name: "die in header", events: map[byte][]string{'L': {"CLOSE"}}},
	{name: "size limit", differs: []string{"log"}, conf: []string{"message_size_limit = 3000"}, edits: []string{replBody(strings.Repeat("abcdefg\r\n", 500)), addHeader("X-A", "b")}},
	{name: "no_milters", conf: []string{"receive_override_options = no_milters"}},
	{name: "no placeholders", conf: []string{"smtpd_milters =", "non_smtpd_milters ="}},
	{name: "long recipient list", conf: []string{"duplicate_filter_limit = 2"}, mail: mail{to: "u1@a.b u2@a.b u3@a.b u4@a.b"}, edits: []string{delRcpt("u3@a.b"), addRcpt("u3@a.b"), addRcpt("u4@a.b")}},
	{name: "no original recipient", conf: []string{"enable_original_recipient = no"}, edits: []string{delRcpt("u1@sink.test"), addRcpt("u1@sink.test"), addRcpt("u2@sink.test")}},
	{name: "smtputf8", conf: []string{"smtputf8_autodetect_classes = all"}, edits: []string{addRcpt("j\xc3\xb6rg@x.y"), chgFrom("j\xc3\xb6rg@x.y", "")}},
	{name: "verp and bounce", mail: mail{from: "a@example.test ENVID=x RET=FULL"}, edits: []string{chgFrom("b@c", "ENVID=new RET=HDRS")}},
	{name: "nested headers", mail: mail{text: "A: b\nContent-Type: message/rfc822\n\nB: c\nContent-Type: multipart/mixed; boundary=b\n\n--b\nD: e\n\ntext\n--b--\n"}, edits: []string{addHeader("X-A", "b")}},
}

var allMacros = []string{
	"milter_end_of_data_macros = i j v _ {daemon_name} {daemon_addr} {daemon_port} {client_addr} {client_name} {client_port} {client_ptr} {client_resolve} {client_connections} {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer} {rcpt_addr} {rcpt_host} {rcpt_mailer} {tls_version} {if_name}", "milter_connect_macros = i j v _ {daemon_name} {daemon_addr} {daemon_port} {client_addr} {client_name} {client_port} {client_ptr} {client_resolve} {client_connections} {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer} {rcpt_addr} {rcpt_host} {rcpt_mailer} {tls_version} {if_name}",
	"milter_rcpt_macros = i j v _ {daemon_name} {daemon_addr} {daemon_port} {client_addr} {client_name} {client_port} {client_ptr} {client_resolve} {client_connections} {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer} {rcpt_addr} {rcpt_host} {rcpt_mailer} {tls_version} {if_name}", "milter_mail_macros = i j v _ {daemon_name} {daemon_addr} {daemon_port} {client_addr} {client_name} {client_port} {client_ptr} {client_resolve} {client_connections} {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer} {rcpt_addr} {rcpt_host} {rcpt_mailer} {tls_version} {if_name}", "milter_macro_defaults = if_name=eth0 auth_type=none",
}

var headerChecks = []string{"header_checks = regexp:/etc/postfix/checks"}

var milterChecks = []string{"milter_header_checks = regexp:/etc/postfix/mchecks"}

const milterRules = `
/^W: warn/ WARN warned
/^I: info/ INFO
/^F: filter/ FILTER t:d
/^G: ignore/ IGNORE
/^H: hold/ HOLD held
/^B: bcc/ BCC bcc@x.y
/^R: redirect/ REDIRECT r@e.f
/^S: strip/ STRIP stripped
/^P: prepend/ PREPEND X-P: p
/^D: dunno/ DUNNO
/^O: ok/ OK
/^X: replace/ REPLACE X-Replaced: yes
/^A: pass/ PASS
/^N: unknown/ FOO bar
/^J: reject/ REJECT no such header
/^T: reject/ REJECT 4.7.9 later
/^K: discard/ DISCARD gone
/^L: longer text that goes beyond the sixty bytes which are shown in the log/ WARN long
/^Subject: subject/ REPLACE Subject: checked
/^XB: bad replace/ REPLACE nonsense
`
