package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"
)

func TestScan(t *testing.T) {
	s := newSpool(t, Options{HashNames: []string{Deferred}, HashDepth: 1})
	for _, path := range []string{"deferred/9/92220001", "deferred/A/B/AB000002", "deferred/00000003", "deferred/9/1234.567", "deferred/9/x#FIX", "maildrop/A", "maildrop/AAAAAAA"} {
		full := filepath.Join(s.Dir(), path)
		os.MkdirAll(filepath.Dir(full), 0700)
		os.WriteFile(full, nil, 0600)
	}
	for queue, want := range map[string]string{Deferred: "00000003 92220001 AB000002", Maildrop: "A AAAAAAA", Hold: ""} {
		var got []string
		for id, err := range s.Scan(queue) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, id)
		}
		sort.Strings(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v", queue, got)
		}
	}
	for _, err := range s.Scan("nosuch") {
		if err == nil {
			t.Error("no error for a queue that does not exist")
		}
	}
}

// A large queue costs a batch of names, not all of them.
func TestScanIsBounded(t *testing.T) {
	s := newSpool(t, Options{})
	const files = 20_000
	for i := range files {
		f, err := os.Create(filepath.Join(s.Dir(), Deferred, fmt.Sprintf("%05X%07X", i, i)))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n, most := 0, uint64(0)
	for id, err := range s.Scan(Deferred) {
		if err != nil || id == "" {
			t.Fatal(err)
		}
		if n++; n%5000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}
	if n != files {
		t.Errorf("%d of %d", n, files)
	}
	if most > before.HeapAlloc+1<<20 {
		t.Errorf("heap grew from %d to %d", before.HeapAlloc, most)
	}
}

func TestScanEndsEarly(t *testing.T) {
	s := newSpool(t, Options{})
	os.WriteFile(s.Path(Hold, "AAAAAA"), nil, 0700)
	os.WriteFile(s.Path(Hold, "BBBBBB"), nil, 0700)
	for range s.Scan(Hold) {
		break
	}
	if entries, _ := os.ReadDir("/proc/self/fd"); len(entries) > 200 {
		t.Error("directories stay open")
	}
}
