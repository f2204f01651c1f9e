package quick

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPlain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	var p Plain
	if _, err := p.Read(make([]byte, 1)); err == nil {
		t.Error("a closed file can be read")
	}
	if errno := p.Open(filepath.Join(dir, "none")); errno != unix.ENOENT {
		t.Error(errno)
	}
	os.Symlink("file", filepath.Join(dir, "link"))
	if errno := p.Open(filepath.Join(dir, "link")); errno != unix.ELOOP {
		t.Error(errno)
	}
	for range 2 { // opened again without Close
		if errno := p.Open(path); errno != 0 {
			t.Fatal(errno)
		}
		var st syscall.Stat_t
		if errno := p.Stat(&st); errno != 0 || st.Size != 10 {
			t.Error(errno, st.Size)
		}
		p.Seek(4, io.SeekStart)
		if b, err := io.ReadAll(&p); string(b) != "456789" || err != nil {
			t.Errorf("%q %v", b, err)
		}
	}
	p.Close()
	p.Close()
}

func TestEntries(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
	os.Mkdir(filepath.Join(dir, "directory"), 0o700)
	fd, errno := Open(dir, os.O_RDONLY, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer Close(fd)
	buffer := make([]byte, 1024)
	n, errno := Entries(fd, buffer)
	if errno != 0 {
		t.Fatal(errno)
	}
	var names []string
	for rest := buffer[:n]; len(rest) > 0; {
		var name string
		var kind byte
		name, kind, rest = NextEntry(rest)
		names = append(names, name)
		if want := map[string]byte{"file": unix.DT_REG, "directory": unix.DT_DIR}[name]; want != 0 && kind != want && kind != unix.DT_UNKNOWN {
			t.Errorf("%s has type %d", name, kind)
		}
	}
	if slices.Sort(names); !slices.Equal(names, []string{".", "..", "directory", "file"}) {
		t.Error(names)
	}
	if _, _, rest := NextEntry([]byte{1, 2, 3}); rest != nil {
		t.Error("a piece of an entry has something behind it")
	}
}
