package caller

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
)

func TestPermit(t *testing.T) {
	const parameter = "authorized_submit_users"
	uid := os.Getuid()
	me := Name(uid)
	refused := fmt.Sprintf("User %s(%d) is not allowed to submit mail", me, uid)
	for _, x := range []struct{ list, want string }{
		{"static:anyone", ""},
		{me, ""},
		{"!" + me + ", static:all", refused},
		{"nosuchuser", refused},
		{"", refused},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "main.cf"), []byte("myhostname = host.example\nmail_owner = daemon\nsetgid_group = mail\n"+parameter+" = "+x.list+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := conf.Load(conf.Options{Dir: dir, ProcessName: "sendmail", Fatal: t.Fatalf, Warn: t.Logf})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := Permit(context.Background(), c, maillog.Discard(), parameter, uid, "submit mail"); err != nil {
			got = err.Error()
		}
		if got != x.want {
			t.Errorf("%q: %q, want %q", x.list, got, x.want)
		}
	}
}

func TestNameOfNobodyKnown(t *testing.T) {
	if got := Name(1 << 30); got != "unknown" {
		t.Errorf("got %q", got)
	}
}
