package world

import (
	"errors"
	"os"
	"path/filepath"
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

// Components is where components.sh has unpacked the programs that stand
// beside a mail system (Dovecot, saslauthd, dnsmasq, opendkim ...), a directory
// for Options.Layers. Where it is missing the test is skipped; in CI as root
// that is a failure.
func Components(t testing.TB) string {
	t.Helper()
	top, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(top, "build", "components")
	if _, err := os.Stat(filepath.Join(dir, ".packages")); err != nil {
		const missing = "build/components is missing: sh test/world/components.sh build/components"
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatal(missing)
		}
		t.Skip("SKIP: ", missing)
	}
	return dir
}
