package bounce

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/sys/maillog"
)

type fakeVars map[string]string

func (v fakeVars) Lookup(name string) (string, bool) { s, ok := v[name]; return s, ok }

func (v fakeVars) Duration(name string) time.Duration {
	d, _ := time.ParseDuration(v[name])
	return d
}

var testVars = fakeVars{"myhostname": "mail.example.com", "delay_warning_time": "4h", "maximal_queue_lifetime": "120h", "ctl": "a\x01b\u00e9"}

func loadText(t *testing.T, text string) (*templateSet, []string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.cf")
	os.WriteFile(path, []byte(text), 0o600)
	log, lines := maillog.Capture()
	s := newTemplates(testVars, true, log)
	err := s.load(path)
	got := lines.Lines()
	for i := range got {
		got[i] = strings.ReplaceAll(got[i], path, "FILE")
	}
	return s, got, err
}

// What Debian's bounce does with these was looked at (routing.md §5.5).
func TestTemplateFile(t *testing.T) {
	for _, c := range []struct {
		text    string
		want    string // text of the failure template; "" is the built-in one
		subject string // of it, if not the built-in one
		warn    string
	}{
		{"failure_template = <<EOF\nSubject: hi\n\n\n\nhello\n\ntail\n\nEOF\n", "hello\n\ntail\n", "hi", ""},
		{"failure_template = <<EOF\nSubject: hi\nNo header here\n\nhello\nEOF\n", "No header here\n\nhello", "hi", ""},
		{"failure_template = <<EOF\nSubject: hi\n there\n\nhello\nEOF\n", " there\n\nhello", "hi", ""},
		{"failure_template = <<EOF\nhello\nEOF\n", "hello", "", ""},
		{"failure_template = x\n", "x", "", ""},
		{"# comment\n\n  failure_template =<<  EOF\nSubject: x\nSUBJECT:   q  \n   \n a\nEOF\n", " a", "q", ""},
		{"failure_template = <<EOF\n\none\nEOF\nfailure_template = <<EOF\n\ntwo\nEOF\n", "two", "", ""},
		{"failure_template = <<EOF\nSubject: x\n\nhello\n", "hello", "x", `warning: FILE, line 5: missing "EOF" end marker`},
		{"failure_template = <<EOF\nSubject:\n\nx\nEOF\n", "", "", `warning: FILE: empty "Subject" header value in failure template -- ignoring this template`},
		{"failure_template = <<EOF\nSubject: \u00e9\n\nx\nEOF\n", "", "", `warning: FILE: non-ASCII "Subject" header value in failure template -- ignoring this template`},
		{"failure_template = <<EOF\nFoo: x\n\nx\nEOF\n", "", "", `warning: FILE: unknown "Foo" header label in failure template -- ignoring this template`},
		{"failure_template = <<EOF\nSubject: x\n\nEOF\n", "", "", `warning: FILE: missing message text in failure template -- ignoring this template`},
		{"success_template = <<EOF\nPostmaster-Subject: x\n\nx\nEOF\n", "", "", `warning: FILE: inapplicable "Postmaster-Subject" header label in success template -- ignoring this template`},
		{"foo_template = x\n", "", "", `warning: FILE, line 2: unknown template name: foo_template -- ignoring this template`},
		{"failure_template = <<EOF\n\n\u00e9\nEOF\n", "", "", "warning: FILE: 8-bit message text in failure template\nwarning: please specify a charset value other than us-ascii\nwarning: -- ignoring this template for now"},
	} {
		s, lines, err := loadText(t, c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		got := s.byClass["failure"]
		want, subject := c.want, c.subject
		if want == "" {
			want = strings.Join(builtins[0].text, "\n")
		}
		if subject == "" {
			subject = builtins[0].subject
		}
		if text := strings.Join(got.text, "\n"); text != want || got.subject != subject {
			t.Errorf("%q: %q, subject %q", c.text, text, got.subject)
		}
		if log := strings.Join(lines, "\n"); log != c.warn {
			t.Errorf("%q: log %q", c.text, log)
		}
	}
}

func TestTemplateFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"failure_template\n":           `line 2: missing '=' after attribute name: "failure_template"`,
		"# c\n\n = x\n":                `line 4: missing attribute name: "= x"`,
		"failure_template = <<\nfoo\n": `line 2: missing end marker after <<: "failure_template = <<"`,
		"failure_template = << -x\n":   `line 2: malformed end marker after <<: "failure_template = << -x"`,
	} {
		if _, _, err := loadText(t, text); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestExpand(t *testing.T) {
	for _, c := range []struct{ text, want, err string }{
		{"$myhostname ${delay_warning_time_hours} $(maximal_queue_lifetime_days) $$x", "mail.example.com 4 5 $x", ""},
		{"${myhostname?yes}${nosuch:no}", "", "[built-in]: undefined $name in failure template: ${myhostname?yes}${nosuch:no}"},
		{"$nosuch", "", "[built-in]: undefined $name in failure template: $nosuch"},
		{"$delay_warning_timeweeks", "", "[built-in]: undefined $name in failure template: $delay_warning_timeweeks"},
		{"$delay_warning_time_foo", "", `unrecognized suffix "foo" in parameter "delay_warning_time_foo"`},
		{"${foo", "", "[built-in]: bad $name syntax in failure template: ${foo"},
		{"$ctl", "a_b\u00e9", ""},
	} {
		s := newTemplates(testVars, true, maillog.Discard())
		got, err := s.expand(&template{class: "failure", origin: builtIn, text: []string{c.text}})
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: %v", c.text, err)
			}
		} else if err != nil || len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: %q, %v", c.text, got, err)
		}
	}
}

// The dump is what the file could say: reading it back changes nothing.
func TestDumpRoundTrip(t *testing.T) {
	var b strings.Builder
	if err := newTemplates(testVars, true, maillog.Discard()).dump(&b); err != nil {
		t.Fatal(err)
	}
	s, lines, err := loadText(t, b.String())
	if err != nil || len(lines) != 0 {
		t.Fatal(err, lines)
	}
	var again strings.Builder
	s.dump(&again)
	if again.String() != b.String() {
		t.Errorf("got\n%s\nwant\n%s", again.String(), b.String())
	}
}

func TestWrap(t *testing.T) {
	word := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"short", []string{"short"}},
		{word(79), []string{word(79)}},
		{word(100), []string{word(100)}},
		{word(78) + " y", []string{word(78), "    y"}},
		{word(77) + " y", []string{word(77) + " y"}},
		{word(79) + " y", []string{word(79), "    y"}},
		{"a " + word(100) + " b", []string{"a", "    " + word(100), "    b"}},
		{word(70) + "  \t " + word(74) + " " + word(3), []string{word(70), "    " + word(74), "    " + word(3)}},
		{word(70) + " " + word(71) + " " + word(3), []string{word(70), "    " + word(71) + " " + word(3)}},
		{strings.Repeat(" ", 100), []string{""}},
	} {
		var got []string
		wrap(c.text, func(line string) { got = append(got, line) })
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

func FuzzWrap(f *testing.F) {
	f.Add("a b c " + strings.Repeat("word ", 40))
	f.Add(strings.Repeat(" ", 200) + "x")
	f.Fuzz(func(t *testing.T, text string) {
		var b strings.Builder
		wrap(text, func(line string) { b.WriteString(line) })
		drop := func(s string) string { return strings.NewReplacer(" ", "", "\t", "").Replace(s) }
		if drop(b.String()) != drop(text) {
			t.Errorf("%q became %q", text, b.String())
		}
	})
}

func FuzzTemplates(f *testing.F) {
	f.Add("failure_template = <<EOF\nSubject: hi\n\nhello $myhostname ${delay_warning_time_hours}\nEOF\n")
	f.Add("# c\n\nverify_template = x\n")
	f.Add("delay_template = <<\n")
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := readTemplates(strings.NewReader(text), "f", func(string, ...any) {})
		if err != nil {
			return
		}
		s := newTemplates(testVars, true, maillog.Discard())
		for class, body := range raw {
			tmpl, err := parseTemplate(builtinFor(class), "f", body)
			if err != nil {
				continue
			}
			if len(tmpl.text) == 0 || tmpl.subject == "" {
				t.Errorf("%q: an empty template was taken", text)
			}
			s.expand(tmpl)
		}
	})
}
