package postmulti

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/pkg/command"
)

func TestParseInstance(t *testing.T) {
	good := "queue_directory = /q\ndata_directory = /d\nmulti_instance_name =\nmulti_instance_group = g\nmulti_instance_enable = yes\n"
	i, err := parseInstance("/c", []byte(good))
	if err != nil || *i != (instance{config: "/c", queue: "/q", data: "/d", group: "g", enabled: true}) {
		t.Errorf("%+v %v", i, err)
	}
	for text, want := range map[string]string{
		"":                         "Failed to obtain all required /c/main.cf parameters",
		"nonsense\n":               "Invalid /c/main.cf parameter: nonsense",
		good + "x = y\n":           "Unexpected /c/main.cf entry: x = y",
		good[:len(good)-4] + "no!": "Unexpected /c/main.cf entry: multi_instance_enable = no!",
	} {
		if _, err := parseInstance("/c", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParseInstance(f *testing.F) {
	f.Add([]byte("queue_directory = /q\nmulti_instance_enable = maybe\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if i, err := parseInstance("/c", text); err == nil && i.config != "/c" {
			t.Errorf("%+v", i)
		}
	})
}

func three() *tool {
	return &tool{instances: []*instance{
		{config: "/etc/postfix", queue: "/q", data: "/d", primary: true, enabled: true},
		{config: "/etc/postfix-a", queue: "/q-a", data: "/d-a", name: "postfix-a", group: "g"},
		{config: "/etc/postfix-b", queue: "/q-b", data: "/d-b", name: "postfix-b", group: "g", enabled: true},
	}}
}

func TestConflict(t *testing.T) {
	for _, x := range []struct {
		i    instance
		want string
	}{
		{instance{config: "/c", queue: "/x", data: "/y"}, ""},
		{instance{config: "/c", queue: "/x", data: "/y", name: "postfix-a"}, "instance /c, multi_instance_name=postfix-a conflicts with instance /etc/postfix-a, multi_instance_name=postfix-a"},
		{instance{config: "/c", queue: "/d-b", data: "/y"}, "instance /c, queue_directory=/d-b conflicts with instance /etc/postfix-b, data_directory=/d-b"},
	} {
		err := three().conflict(&x.i)
		if got := ""; err != nil {
			got = err.Error()
			if got != x.want {
				t.Errorf("%s, want %s", got, x.want)
			}
		} else if x.want != "" {
			t.Errorf("no conflict, want %s", x.want)
		}
	}
}

func TestList(t *testing.T) {
	for _, x := range []struct {
		r    request
		want string
	}{
		{request{name: "-"}, "-               -               y         /etc/postfix\n"},
		{request{name: "b"}, "postfix-b       g               y         /etc/postfix-b\n"},
		{request{name: "/etc/postfix-a"}, "postfix-a       g               n         /etc/postfix-a\n"},
		{request{group: "g", reverse: true}, "postfix-b       g               y         /etc/postfix-b\npostfix-a       g               n         /etc/postfix-a\n"},
		{request{name: "nosuch"}, ""},
	} {
		tool := three()
		var out bytes.Buffer
		tool.request, tool.env = x.r, command.Env{Stdout: &out}
		if tool.list(); out.String() != x.want {
			t.Errorf("%+v:\n%s", x.r, out.String())
		}
	}
}

func TestPlace(t *testing.T) {
	for _, x := range []struct {
		r    request
		want string
	}{
		{request{}, "/etc/postfix-a /etc/postfix-b /new"},
		{request{all: true, selectors: 1}, "/new /etc/postfix-a /etc/postfix-b"},
		{request{name: "b", selectors: 1}, "/etc/postfix-a /new /etc/postfix-b"},
		{request{group: "g", selectors: 1}, "/new /etc/postfix-a /etc/postfix-b"},
		{request{group: "no", selectors: 1}, "No matching secondary instances"},
		{request{name: "-", selectors: 1}, "No matching secondary instances"},
	} {
		tool := three()
		tool.request = x.r
		got := ""
		if err := tool.place(&instance{config: "/new"}); err != nil {
			got = err.Error()
		} else {
			got = strings.Join(tool.secondaries(""), " ")
		}
		if got != x.want {
			t.Errorf("%+v: %s, want %s", x.r, got, x.want)
		}
	}
}

func TestMainCF(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("main.cf", "mail_owner = fred\nsetgid_group = $mail_owner,\n  x\nmyhostname = here\n")
	write("main.cf.proto", "# text\nmail_owner = postfix\nhtml_directory = /h\n  more\ninet_protocols = all\n")
	tool := three()
	tool.metaDir, tool.instances[0].config = dir, dir
	got, err := tool.mainCF(&instance{config: "/c", queue: "/q", data: "/d"})
	if err != nil {
		t.Fatal(err)
	}
	want := "# text\nmail_owner = fred\n#html_directory = /h\n#  more\ninet_protocols = all\nsetgid_group = $mail_owner, x\n" +
		"queue_directory = /q\ndata_directory = /d\nauthorized_submit_users = \nmaster_service_disable = inet\n"
	if flat := strings.Join(strings.Fields(string(got)), " "); flat != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	tool.metaDir = "/nonexistent"
	if _, err := tool.mainCF(&instance{}); err == nil || err.Error() != "open /nonexistent/main.cf.proto: No such file or directory" {
		t.Errorf("no template: %v", err)
	}
}
