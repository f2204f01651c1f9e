// Package tabletest is the conformance kit every table type runs: see table.Table.
package tabletest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"posthaste/pkg/table"
)

// Pairs is what the tables under test hold. The keys are addresses, which every type can hold.
func Pairs() map[string]string {
	return map[string]string{
		"10.0.0.1":    "first value",
		"10.0.0.2":    "second",
		"192.168.5.7": "a value with, commas and\ttabs",
	}
}

// Run checks a table that holds Pairs.
func Run(t *testing.T, open func(t *testing.T) table.Table) {
	t.Helper()
	ctx := context.Background()
	tab := open(t)
	if tab.Name() == "" {
		t.Error("no name")
	}
	if tab.Flags()&(table.Fixed|table.Pattern) == 0 {
		t.Error("neither fixed nor pattern")
	}
	for key, want := range Pairs() {
		got, found, err := tab.Lookup(ctx, key)
		if got != want || !found || err != nil {
			t.Errorf("Lookup(%q) = %q, %v, %v; want %q", key, got, found, err, want)
		}
	}
	for _, key := range []string{"10.0.0.3", "nothing", "", "10.0.0.1\x00", "\xff\xfe"} {
		if got, found, err := tab.Lookup(ctx, key); found || err != nil {
			t.Errorf("Lookup(%q) = %q, %v, %v; want nothing", key, got, found, err)
		}
	}
	concurrent(t, tab)
	if err := tab.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// concurrent looks up from many goroutines.
func concurrent(t *testing.T, tab table.Table) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				for key, want := range Pairs() {
					if got, found, err := tab.Lookup(context.Background(), key); got != want || !found || err != nil {
						t.Errorf("concurrent Lookup(%q) = %q, %v, %v", key, got, found, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// RunUpdates checks a table that can be changed and is empty.
func RunUpdates(t *testing.T, tab table.Table) {
	t.Helper()
	ctx := context.Background()
	update := func(key, value string, flags table.Flags) {
		t.Helper()
		if err := table.Update(ctx, tab, key, value, flags); err != nil {
			t.Fatalf("Update(%q): %v", key, err)
		}
	}
	want := func(key, value string, found bool) {
		t.Helper()
		got, ok, err := tab.Lookup(ctx, key)
		if got != value || ok != found || err != nil {
			t.Fatalf("Lookup(%q) = %q, %v, %v; want %q, %v", key, got, ok, err, value, found)
		}
	}
	update("a", "1", table.DupReplace)
	want("a", "1", true)
	update("a", "2", table.DupReplace|table.SyncUpdate)
	want("a", "2", true)
	for i := range 300 {
		update(fmt.Sprintf("key%03d", i), fmt.Sprint(i), table.DupReplace)
	}
	want("key123", "123", true)
	n := 0
	for first := true; ; first = false {
		_, _, ok, err := table.Sequence(ctx, tab, first)
		if errors.Is(err, table.ErrUnsupported) {
			n = 301
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		n++
	}
	if n != 301 {
		t.Errorf("walked %d entries, want 301", n)
	}
	found, err := table.Delete(ctx, tab, "a", 0)
	if !found || err != nil {
		t.Errorf("Delete: %v, %v", found, err)
	}
	want("a", "", false)
	if found, err := table.Delete(ctx, tab, "a", 0); found || err != nil {
		t.Errorf("second Delete: %v, %v", found, err)
	}
}
