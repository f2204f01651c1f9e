package trigger

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pickup")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The client is gone before the service accepts.
	if err := SendPath(context.Background(), path, "FADI"); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if string(got) != "FADI\x00" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "qmgr")
	if err := syscall.Mkfifo(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if err := SendPath(context.Background(), path, "W"); !errors.Is(err, syscall.ENXIO) {
		t.Errorf("without a reader: %v", err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := SendPath(context.Background(), path, "WXW"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := r.Read(b); string(b[:n]) != "WXW" || err != nil {
		t.Errorf("got %q, %v", b[:n], err)
	}
}

func TestWrongKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	os.WriteFile(path, nil, 0o600)
	if err := SendPath(context.Background(), path, "W"); !errors.Is(err, ErrKind) {
		t.Error(err)
	}
	if err := SendPath(context.Background(), path+"x", "W"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
