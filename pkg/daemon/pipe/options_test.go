package pipe

import (
	"reflect"
	"strings"
	"testing"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/service/agent"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

func TestParseOptions(t *testing.T) {
	got, err := parseOptions([]string{"FLAGS=DR", "flags=u", "User=joe:staff", "directory=/d", "chroot=/c", `eol=\r\n\101\q\\\0x`,
		"null_sender=a=b", "size=123", "argv=/bin/x", "user=root", "size=y"}, fakes)
	want := &options{user: cred.Identity{UID: 2001, GID: 50, Name: "joe"}, argv: []string{"/bin/x", "user=root", "size=y"}, flags: "DRu",
		dir: "/d", chroot: "/c", eol: "\r\nAq\\\x00x", nullSender: "a=b", size: 123}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = parseOptions([]string{"user=joe:", "argv=x"}, fakes)
	if err != nil || got.eol != "\n" || got.nullSender != "MAILER-DAEMON" || got.user.GID != 2001 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBadOptions(t *testing.T) {
	owner := cred.Identity{UID: 951, GID: 951, Name: "postfix"}
	const who = "user= command-line attribute specifies "
	for words, want := range map[string]string{
		"argv=x":                    "missing user= command-line attribute",
		"user=joe":                  "missing argv= command-line attribute",
		"user=joe flags=RZ argv=x":  "unknown flag: Z (ignored)",
		"user=who argv=x":           "get_service_attr: unknown username: who",
		"user=joe:who argv=x":       "get_service_attr: unknown group: who",
		"user=joe size=1k argv=x":   "get_service_attr: bad size= value: 1k",
		"user=joe size=-1 argv=x":   "get_service_attr: bad size= value: -1",
		"user=joe size= argv=x":     "",
		"user=joe argv=":            "",
		"user=joe color=red argv=x": "unknown attribute name: color=red",
		"user=joe flags argv=x":     "unknown attribute name: flags",
		"user=root argv=x":          who + "root privileges",
		"user=postfix argv=x":       who + "mail system owner postfix",
		"user=zero argv=x":          who + "privileged group id 0",
		"user=pg argv=x":            who + "mail system owner postfix group id 951",
		"user=dg argv=x":            who + "mail system postdrop group id 952",
		"user=joe:staff argv=x":     "",
	} {
		o, err := parseOptions(strings.Fields(words), fakes)
		if err == nil {
			err = o.checkRights(owner, "postdrop", 952)
		}
		if got := errorText(err); got != want {
			t.Errorf("%s: %q", words, got)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestParseWord(t *testing.T) {
	for text, want := range map[string]string{
		"$": `empty macro name: "$"`, "a${}": `empty macro name: "a${}"`, "${user": `truncated macro reference: "${user"`,
		"$(user}": `truncated macro reference: "$(user}"`, "${User}": `unknown macro name: "User"`, "$userx": `unknown macro name: "userx"`,
		"${extension?x}": `unknown macro name: "extension?x"`, "$$x$user.$size": "", "": "",
	} {
		if _, err := parseWord(text); errorText(err) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzOptions: any entry in master.cf is taken or refused, and what is taken
// names a command and never root.
func FuzzOptions(f *testing.F) {
	f.Add("flags=DR user=joe:staff eol=\\r\\n argv=/bin/x ${recipient} $user")
	f.Add("user=joe null_sender= size=99999999999999999999 argv=$(")
	f.Add("user=joe eol=\\777\\ argv=${${user}}")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parseOptions(strings.Split(line, " "), fakes)
		if err != nil {
			return
		}
		if len(o.argv) == 0 || o.user.Name == "" || o.size < 0 {
			t.Errorf("%+v", o)
		}
		k := task{daemon: newDaemon(nil), options: o, job: &agent.Job{Log: maillog.Discard()}}
		k.ext.Delimiters = "+"
		k.job.Recipients = []deliver.Recipient{{Address: "u+$user@d"}, {Address: "@d"}, {Address: "no"}}
		if argv, err := k.expand(); err == nil && (len(argv) == 0 || len(argv) > len(k.job.Recipients)*len(o.argv)) {
			t.Errorf("%q", argv)
		}
	})
}

// FuzzUnescape never makes text longer.
func FuzzUnescape(f *testing.F) {
	f.Add(`\r\n\0\12\1234\`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := unescape(s); len(got) > len(s) {
			t.Errorf("%q: %q", s, got)
		}
	})
}
