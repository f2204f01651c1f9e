package cred

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestLookup(t *testing.T) {
	id, err := Lookup("root")
	if err != nil || id.UID != 0 || id.GID != 0 || id.Home == "" || id.Shell == "" {
		t.Errorf("%+v, %v", id, err)
	}
	if _, err := Lookup("no-such-user-here"); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("%v", err)
	}
	if _, err := LookupID(4000000000); !errors.Is(err, ErrUnknownUser) {
		t.Errorf("%v", err)
	}
}

func TestAs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for i := range 50 {
		wait.Add(2)
		go func() {
			defer wait.Done()
			id := Identity{UID: 2000 + i, GID: 3000 + i}
			name := filepath.Join(dir, "f"+string(rune('A'+i)))
			err := As(id, func() error {
				if _, err := os.Open(secret); !errors.Is(err, os.ErrPermission) {
					t.Errorf("as %d: open of root's file: %v", id.UID, err)
				}
				return os.WriteFile(name, nil, 0o600)
			})
			if err != nil {
				t.Error(err)
			}
			st, err := os.Stat(name)
			if err != nil {
				t.Error(err)
				return
			}
			if sys := st.Sys().(*syscall.Stat_t); int(sys.Uid) != id.UID || int(sys.Gid) != id.GID {
				t.Errorf("file of %d:%d, want %d:%d", sys.Uid, sys.Gid, id.UID, id.GID)
			}
		}()
		go func() { // others stay who they are
			defer wait.Done()
			f, err := os.Open(secret)
			if err != nil {
				t.Error(err)
				return
			}
			f.Close()
		}()
	}
	wait.Wait()
}

func TestAsPanics(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	defer func() {
		if text, ok := recover().(string); !ok || !strings.Contains(text, "as told") {
			t.Errorf("recovered %q", text)
		}
	}()
	_ = As(Identity{UID: 1, GID: 1}, func() error { panic("as told") })
}

func BenchmarkAs(b *testing.B) {
	for b.Loop() {
		_ = As(Identity{UID: 2000, GID: 2000}, func() error { return nil })
	}
}
