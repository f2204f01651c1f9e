package postconf

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestJSON(t *testing.T) {
	main := "compatibility_level = 3.6\nmyhostname = m.example.com\nsmtpd_banner = a \"b\"\n  <c> \\\nuser1 = x\nrelayhost = ${user1}y\nbad\xff = $bad\n"
	master := "smtp inet n - y - - smtpd -o {biff = a b} -o relayhost=$user1\nx unix - - - - - pipe user=a argv={b c}\n"
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-j", "smtpd_banner", "relayhost"}, `{"smtpd_banner": "a \"b\" <c> \\"}` + "\n" + `{"relayhost": "${user1}y"}` + "\n"},
		{[]string{"-jx", "relayhost", "alias_maps"}, `{"relayhost": "xy"}` + "\n" + `{"alias_maps": "hash:/etc/aliases, nis:mail.aliases"}` + "\n"},
		{[]string{"-jM", "smtp"}, `{"smtp/inet": "smtp       inet  n       -       y       -       -       smtpd -o {biff=a b} -o relayhost=$user1"}` + "\n"},
		{[]string{"-Mjx", "x"}, `{"x/unix": "x          unix  -       -       -       -       -       pipe user=a {argv={b c}}"}` + "\n"},
		{[]string{"-jF", "smtp/inet/command", "x/unix/type"}, `{"smtp/inet/command": "smtpd -o {biff=a b} -o relayhost=$user1"}` + "\n" + `{"x/unix/type": "unix"}` + "\n"},
		{[]string{"-jP"}, `{"smtp/inet/biff": "a b"}` + "\n" + `{"smtp/inet/relayhost": "$user1"}` + "\n"},
		{[]string{"-jPx", "smtp/inet/relayhost"}, `{"smtp/inet/relayhost": "x"}` + "\n"},
		{[]string{"-jPPx", "*/*/relayhost"}, `{"smtp/inet/relayhost": "x"}` + "\n" + `{"x/unix/relayhost": "xy"}` + "\n"},
		{[]string{"-P", "-P", "x/unix/smtpd_banner"}, "x/unix/smtpd_banner = a \"b\" <c> \\\n"},
	} {
		dir := t.TempDir()
		put(t, dir, "main.cf", &main)
		put(t, dir, "master.cf", &master)
		out, stderr, exit := run(t, dir, c.args...)
		if exit != 0 || out != c.want {
			t.Errorf("%q: exit %d, %s\ngot:\n%swant:\n%s", c.args, exit, stderr, out, c.want)
		}
	}
	for args, want := range map[string]string{
		"-j -h": "with option -j, do not specify -h", "-j -e a=b": "with option -j, do not specify -e", "-j -X a": "with option -j, do not specify -X",
		"-M -j -f": "with option -j, do not specify -f", "-m -j": "with option -m, do not specify -j",
	} {
		if _, stderr, exit := run(t, t.TempDir(), strings.Fields(args)...); exit != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, %s", args, exit, stderr)
		}
	}
}

// TestJSONLines checks that every line of the whole configuration is an object.
func TestJSONLines(t *testing.T) {
	dir, main, master := t.TempDir(), "smtpd_banner = \x01 \xff é\n", smallMaster
	put(t, dir, "main.cf", &main)
	put(t, dir, "master.cf", &master)
	for _, args := range [][]string{{"-j"}, {"-jd"}, {"-jn"}, {"-jF"}, {"-jPP"}} {
		out, stderr, exit := run(t, dir, args...)
		if exit != 0 || out == "" {
			t.Fatalf("%q: exit %d, %s", args, exit, stderr)
		}
		for line := range strings.Lines(out) {
			var object map[string]string
			if err := json.Unmarshal([]byte(line), &object); err != nil || len(object) != 1 {
				t.Fatalf("%q: %s: %v", args, line, err)
			}
		}
	}
}
