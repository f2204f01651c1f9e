// Package spooltest is queue files for tests: a spool that Debian's Postfix
// 3.7.11 wrote, with deferred, held and submitted messages and their defer
// logs. Package queue's names and modes are restored when it is laid out.
package spooltest

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed debian
var files embed.FS

// Expired is the message that was force-expired.
const Expired = "A7E2C59"

// Debian lays the spool out in a temporary directory and returns its path.
func Debian(t testing.TB) string {
	t.Helper()
	dir := Empty(t)
	err := fs.WalkDir(files, "debian", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, "debian/")
		target := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(target), 0700); err != nil {
			return err
		}
		if err := os.WriteFile(target, data, 0600); err != nil {
			return err
		}
		return os.Chmod(target, mode(name))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func mode(name string) fs.FileMode {
	switch queue, _, _ := strings.Cut(name, "/"); {
	case filepath.Base(name) == Expired && queue == "deferred":
		return 0710
	case queue == "maildrop":
		return 0744
	case queue == "defer":
		return 0600
	}
	return 0700
}

// Empty makes the queue directories without anything in them.
func Empty(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"maildrop", "incoming", "active", "deferred", "hold", "corrupt", "saved", "bounce", "defer", "trace", "flush"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
