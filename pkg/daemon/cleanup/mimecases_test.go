package cleanup

// classChecks show to which class a header belongs.
var classChecks = map[string][]string{
	"header_checks": {"/./ INFO primary"}, "mime_header_checks": {"/./ INFO mime"},
	"nested_header_checks": {"/./ INFO nested"}, "body_checks": {"/./ INFO body"},
}

var strict = map[string]string{"strict_8bitmime": "yes", "strict_mime_encoding_domain": "yes"}

func mimeCase(name string, conf map[string]string, content string) goldenCase {
	return goldenCase{name: name, conf: conf, checks: classChecks, recs: one + "M\n>Received: x\n" + content + tail}
}

var mimeCases = []goldenCase{
	mimeCase("mime-plain", nil, ">Content-Type: text/plain\n>\n>a\n>--b\n"),
	mimeCase("mime-multipart", nil, ">Content-Type: multipart/mixed; boundary=\"b 1\"\n>\n>pre\n>--b 1\n>Content-Type: text/html\n>X-Part: 1\n>\n>body\n>--b 1 trailing\n>\n>part2\n>--b 1--\n>epi\n>--b 1\n>X-Not: header\n"),
	mimeCase("mime-nested", nil, ">Content-Type: message/rfc822\n>\n>Subject: inner\n>Content-Type: text/plain\n>\n>inner body\n"),
	mimeCase("mime-nested-nohdr", nil, ">Content-Type: message/rfc822\n>\n>no header here\n>Subject: x\n"),
	mimeCase("mime-nested-nosep", nil, ">Content-Type: message/rfc822\n>no separator\n>Subject: x\n>\n>z\n"),
	mimeCase("mime-global", nil, ">Content-Type: message/global\n>\n>Subject: inner\n>\n>inner body\n"),
	mimeCase("mime-delivery-status", nil, ">Content-Type: message/delivery-status\n>\n>Reporting-MTA: dns; x\n>\n>Final-Recipient: y\n"),
	mimeCase("mime-partial", nil, ">Content-Type: message/partial\n>\n>Subject: inner\n>\n>inner body\n"),
	mimeCase("mime-digest", nil, ">Content-Type: multipart/digest; boundary=b\n>\n>--b\n>\n>Subject: d1\n>\n>body1\n>--b\n>Content-Type: text/plain\n>\n>Subject: not\n>--b--\n"),
	mimeCase("mime-part-nosep", nil, ">Content-Type: multipart/mixed; boundary=b\n>\n>--b\n>no header\n>X-A: b\n>--b\n>X-B: c\n>text\n>--b\n>--b--\n"),
	mimeCase("mime-deep", nil, ">Content-Type: multipart/mixed; boundary=b\n>\n>--b\n>Content-Type: multipart/alternative; boundary=c\n>\n>--c\n>X-C: 1\n>\n>t\n>--b\n>X-B: 2\n>\n>--c\n>X-gone: 1\n>--b--\n>--b\n"),
	mimeCase("mime-outer-close", nil, ">Content-Type: multipart/mixed; boundary=b\n>\n>--b\n>Content-Type: multipart/mixed; boundary=c\n>\n>--c\n>\n>--b--\n>--c\n>X-C: x\n"),
	mimeCase("mime-prefix", nil, ">Content-Type: multipart/mixed; boundary=b\n>\n>--bXYZ\n>X-A: 1\n>\n>--b--zzz\n>--b\n>X-A: 2\n"),
	mimeCase("mime-two-boundaries", nil, ">Content-Type: multipart/mixed; boundary=b; boundary=c\n>\n>--c\n>X-C: 1\n>\n>--b\n>X-B: 1\n>\n>--c\n>X-C: 2\n"),
	mimeCase("mime-noboundary", nil, ">Content-Type: multipart/mixed\n>\n>--b\n>X-A: 1\n>--\n>X-B: 1\n"),
	mimeCase("mime-emptyboundary", nil, ">Content-Type: multipart/mixed; boundary=\"\"\n>\n>--\n>X-A: 1\n>\n>--b\n>X-B: 1\n>\n>----\n>X-C: 1\n"),
	mimeCase("mime-syntax", nil, ">Content-Type: (c) multipart (d) / (e) mixed ; x=y; (f) boundary (g) = \"a\\\\\"b\"\n>\n>--a\"b\n>X-A: 1\n>\n"),
	mimeCase("mime-syntax2", nil, ">Content-Type: multipart/mixed boundary=b\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-syntax3", nil, ">Content-Type: multipart; boundary=b\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-syntax4", nil, ">Content-Type: multipart/mixed; boundary=a/b\n>\n>--a/b\n>X-A: 1\n>\n>--a\n>X-A: 1\n"),
	mimeCase("mime-syntax5", nil, ">Content-Type: multipart/mixed;\n>\tboundary=\"a\n> b\"\n>\n>--a b\n>X-A: 1\n>\n>--a\n>X-A: 2\n>\n"),
	mimeCase("mime-syntax6", nil, ">Content-Type: \"multipart\"/\"mixed\"; boundary=\"b\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-syntax7", nil, ">Content-Type: multipart/mixed; boundary=\"b\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-syntax8", nil, ">Content-Type: multipart/\"mixed\"; boundary=b\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-syntax9", nil, ">Content-Type: multipart/mixed; (x) BOUNDARY=b (y); boundary\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-syntax10", nil, ">Content-Type: multipart/mixed; boundary=\u00fcb c\n>\n>--\u00fcb\n>X-A: 1\n>\n>--b\n>X-B: 1\n"),
	mimeCase("mime-syntax11", nil, ">Content-Type: message/\"rfc822\"\n>\n>X-A: 1\n>\n"),
	mimeCase("mime-syntax12", nil, ">Content-Type: multipart/mixed; xboundary=a; boundary =b\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-cte-quoted", strict, ">Content-Transfer-Encoding: \"8bit\"\n>\n>\\xe9\n"),
	mimeCase("mime-cte-comment", strict, ">Content-Transfer-Encoding: (x) 8bit (y)\n>\n>\\xe9\n"),
	mimeCase("mime-cte-twice", strict, ">Content-Transfer-Encoding: 8bit\n>Content-Transfer-Encoding: 7bit\n>\n>\\xe9\n"),
	mimeCase("mime-cte-unknown-after", strict, ">Content-Transfer-Encoding: 8bit\n>Content-Transfer-Encoding: foo\n>\n>\\xe9\n"),
	mimeCase("mime-twice", nil, ">Content-Type: multipart/mixed; boundary=b\n>Content-Type: text/plain\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-continued-boundary", nil, ">Content-Type: multipart/mixed; boundary=b\n>\nL text\n>--b\n>X-A: 1\n>--b\n>X-B: 1\n>\n"),
	mimeCase("mime-long-boundary", map[string]string{"mime_boundary_length_limit": "4"}, ">Content-Type: multipart/mixed; boundary=abcdefgh\n>\n>--abcd\n>X-A: 1\n>\n"),
	mimeCase("mime-nesting", map[string]string{"mime_nesting_limit": "1"}, ">Content-Type: multipart/mixed; boundary=a\n>\n>--a\n>Content-Type: multipart/mixed; boundary=b\n>\n>--b\n>Content-Type: multipart/mixed; boundary=c\n>\n>--c\n>Content-Type: multipart/mixed; boundary=d\n>\n>--d\n>X-D: 1\n>\n"),
	mimeCase("mime-disabled", map[string]string{"disable_mime_input_processing": "yes", "strict_8bitmime": "yes"}, ">Content-Type: multipart/mixed; boundary=b\n>Subject: \\xff\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-8bit-header", strict, ">Subject: caf\\xe9\n>X-Other: \\xe9\n>\n>x\n"),
	mimeCase("mime-8bit-body", strict, ">Subject: x\n>\n>caf\\xe9\n>again \\xe9\n"),
	mimeCase("mime-8bit-body-ok", strict, ">Content-Transfer-Encoding: 8bit\n>\n>caf\\xe9\n"),
	mimeCase("mime-8bit-body-qp", strict, ">Content-Transfer-Encoding: quoted-printable\n>\n>caf\\xe9\n"),
	mimeCase("mime-8bit-body-unknown", strict, ">Content-Transfer-Encoding: x-foo\n>\n>caf\\xe9\n"),
	mimeCase("mime-8bit-part", strict, ">Content-Type: multipart/mixed; boundary=b\n>Content-Transfer-Encoding: 8bit\n>\n>--b\n>\n>caf\\xe9\n>--b--\n>\\xe9\n"),
	mimeCase("mime-8bit-epilogue", strict, ">Content-Type: multipart/mixed; boundary=b\n>Content-Transfer-Encoding: 8bit\n>\n>--b\n>\n>cafe\n>--b--\n>\\xe9\n"),
	mimeCase("mime-domain-multipart", strict, ">Content-Type: multipart/mixed; boundary=b\n>Content-Transfer-Encoding: base64\n>\n>--b\n>X-A: 1\n>\n"),
	mimeCase("mime-domain-rfc822", strict, ">Content-Type: message/rfc822\n>Content-Transfer-Encoding: quoted-printable\n>\n>Subject: in\n>\n"),
	mimeCase("mime-domain-partial", strict, ">Content-Type: message/partial\n>Content-Transfer-Encoding: 8bit\n>\n>Subject: in\n>\n"),
	mimeCase("mime-domain-partial-b64", strict, ">Content-Type: message/partial\n>Content-Transfer-Encoding: base64\n>\n>Subject: in\n>\n"),
	mimeCase("mime-domain-global", strict, ">Content-Type: message/global\n>Content-Transfer-Encoding: base64\n>\n>Subject: in\n>\n"),
	mimeCase("mime-domain-status", strict, ">Content-Type: message/delivery-status\n>Content-Transfer-Encoding: base64\n>\n>Subject: in\n>\n"),
	mimeCase("mime-domain-text", strict, ">Content-Type: text/plain\n>Content-Transfer-Encoding: base64\n>\n>Subject: in\n>\n"),
	mimeCase("mime-cte-8bit-nested", nil, ">Content-Type: message/rfc822\n>\n>Content-Transfer-Encoding: binary\n>\n>b\n"),
	mimeCase("mime-cte-trailing", nil, ">Content-Transfer-Encoding: 8bit (x)\n>\n>b\n"),
	mimeCase("mime-cte-blanks", nil, ">Content-Transfer-Encoding:   8Bit\n>\n>b\n"),
	mimeCase("mime-all-bad", strict, ">Subject: \\xe9\n>Content-Type: message/rfc822\n>Content-Transfer-Encoding: base64\n>\n>Subject: \\xe9\n>\n>\\xe9\n"),
}
