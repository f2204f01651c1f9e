package macro

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// known holds the parameters that the recorded cases refer to.
func known(banner string) func(string) (string, bool) {
	values := map[string]string{
		"smtpd_banner": banner, "mail_name": "Postfix", "config_directory": "/tmp/pc/c",
		"mynetworks_style":    "${{$compatibility_level} <level {2} ? {subnet} : {host}}",
		"compatibility_level": "3.6", "myhostname": "m.example.com", "smtpd_reject_footer": "",
		"default_rbl_reply": "$rbl_code Service unavailable; $rbl_class [$rbl_what] blocked using $rbl_domain${rbl_reason?; $rbl_reason}",
	}
	return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
}

// TestAgainstPostconf replays what Debian's postconf -xh smtpd_banner printed.
// Its warnings appear twice, once from the scan for names.
func TestAgainstPostconf(t *testing.T) {
	data, err := os.ReadFile("testdata/postconf-x.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Text, Out string
		Err       []string
		Exit      int
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 100 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		got, err := Expand(c.Text, known(c.Text), Options{Recurse: true})
		if c.Exit == 0 {
			want := strings.TrimSuffix(c.Out, "\n")
			if err != nil || strings.Join(strings.Fields(got), " ") != want {
				t.Errorf("%q: got %q, %v; want %q", c.Text, got, err, want)
			}
			continue
		}
		want := c.Err[len(c.Err)-1]
		if strings.HasSuffix(want, "macro processing error") {
			want = c.Err[len(c.Err)-2]
		}
		_, want, _ = strings.Cut(want, ": ")
		_, want, _ = strings.Cut(want, ": ")
		if err == nil || printable(err.Error()) != want {
			t.Errorf("%q: got %q, %v; want error %q", c.Text, got, err, want)
		}
	}
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x80 && r < 0x100 || r == 'é' {
			return '?'
		}
		return r
	}, strings.ReplaceAll(s, "é", "??"))
}

func TestFilterAndLookup(t *testing.T) {
	var asked []string
	got, err := Expand("/bin/x $a ${b?yes} $$", func(n string) (string, bool) {
		asked = append(asked, n)
		return "v;$c", n == "a"
	}, Options{Filter: "abcv"})
	if err != nil || got != "/bin/x v__c  $" || strings.Join(asked, ",") != "a,b" {
		t.Errorf("got %q, %v, asked %v", got, err, asked)
	}
}

func TestNames(t *testing.T) {
	var got []string
	err := Names("$a ${b?$c} ${d?{$e}:{$f}} ${{$g} == {$h} ? $i : $j} ${k:{l}} $", func(n string) { got = append(got, n) })
	if s := strings.Join(got, ""); s != "abcdefghijk" || err == nil {
		t.Errorf("got %q, %v", s, err)
	}
}

func TestExplosion(t *testing.T) {
	_, err := Expand("$a", func(string) (string, bool) { return "$a$a", true }, Options{Recurse: true})
	if err == nil {
		t.Error("no error")
	}
	_, err = Expand("$a", func(n string) (string, bool) {
		if len(n) > 40 {
			return "", true
		}
		return "$" + n + "a$" + n + "a", true
	}, Options{Recurse: true})
	if err == nil || !strings.Contains(err.Error(), "unreasonable number") {
		t.Errorf("got %v", err)
	}
}

func TestLevel(t *testing.T) {
	for in, want := range map[string]string{"0": "0", "2": "2", "3.6": "3.6", "3": "3.0", "3.6.1": "3.6.1", "3.10.0": "3.10", "+3. 6.-0": "3.6"} {
		l, err := ParseLevel(in)
		if err != nil || l.String() != want {
			t.Errorf("%q: got %v, %v; want %q", in, l, err, want)
		}
	}
	for _, in := range []string{"", "x", "3.", ".1", "1.2.3.4", "-1", "1.1024", "1 .2", "1.- 2", "99999999999999"} {
		if l, err := ParseLevel(in); err == nil {
			t.Errorf("%q: got %v", in, l)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"$a ${b?{$c}:d}", "${{$a} <level {3.6} ? {x} : {y}}", "$(a)$$$", "${a?${b", "${{", "$a$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, err := Expand(s, func(n string) (string, bool) { return "<" + n + ">", n != "b" }, Options{})
		if err == nil && !strings.Contains(s, "$") && out != s {
			t.Errorf("%q became %q", s, out)
		}
		_ = Names(s, func(n string) {
			if strings.ContainsAny(n, "${} ") {
				t.Errorf("%q: name %q", s, n)
			}
		})
		if _, err := Expand(s, func(string) (string, bool) { return s, true }, Options{Recurse: true}); err == nil && len(s) == 0 {
			return
		}
	})
}

func TestFunctions(t *testing.T) {
	values := map[string]string{"mydomain": "Bücher.Example", "plain": "example.com", "bad": "a..b", "empty": ""}
	lookup := func(n string) (string, bool) { v, ok := values[n]; return v, ok }
	for text, want := range map[string]string{
		"{${domain_to_ascii{$mydomain}}=x}":                             "{xn--bcher-kva.example=x}",
		".${domain_to_ascii{ $plain }}":                                 ".example.com",
		"$(domain_to_utf8{xn--bcher-kva.example})":                      "bücher.example",
		"${ domain_to_ascii {$plain}}":                                  "example.com",
		"${domain_to_ascii{$bad}}":                                      "a..b",
		"${domain_to_ascii{$empty}}":                                    "",
		"${domain_to_ascii{${empty?{no}:{yes.${domain_to_ascii{X}}}}}}": "yes.x",
		"${domain_to_ascii?{set}:{unset}}":                              "unset",
		"$domain_to_ascii{x}":                                           "{x}",
		"${domain_to_ascii{$plain}?x}":                                  `error: unexpected input at: "...}>>>?x"`,
		"${domain_to_latin{$plain}}":                                    `error: attribute name syntax error at: "...domain_to_latin>>>{$plain}"`,
	} {
		got, err := Expand(text, lookup, Options{Recurse: true})
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	var names []string
	if err := Names("${domain_to_ascii{$a${b?$c}}}", func(n string) { names = append(names, n) }); err != nil || strings.Join(names, " ") != "a b c" {
		t.Errorf("%q %v", names, err)
	}
}
