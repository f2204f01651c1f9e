package mastercf

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/pkg/conf"
)

func write(t testing.TB, text string) string {
	path := filepath.Join(t.TempDir(), "master.cf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAgainstMaster replays what Debian's master logged first.
func TestAgainstMaster(t *testing.T) {
	data, err := os.ReadFile("testdata/master.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Text, Out string }
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	c := conf.FromMap(map[string]string{"compatibility_level": "3.6"})
	for _, k := range cases {
		if strings.Contains(k.Out, "bad hostname or network address") {
			continue // found by looking the host up, which is master's part
		}
		path := write(t, k.Text+"\n")
		_, err := Parse(path, c)
		want, bad := strings.CutPrefix(k.Out, "fatal: DIR/master.cf")
		switch {
		case bad && (err == nil || err.Error() != path+want):
			t.Errorf("%q: got %v, want %q", k.Text, err, k.Out)
		case !bad && err != nil:
			t.Errorf("%q: got %v", k.Text, err)
		}
	}
}

func TestParse(t *testing.T) {
	const text = `# comment
smtp      inet  n       -       y       -       -       smtpd
  -o { syslog_name = postfix/$service_name }
# inside

  -v { x y }
qmgr unix n - n 300? 1 qmgr
local unix - n - 5 0 local a{b c}d
x.y fifo n - n - - x
`
	path := write(t, text)
	show := func(m map[string]string) string {
		entries, err := Parse(path, conf.FromMap(m))
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, e := range entries {
			s = append(s, fmt.Sprintf("%d %s/%s %v %v %v %v %d %v %d %s %q", e.Line, e.Name, e.Type, e.Private, e.Unpriv, e.Chroot,
				e.ChrootByLevel, e.Wakeup, e.WakeupOnUse, e.MaxProc, e.Command, e.Args))
		}
		return strings.Join(s, "\n")
	}
	smtp := `2 smtp/inet false true true false 0 false 7 smtpd ["-o" "syslog_name = postfix/$service_name" "-v" "x y"]` + "\n"
	rest := `7 qmgr/unix false true false false 300 true 1 qmgr []
8 local/unix true false false false 5 false 0 local ["a{b c}d"]`
	fifo := "\n" + `9 x.y/fifo false true false false 0 false 7 x []`
	base := map[string]string{"default_process_limit": "7", "compatibility_level": "3.6"}
	for disable, want := range map[string]string{
		"":                          smtp + rest + fifo,
		"INET":                      rest + fifo,
		"!smtp/inet inet fifo":      smtp + rest,
		"x.y/fifo, x.unix":          smtp + rest,
		"x.y.fifo":                  smtp + rest,
		"other/inet !!smtp/INET":    rest + fifo,
		"inet, fifo, unix, !x/unix": "",
	} {
		base["master_service_disable"] = disable
		if got := show(base); got != want {
			t.Errorf("disable %q: got\n%s\nwant\n%s", disable, got, want)
		}
	}
	base["master_service_disable"] = ""
	base["inet_protocols"] = ""
	if got := show(base); got != rest+fifo {
		t.Errorf("no protocols: got\n%s", got)
	}
	base["inet_protocols"] = "all"
	base["compatibility_level"] = "0"
	if got := show(base); !strings.Contains(got, "local/unix true false true true") {
		t.Errorf("level 0: got\n%s", got)
	}
}

func TestSplitEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"smtp": "|smtp", ":25": "|25", "a.example:smtp": "a.example|smtp", "[::1]:25": "::1|25",
		"[ipv6:fe80::1]:25": "fe80::1|25", "192.0.2.1:25": "192.0.2.1|25", "::1:25": "::1|25",
	} {
		host, port, err := SplitEndpoint(in)
		if got := host + "|" + port; err != nil || got != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
}

func FuzzMasterCF(f *testing.F) {
	f.Add("smtp inet n - y - - smtpd -o { a = b } {c}\n")
	f.Add("a unix - - - 1? 0 pipe\n  flags=R argv=x {\n")
	f.Add(" x\n[a]:b inet n - n - - x\n")
	c := conf.FromMap(nil)
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := read(strings.NewReader(text), "master.cf", c)
		if err != nil && !strings.HasPrefix(err.Error(), "master.cf: line ") && !strings.HasPrefix(err.Error(), "read ") {
			t.Errorf("error without place: %v", err)
		}
		for _, e := range entries {
			if e.Name == "" || e.Command == "" || e.Line < 1 || e.Wakeup < 0 || e.MaxProc < 0 || e.Fields[7] != e.Command {
				t.Errorf("%+v", e)
			}
		}
	})
}
