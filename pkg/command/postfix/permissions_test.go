package postfix

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"posthaste/pkg/conf"
)

// A queue directory belongs to mail_owner, who may put a symbolic link where
// set-permissions is about to change owner and mode as root.
func TestPermissionsStayInside(t *testing.T) {
	outside, queue := t.TempDir(), t.TempDir()
	if err := os.Chmod(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(queue, "sub")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(queue, "link")); err != nil {
		t.Fatal(err)
	}
	tl := &tool{config: conf.FromMap(nil), rootless: true}
	if err := tl.applyBelow(record{path: queue, kind: "d", mode: 0o700, flags: "ucr"}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{outside: 0o755, inside: 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
	}
	if os.Getuid() != 0 {
		return
	}
	tl.rootless = false
	if err := tl.applyBelow(record{path: queue, kind: "d", owner: "nobody", mode: 0o700, flags: "ucr"}); err != nil {
		t.Skip("SKIP: no user nobody here: ", err)
	}
	if st, err := os.Stat(filepath.Join(outside, "file")); err != nil || !ownedBy(st, 0) {
		t.Errorf("a file outside has changed its owner: %v", err)
	}
	if st, err := os.Stat(inside); err != nil || ownedBy(st, 0) {
		t.Errorf("the directory inside has not: %v", err)
	}
}

func ownedBy(st os.FileInfo, uid uint32) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Uid == uid
}
