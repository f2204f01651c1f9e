package handbook

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"posthaste/test/world"
)

// Scenarios mostly wait for a mail system: more of them than processors run at
// a time.
const together = "10"

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", together)
	}
	os.Exit(m.Run())
}

// TestHandbook runs every scenario with Debian's suite and with ours.
// "-run TestHandbook/debian/queue" picks a chapter.
func TestHandbook(t *testing.T) {
	layers := []string{world.Components(t)}
	files, err := filepath.Glob("*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios: ", err)
	}
	for _, suite := range []world.Suite{world.Debian, world.Ours} {
		t.Run(suite.String(), func(t *testing.T) {
			for _, file := range files {
				t.Run(strings.TrimSuffix(file, ".txt"), func(t *testing.T) {
					t.Parallel()
					scenario(t, file, world.Options{Suite: suite, Layers: layers, Memory: true})
				})
			}
		})
	}
}

func scenario(t *testing.T, file string, o world.Options) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	w := world.Test(t, o)
	m, err := newMachine(w)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if err := m.run(steps); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}
