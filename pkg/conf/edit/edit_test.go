package edit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"posthaste/pkg/conf"
)

func TestMainCF(t *testing.T) {
	const text = "# c\nbiff=no\n  more\n\n  # in\n  end\nx = 1\nbiff\t= yes\n"
	all := []Setting{{"biff", "new"}, {"y", "2"}}
	for op, want := range map[Operation]string{
		Set:     "# c\nbiff = new\n\n  # in\nx = 1\nbiff = new\ny = 2\n",
		Remove:  "# c\n\n  # in\nx = 1\n",
		Comment: "# c\n#biff=no\n#  more\n\n  # in\n#  end\nx = 1\n#biff\t= yes\n",
	} {
		var out bytes.Buffer
		twice := 0
		err := MainCF(strings.NewReader(text), &out, op, all, func(string) { twice++ })
		if err != nil || out.String() != want || twice != 1 {
			t.Errorf("%d: %q, %v, %d", op, out.String(), err, twice)
		}
	}
}

func TestReplaceKeepsOwnerAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "main.cf")
	if err := os.WriteFile(path, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, 0o640)
	if os.Geteuid() == 0 {
		os.Chown(path, 1, 2)
	}
	before, _ := os.Stat(path)
	// a file that a dead editor left, with other rights
	if err := os.WriteFile(path+".tmp", []byte("stale and long\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := Replace(path, func(r io.Reader, w io.Writer) error {
		data, err := io.ReadAll(r)
		fmt.Fprintf(w, "%sb\n", data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(path)
	a, b := after.Sys().(*syscall.Stat_t), before.Sys().(*syscall.Stat_t)
	if after.Mode() != before.Mode() || a.Uid != b.Uid || a.Gid != b.Gid {
		t.Errorf("mode %v owner %d:%d, want %v %d:%d", after.Mode(), a.Uid, a.Gid, before.Mode(), b.Uid, b.Gid)
	}
	if data, _ := os.ReadFile(path); string(data) != "a\nb\n" {
		t.Errorf("%q", data)
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, os.ErrNotExist) {
		t.Error("temporary file is still there")
	}
}

func TestReplaceErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "main.cf")
	err := Replace(path, func(io.Reader, io.Writer) error { return nil })
	if err == nil || err.Error() != "open "+path+" for reading: No such file or directory" {
		t.Error(err)
	}
	os.WriteFile(path, []byte("a\n"), 0o644)
	bad := errors.New("bad")
	if err := Replace(path, func(_ io.Reader, w io.Writer) error { io.WriteString(w, "x"); return bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
	if data, _ := os.ReadFile(path); string(data) != "a\n" {
		t.Errorf("%q", data)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Error("files left:", list)
	}
	os.Symlink("/nonexistent", path+".tmp")
	if err := Replace(path, func(io.Reader, io.Writer) error { return nil }); err == nil {
		t.Error("followed a symbolic link")
	}
}

func TestReplaceTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "main.cf")
	os.WriteFile(path, nil, 0o644)
	var group sync.WaitGroup
	const n = 20
	for range n {
		group.Go(func() {
			err := Replace(path, func(r io.Reader, w io.Writer) error {
				data, err := io.ReadAll(r)
				fmt.Fprintf(w, "%sx\n", data)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if data, _ := os.ReadFile(path); len(data) != 2*n {
		t.Errorf("%d of %d changes", len(data)/2, n)
	}
}

func FuzzMainCF(f *testing.F) {
	f.Add("a = 1\n  2\n# c\nb=1\na\n", "a")
	f.Add(" x\n\ty\na", "a")
	f.Fuzz(func(t *testing.T, text, name string) {
		if name == "" || strings.ContainsAny(name, " \t\n\v\f\r=#") || strings.Contains(text, "\x00") {
			return
		}
		before, err := conf.ParseSettings(strings.NewReader(text), "f", nil)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := MainCF(strings.NewReader(text), &out, Set, []Setting{{name, "new value"}}, func(string) {}); err != nil {
			t.Fatal(err)
		}
		after, err := conf.ParseSettings(&out, "f", nil)
		if err != nil {
			t.Fatal(err)
		}
		before[name] = "new value"
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("%q: got %v, want %v", text, after, before)
		}
	})
}

func FuzzMasterCF(f *testing.F) {
	f.Add("a unix x\n  y\n# c\n\nb unix x\n z")
	f.Fuzz(func(t *testing.T, text string) {
		var out bytes.Buffer
		err := MasterCF(strings.NewReader(text), &out, "f", func(Service) (Change, error) { return Change{}, nil }, func() string { return "" })
		if err == nil && strings.TrimSuffix(out.String(), "\n") != strings.TrimSuffix(text, "\n") {
			t.Errorf("%q became %q", text, out.String())
		}
	})
}
