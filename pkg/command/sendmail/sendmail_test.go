package sendmail

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"posthaste/pkg/command"
	"posthaste/pkg/conf"
	"posthaste/pkg/spool/record"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args  string
		check func(options) bool
	}{
		{"sendmail a b", func(o options) bool { return o.mode == enqueue && slices.Equal(o.recipients, []string{"a", "b"}) }},
		{"sendmail -q", func(o options) bool { return o.mode == flushQueue }},
		{"sendmail -q30m a", func(o options) bool { return o.mode == nothing }},
		{"sendmail -qRexample.com", func(o options) bool { return o.mode == flushSite && o.target == "example.com" }},
		{"sendmail -qIABCDEF", func(o options) bool { return o.mode == flushID && o.target == "ABCDEF" }},
		{"sendmail -bd -q30m", func(o options) bool { return o.mode == daemon && len(o.warnings) == 1 }},
		{"sendmail -bp", func(o options) bool { return o.mode == list }},
		{"/usr/bin/mailq", func(o options) bool { return o.mode == list }},
		{"newaliases", func(o options) bool { return o.mode == aliases }},
		{"sendmail -bi -oA/x/y", func(o options) bool { return o.mode == aliases && slices.Equal(o.aliasPaths, []string{"/x/y"}) }},
		{"sendmail -oi -f me -t", func(o options) bool { return o.keepDots && *o.sender == "me" && o.extract }},
		{"sendmail -fme -Fname -i -- -a", func(o options) bool {
			return *o.sender == "me" && *o.fullName == "name" && slices.Equal(o.recipients, []string{"-a"})
		}},
		{"sendmail -v a", func(o options) bool { return o.trace == traceRecord && o.verbose == 0 }},
		{"sendmail -v -v a", func(o options) bool { return o.trace == 0 && o.verbose == 2 }},
		{"sendmail -bv a", func(o options) bool { return o.trace == traceVerify && o.mode == enqueue }},
		{"sendmail -N success,delay -R hdrs -V QQ1 a", func(o options) bool { return o.notify == 2|8 && o.ret == 2 && o.envelopeID == "QQ1" }},
		{"sendmail -N foo a", func(o options) bool { return o.notify == 0 && len(o.warnings) == 2 }},
		{"sendmail -XV+= a", func(o options) bool { return o.verp == "+=" }},
		{"sendmail -B8BITMIME -G a", func(o options) bool { return o.encoding == "8bit" && o.context == "remote" }},
		{"sendmail -bs", func(o options) bool { return o.mode == standAlone }},
		{"sendmail -f -q a", func(o options) bool { return *o.sender == "-q" && o.mode == enqueue }},
	} {
		o, err := parse(strings.Fields(c.args))
		if err != nil || !c.check(o) {
			t.Errorf("%s: %+v %v", c.args, o, err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for args, want := range map[string]string{
		"sendmail -B9BIT":        "-B option needs 8BITMIME or 7BIT",
		"sendmail -n":            "-n option not supported",
		"sendmail -qX":           "-qX is not implemented",
		"sendmail -qR":           "specify: -qRsitename",
		"sendmail -qI":           "specify: -qIqueueid",
		"sendmail -bz":           "unsupported: -bz",
		"sendmail -Xq":           "unsupported: -Xq",
		"sendmail -oA":           "-oA requires pathname",
		"sendmail -t -bp":        "-t can be used only in delivery mode",
		"sendmail -t -bv":        "-t option cannot be used with -bv",
		"sendmail -N never -bv":  "-N option cannot be used with -bv",
		"sendmail -R full -bv":   "-R option cannot be used with -bv",
		"sendmail -v -bv":        "-v option cannot be used with -bv",
		"sendmail -bp a":         "display queue mode requires no recipient",
		"mailq a":                "display queue mode requires no recipient",
		"sendmail -q a":          "flush queue mode requires no recipient",
		"sendmail -bp -qRx.test": "-qR can be used only in delivery mode",
		"sendmail -z":            "invalid option -- 'z'",
	} {
		if _, err := parse(strings.Fields(args)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

// records runs a submission into a buffer and shows it as in the spec.
func records(t *testing.T, input string, args ...string) (string, error) {
	t.Helper()
	o, err := parse(append([]string{"sendmail"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	full := ""
	if o.fullName == nil {
		o.fullName = &full
	}
	c := &client{options: o, cfg: conf.FromMap(nil), uid: 1000, env: command.Env{Stdin: strings.NewReader(input)}}
	sender := "me"
	if o.sender != nil {
		sender = *o.sender
	}
	delimiters, err := c.verpDelimiters()
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	buf := bufio.NewWriter(&b)
	s := &submission{client: c, out: record.NewWriter(buf), sender: sender, verp: delimiters}
	err = s.send()
	buf.Flush()
	return b.String(), err
}

// The worked example of the spec, queue.md §8.2.
func TestGoldenRecords(t *testing.T) {
	got, err := records(t, ">From x\nSubject: x\n\n.\n", "-f", "me", "-F", "root", "-XV", "-i", "g@ok.test", "h i", "")
	if err != nil {
		t.Fatal(err)
	}
	want := "A\x15rewrite_context=localF\x04rootS\x02meV\x02+=R\tg@ok.testR\x01hR\x01iR\x00M\x00N\nSubject: xN\x00N\x01.X\x00E\x00"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestContent(t *testing.T) {
	for _, c := range []struct {
		input, args, want string
	}{
		{"a\r\nb\r\n.\r\nrest\n", "x", "N\x01aN\x01b"},         // a lone dot ends the input
		{"a\n.\nb", "-i x", "N\x01aN\x01.L\x01b"},              // unless -i; no newline at the end
		{"From x\nFrom y\n>>From z\nA: b\n", "x", "N\x04A: b"}, // mailbox lines
	} {
		got, err := records(t, c.input, strings.Fields(c.args)...)
		if err != nil || !strings.Contains(got, "M\x00"+c.want+"X\x00E\x00") {
			t.Errorf("%q: %q %v", c.input, got, err)
		}
	}
	long, err := records(t, strings.Repeat("y", 3000)+"\n", "x")
	if err != nil || !strings.Contains(long, "L\x80\x10y") || !strings.Contains(long, "N\xb8\x07y") {
		t.Errorf("long line: %v %.80q", err, long)
	}
}

func TestExtract(t *testing.T) {
	got, err := records(t, "To: a@x.test, \"B\" <b@x.test>\nCc: c@x.test\nBcc: d@x.test\nSubject: s\n\nTo: not@this.test\n", "-t", "z@x.test")
	if err != nil || !strings.Contains(got, "R\x08z@x.testM\x00") || !strings.HasSuffix(got, "X\x00R\x08a@x.testR\x08b@x.testR\x08c@x.testR\x08d@x.testE\x00") {
		t.Errorf("%q %v", got, err)
	}
	got, err = records(t, "To: a@x.test\nResent-To: r@x.test\nCc: c@x.test\n\n", "-t")
	if err != nil || !strings.HasSuffix(got, "X\x00R\x08r@x.testE\x00") {
		t.Errorf("Resent: %q %v", got, err)
	}
	if _, err := records(t, "Subject: x\n\n", "-t"); err == nil || err.Error() != "me(1000): No recipient addresses found in message header" {
		t.Error(err)
	}
	if _, err := records(t, "Subject: x\n\n"); err == nil || err.Error() != "me(1000): Recipient addresses must be specified on the command line or via the -t option" {
		t.Error(err)
	}
}

func TestProbe(t *testing.T) {
	got, err := records(t, "ignored", "-bv", "a@x.test", "b@x.test")
	if err != nil || !strings.Contains(got, "trace_flags=512") || !strings.Contains(got, "N\x08From: meN\x0eSubject: probeL\x03To:N\n\ta@x.test,N\t\tb@x.testX") {
		t.Errorf("%q %v", got, err)
	}
}

func TestAccountName(t *testing.T) {
	for in, want := range map[string]string{"Bob B,room 1": "Bob B", "& Smith;x": "Joe Smith", "": ""} {
		if got := accountName(in, "joe"); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func FuzzReadPiece(f *testing.F) {
	f.Add("a\nbc\n\nlast", 3)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 1 || limit > 4096 {
			return
		}
		in := bufio.NewReaderSize(strings.NewReader(text), max(16, limit+2))
		var b strings.Builder
		for {
			line, full, err := readPiece(in, limit)
			if len(line) > limit {
				t.Fatalf("%d bytes", len(line))
			}
			b.Write(line)
			if full {
				b.WriteByte('\n')
			}
			if err == io.EOF {
				break
			}
		}
		if b.String() != text {
			t.Fatalf("%q became %q", text, b.String())
		}
	})
}
