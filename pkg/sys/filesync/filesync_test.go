package filesync

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestSync(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 200 { // more than the queue is deep
		all.Add(1)
		go func() {
			defer all.Done()
			f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			f.WriteString("text")
			if err := Sync(f); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	if q, err := shared(); err == nil && len(q.pending) > 0 {
		t.Errorf("%d are never answered", len(q.pending))
	}
}

// What cannot be synced is the error that fsync gives.
func TestError(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := Sync(w); err == nil {
		t.Error("a pipe was synced")
	}
	w.Close()
	if err := Sync(w); err == nil {
		t.Error("a closed file was synced")
	}
}

func BenchmarkSync(b *testing.B) {
	for name, how := range map[string]func(*os.File) error{"kernel": Sync, "thread": (*os.File).Sync} {
		b.Run(name, func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "f"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			for b.Loop() {
				f.WriteString("text")
				if err := how(f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
