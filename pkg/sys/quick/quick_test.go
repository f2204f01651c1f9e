package quick

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if Exists(a) {
		t.Error("a exists")
	}
	if _, err := Open(a, os.O_RDWR, 0); err != unix.ENOENT {
		t.Error(err)
	}
	fd, errno := Open(a, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errno != 0 {
		t.Fatal(errno)
	}
	f := os.NewFile(uintptr(fd), a)
	defer f.Close()
	if err := Chmod(f, 0o700); err != nil {
		t.Error(err)
	}
	var st syscall.Stat_t
	if err := Fstat(f, &st); err != 0 || st.Mode&0o777 != 0o700 {
		t.Errorf("%v %o", err, st.Mode)
	}
	os.WriteFile(b, nil, 0o600)
	if err := Rename(a, b, unix.RENAME_NOREPLACE); err != unix.EEXIST {
		t.Error(err)
	}
	if err := Rename(a, b, 0); err != 0 || Exists(a) || !Exists(b) {
		t.Error(err)
	}
	other, err := os.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := LockNow(int(f.Fd()), unix.LOCK_EX); err != 0 {
		t.Error(err)
	}
	if err := LockNow(int(other.Fd()), unix.LOCK_SH); err != unix.EAGAIN {
		t.Error(err)
	}
	if err := Unlink(b); err != 0 || Exists(b) {
		t.Error(err)
	}
	if err := Unlink(b); err != unix.ENOENT {
		t.Error(err)
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	want := bytes.Repeat([]byte("0123456789"), 10000)
	os.WriteFile(path, want, 0o600)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := NewFile(f)
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Error(len(got), err)
	}
	if at, err := r.Seek(-int64(len(want))+5, io.SeekCurrent); at != 5 || err != nil {
		t.Error(at, err)
	}
	var b [3]byte
	if _, err := io.ReadFull(r, b[:]); err != nil || string(b[:]) != "567" {
		t.Errorf("%q %v", b, err)
	}
	if n, err := ReadAt(f, b[:], int64(len(want))-2); n != 2 || err != nil {
		t.Error(n, err)
	}
	if n, err := ReadAt(f, b[:], int64(len(want))); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
	f.Close()
	if _, err := r.Read(b[:]); err == nil {
		t.Error("a closed file was read")
	}
}
