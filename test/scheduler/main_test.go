package scheduler

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets more tests run beside each other than there are processors: most of
// their time they wait.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "6")
	os.Exit(m.Run())
}
