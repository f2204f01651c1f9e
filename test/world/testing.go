package world

import (
	"errors"
	"os"
	"testing"
)

// maxShown is how many bytes of the log a failed test shows.
const maxShown = 6000

// Test makes a machine that ends with the test. Where none can be made the
// test is skipped with the reason; in CI as root that is a failure, because
// there everything needed is to be had (DESIGN §4).
func Test(t testing.TB, o Options) *World {
	t.Helper()
	w, err := New(o)
	if errors.Is(err, ErrUnavailable) && (os.Getenv("CI") == "" || os.Geteuid() != 0) {
		t.Skip("SKIP: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log := w.Syslog()
			if len(log) > maxShown {
				log = "...\n" + log[len(log)-maxShown:]
			}
			t.Logf("syslog of the %s suite's machine:\n%s", o.Suite, log)
		}
		w.Close()
	})
	return w
}
