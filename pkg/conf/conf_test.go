package conf

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// writeMain makes a configuration directory whose main.cf is not a hot file.
func writeMain(t testing.TB, text string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "main.cf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestChecks replays what Debian's postmap said about bad main.cf files.
func TestChecks(t *testing.T) {
	data, err := os.ReadFile("testdata/postmap-checks.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Main string
		Out  []string
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	userChecks := []string{"default_privs", "mail_owner", "setgid_group"}
	host, _ := os.Hostname()
	ran := 0
	for _, c := range cases {
		name, _, _ := strings.Cut(c.Main, " ")
		if slices.Contains(userChecks, name) {
			continue // see TestIdentities
		}
		ran++
		dir := writeMain(t, c.Main)
		var got []string
		say := func(format string, a ...any) { got = append(got, "warning: "+fmt.Sprintf(format, a...)) }
		config, err := Load(Options{Dir: dir, Warn: say, noUsers: true})
		switch {
		case err != nil:
			got = append(got, "fatal: "+err.Error())
		case config == nil:
			t.Errorf("%q: no config", c.Main)
		default:
			got = append(got, "ok")
		}
		want := slices.Clone(c.Out)
		if strings.Contains(c.Main, "port") { // the program stops printing after five lines
			got = got[:5]
		} else {
			want = onePass(want)
			if !strings.HasPrefix(want[len(want)-1], "fatal: ") && want[len(want)-1] != "ok" {
				want = append(want, "ok")
			}
		}
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "DIR", dir)
			if strings.Contains(want[i], "vm.localdomain") {
				if strings.Contains(host, ".") {
					got, want = nil, nil
					break
				}
				want[i] = strings.ReplaceAll(want[i], "vm.localdomain", host+".localdomain")
			}
		}
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			t.Errorf("%q:\n got %s\nwant %s", c.Main, g, w)
		}
	}
	if ran < 45 {
		t.Errorf("only %d cases", ran)
	}
}

// onePass drops the warnings of the second and later readings of a hot file.
func onePass(lines []string) []string {
	var out []string
	for _, l := range lines {
		if slices.Contains(out, l) || strings.Contains(l, "line 1: overriding") {
			continue
		}
		out = append(out, l)
	}
	return out
}

func TestIdentities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: mail_owner may be the user of this test")
	}
	for _, name := range []string{"nobody", "daemon", "bin"} {
		if _, err := user.Lookup(name); err != nil {
			t.Skip("no user ", name)
		}
	}
	nobody, _ := user.Lookup("nobody")
	base := "mail_owner = daemon\nsetgid_group = mail\n"
	const file = "file DIR/main.cf: "
	for text, want := range map[string]string{
		"":                         "",
		"default_privs = nosuch":   file + "parameter default_privs: unknown user name value: nosuch",
		"default_privs = root":     file + "parameter default_privs: user root has privileged user ID",
		"default_privs = daemon":   file + "parameters default_privs and mail_owner specify the same user daemon",
		"mail_owner = root":        file + "parameter mail_owner: user root has privileged user ID",
		"mail_owner = nosuch":      file + "parameter mail_owner: unknown user name value: nosuch",
		"setgid_group = nosuch":    file + "parameter setgid_group: unknown group name: nosuch",
		"setgid_group = root":      file + "parameter setgid_group: group root has privileged group ID",
		"setgid_group = daemon":    file + "parameters mail_owner and setgid_group: user daemon and group daemon have the same group ID: 1",
		"setgid_group = nogroup":   file + "parameters default_privs and setgid_group: user nobody and group nogroup have the same group ID: " + nobody.Gid,
		"default_privs = $x_\nx_=": file + "parameter default_privs: unknown user name value: ",
	} {
		dir := writeMain(t, base+text+"\n")
		_, err := Load(Options{Dir: dir})
		got := ""
		if err != nil {
			got = strings.ReplaceAll(err.Error(), dir, "DIR")
		}
		if strings.HasPrefix(got, "bad string length 0") && strings.HasSuffix(want, ": ") {
			continue
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestRootless(t *testing.T) {
	me, err := user.Current()
	if err != nil || me.Uid == "0" {
		t.Skip("needs an ordinary user")
	}
	if _, err := Load(Options{Dir: writeMain(t, "mail_owner = "+me.Username+"\nsetgid_group = nosuch\n")}); err != nil {
		t.Error(err)
	}
}

func TestOverridesAndGetters(t *testing.T) {
	dir := writeMain(t, "compatibility_level = 3.6\nmyhostname = mx.example.com\n"+
		"relay_transport = a\nmysize = 7\nmessage_size_limit = ${mysize}000\n"+
		"smtp_destination_rate_delay = 2m\nmaildrop_time_limit = 1h\nlocal_list = {a, b} c,d\n"+
		"relay_destination_concurrency_limit = 5\nmynetworks = 127.0.0.0/8\n")
	c, err := Load(Options{Dir: dir, Overrides: []string{"soft_bounce=yes", "x = $service_name y ", "relay_transport=b"},
		ServiceName: "sub", ProcessName: "smtpd", noUsers: true})
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("dir", c.Dir(), dir)
	check("config_directory", c.String("config_directory"), dir)
	check("mydomain", c.String("mydomain"), "example.com")
	check("bool", c.Bool("soft_bounce"), true)
	check("nbool by level", c.Bool("append_dot_mydomain"), false)
	check("long", c.Int64("message_size_limit"), 7000)
	check("override", c.String("relay_transport"), "b")
	check("time", c.Duration("delay_warning_time"), time.Duration(0))
	check("time unit", c.Duration("maximal_queue_lifetime"), 120*time.Hour)
	check("stress default", c.Duration("smtpd_timeout"), 300*time.Second)
	check("raw", c.String("forward_path"), "$home/.forward${recipient_delimiter}${extension}, $home/.forward")
	check("Raw", c.Raw("message_size_limit"), "${mysize}000")
	check("list", c.List("local_list"), "[{a, b} c d]")
	x, ok := c.Explicit("x")
	check("explicit", x, "sub y")
	check("explicit ok", ok, true)
	_, ok = c.Explicit("mail_name")
	check("not explicit", ok, false)
	check("transport", c.TransportInt("relay", "destination_concurrency_limit"), 5)
	check("transport default", c.TransportInt("smtp", "destination_concurrency_limit"), 20)
	check("transport odd default", c.TransportInt("smtp", "initial_destination_concurrency"), 5)
	check("transport built in", c.TransportInt("local", "destination_concurrency_limit"), 2)
	check("transport time", c.TransportDuration("smtp", "destination_rate_delay"), 2*time.Minute)
	check("transport text", c.TransportString("smtp", "destination_concurrency_positive_feedback"), "1")
	check("service time", c.ServiceDuration("maildrop", "_time_limit", "command_time_limit"), time.Hour)
	check("service default", c.ServiceDuration("uucp", "_time_limit", "command_time_limit"), 1000*time.Second)
	check("version", c.MailVersion(), Version)
	check("safer defaults", c.String("smtpd_forbid_bare_newline")+c.String("smtpd_forbid_unauth_pipelining"), "normalizeyes")
	check("level", c.Level(), "3.6")
	check("legacy", c.LegacyDefault("smtputf8_enable", 1, 0), false)
	text, err := c.Expand("$myhostname $$ $smtpd_banner")
	check("expand", text, "mx.example.com $ mx.example.com ESMTP Postfix")
	check("expand error", err, nil)
}

func TestGetterErrors(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"smtpd_hard_error_limit", "x", "bad numerical configuration: smtpd_hard_error_limit = x"},
		{"smtpd_hard_error_limit", "0", "invalid smtpd_hard_error_limit parameter value 0 < 1"},
		{"smtpd_client_port_logging", "1", "bad boolean configuration: smtpd_client_port_logging = 1"},
		{"smtpd_timeout", "-1", "parameter smtpd_timeout: bad time value or unit: -1"},
		{"default_rbl_reply", "", "bad string length (0 < 1): default_rbl_reply = "},
		{"smtpd_banner", "${", "dictionary mail_dict: macro processing error"},
	} {
		dir := writeMain(t, c.name+" = "+c.value+"\n")
		var got string
		func() {
			defer func() { _ = recover() }()
			config, err := Load(Options{Dir: dir, noUsers: true, Fatal: func(format string, a ...any) { got = fmt.Sprintf(format, a...); panic(1) }})
			if err != nil {
				t.Fatal(err)
			}
			p, _ := LookupParameter(c.name)
			switch p.Kind {
			case KindInt:
				config.Int(c.name)
			case KindBool:
				config.Bool(c.name)
			case KindTime:
				config.Duration(c.name)
			default:
				config.String(c.name)
			}
		}()
		if got != c.want {
			t.Errorf("%s=%s: got %q, want %q", c.name, c.value, got, c.want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("unknown name did not panic")
		}
	}()
	FromMap(nil).String("nosuch")
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(Options{Dir: dir}); err == nil || err.Error() != "open "+dir+"/main.cf: No such file or directory" {
		t.Errorf("got %v", err)
	}
	dir = writeMain(t, "")
	if _, err := Load(Options{Dir: dir, Overrides: []string{"x"}}); err == nil ||
		err.Error() != `invalid "-o x" option value: missing '=' after attribute name: "x"` {
		t.Errorf("got %v", err)
	}
}

func TestOriginFile(t *testing.T) {
	dir := writeMain(t, "myorigin = $config_directory/name\nsmtp_helo_name = $myorigin\n")
	if err := os.WriteFile(dir+"/name", []byte("  mail.example.org \nmore\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Options{Dir: dir, noUsers: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.String("myorigin"); got != "mail.example.org" {
		t.Errorf("got %q", got)
	}
	if got := c.String("smtp_helo_name"); got != dir+"/name" {
		t.Errorf("got %q", got)
	}
	os.Link(dir+"/name", dir+"/other")
	if _, err := Load(Options{Dir: dir, noUsers: true}); err == nil || !strings.HasSuffix(err.Error(), "file has 2 hard links") {
		t.Errorf("got %v", err)
	}
}

func TestAuthorized(t *testing.T) {
	dir := writeMain(t, "alternate_config_directories = /a, /b\nx\nmulti_instance_directories = /c\n")
	for p, want := range map[string]bool{"/a": true, "/b": true, "/c": true, "/d": false, "/a,": false, "": false} {
		if got, err := authorized(p, dir, nil); got != want || err != nil {
			t.Errorf("%q: got %v, %v", p, got, err)
		}
	}
}

func TestNetworkList(t *testing.T) {
	var list []netip.Prefix
	for _, s := range []string{"127.0.0.1/8", "192.0.2.7/28", "192.0.2.8/28", "10.1.2.3/24", "172.20.1.1/12", "::1/128", "fd00::5/64", "fe80::1/64"} {
		list = append(list, netip.MustParsePrefix(s))
	}
	for style, want := range map[string]string{
		"subnet": "127.0.0.0/8 192.0.2.0/28 10.1.2.0/24 172.16.0.0/12 [::1]/128 [fd00::]/64 [fe80::]/64 ",
		"class":  "127.0.0.0/8 192.0.2.0/24 10.0.0.0/8 172.20.0.0/16 [::1]/128 [fd00::]/64 [fe80::]/64 ",
		"host":   "127.0.0.1/32 192.0.2.7/32 192.0.2.8/32 10.1.2.3/32 172.20.1.1/32 [::1]/128 [fd00::5]/128 [fe80::1]/128 ",
	} {
		if got := networkList(list, style); got != want {
			t.Errorf("%s: got %q, want %q", style, got, want)
		}
	}
}

func TestKnownPorts(t *testing.T) {
	c := FromMap(map[string]string{"known_tcp_ports": "lmtp=24, smtp = 25, smtps=submissions=465"})
	if got := fmt.Sprint(c.KnownPorts()); got != "map[lmtp:24 smtp:25 smtps:465 submissions:465]" {
		t.Error(got)
	}
	// what Debian's postmap warns of
	for list, want := range map[string]string{
		"a=99999": "", "a=1,,b=2": "", "a = b = 3": "", " , ": "", "a=01": "",
		"z=smtp": `in "z=smtp": non-numerical service port`, "q=1=2": `in "q=1=2": numerical service name`,
		"a=-1": `in "a=-1": non-numerical service port`, "a=1,a=2": `in "a=2": duplicate service name`,
		"a==3": `in "a==3": missing service name before "="`, "a b=c=3": `in "a b=c=3": whitespace in service name`,
		"a=1,b": `in "b" is not in "name = value" form`,
	} {
		if want != "" {
			want = "known_tcp_ports: " + want
		}
		if _, got := parsePorts(list); strings.Join(got, ";") != want {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
}

func TestParameterTable(t *testing.T) {
	list := Parameters()
	if len(list) != 831+43 {
		t.Errorf("%d parameters", len(list))
	}
	if !slices.IsSortedFunc(list, func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted")
	}
	if p, _ := LookupParameter("mail_version"); p.Default != Version {
		t.Errorf("mail_version = %s", p.Default)
	}
	c := FromMap(map[string]string{"compatibility_level": "3.6"})
	for _, p := range list {
		switch p.Name {
		case "debugger_command", "virtual_mailbox_base": // no default: needed when it is used
			continue
		}
		if err := c.valid(p); err != nil {
			t.Errorf("default of %s: %v", p.Name, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"1": time.Hour, "2m x": 2 * time.Minute, "3W": 3 * 168 * time.Hour, "24855d": 24855 * 24 * time.Hour, "0": 0} {
		if got, err := ParseDuration(text, 'h'); got != want || err != nil {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "x", "1x", "1 s", "24856d", "99999999999", "1\x13"} {
		if got, err := ParseDuration(text, 's'); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestLines(t *testing.T) {
	const text = " early\n\n# c\na = 1\n  b\n\n# c\n\t c #d\n\nx\n   \ny"
	var warnings []string
	r := NewLineReader(strings.NewReader(text), "F", func(format string, a ...any) { warnings = append(warnings, fmt.Sprintf(format, a...)) })
	var got []string
	for {
		line, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d-%d %q", line.First, line.Last, line.Text))
	}
	if s := strings.Join(got, "; "); s != `4-8 "a = 1  b\t c #d"; 10-10 "x"; 12-12 "y"` {
		t.Error(s)
	}
	if s := strings.Join(warnings, ";"); s != `F: logical line must not start with whitespace: " early"` {
		t.Error(s)
	}
}

func TestWords(t *testing.T) {
	if got := fmt.Sprintf("%q", FieldsBraced("a foo{ a b }c, {x {y z}} ,, } d{ e")); got != `["a" "foo{ a b }c" "{x {y z}}" "}" "d{ e"]` {
		t.Error(got)
	}
	for in, want := range map[string]string{"{ a b }": "a b", "{}": "", "{{a}b}": "{a}b", "{a": `missing '}' in "{a"`,
		"{a}b": `syntax error after '}' in "{a}b"`, "a": `no '{' at start of text in "a"`} {
		got, err := Unbrace(in)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzMainCF(f *testing.F) {
	for _, s := range []string{"a = b\n  c\n", " x\na=1\n", "=x", "a\n", "a = ${b?{c}:d}\nb=$a\n", "mydomain = $myhostname\nmyhostname = a.b\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := ParseSettings(strings.NewReader(text), "main.cf", nil)
		if err != nil {
			return
		}
		c := newConfig("/etc/postfix", settings, Options{ProcessName: "x", Warn: func(string, ...any) {}, Fatal: func(string, ...any) { panic("fatal") }})
		for name, value := range settings {
			if strings.ContainsAny(name, " \t=") || Trim(value) != value {
				t.Errorf("%q = %q", name, value)
			}
			c.Expand("$" + name)
		}
		_ = c.hostname()
	})
}

func BenchmarkLoad(b *testing.B) {
	dir := writeMain(b, "compatibility_level = 3.6\nmyhostname = a.example\n")
	for b.Loop() {
		if _, err := Load(Options{Dir: dir, noUsers: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestHotFile reads a file while it is being written.
func TestHotFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "main.cf")
	if err := os.WriteFile(path, []byte("a = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		time.Sleep(30 * time.Millisecond)
		done <- os.WriteFile(path, []byte("a = 1\nb = 2\n"), 0o644)
	}()
	settings, err := ReadSettings(path, nil)
	if err != nil || settings["b"] != "2" {
		t.Errorf("%v, %v", settings, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	future := time.Now().Add(time.Hour)
	os.Chtimes(path, future, future)
	start := time.Now()
	if _, err := ReadSettings(path, nil); err != nil || time.Since(start) > settle {
		t.Errorf("a time stamp in the future: %v, %v", time.Since(start), err)
	}
}
