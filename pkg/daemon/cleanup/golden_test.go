package cleanup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGoldens(t *testing.T) {
	for _, c := range allCases() {
		t.Run(c.name, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join("testdata", "golden", c.name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, got := newWorld(t, c).run(t, c); got != string(want) {
				t.Error(difference(got, string(want)))
			}
		})
	}
}

// difference shows where two texts part.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for len(g) > 0 && len(w) > 0 && g[0] == w[0] {
		g, w = g[1:], w[1:]
	}
	for len(g) > 0 && len(w) > 0 && g[len(g)-1] == w[len(w)-1] {
		g, w = g[:len(g)-1], w[:len(w)-1]
	}
	return "got\n+ " + strings.Join(g, "\n+ ") + "\nwant\n- " + strings.Join(w, "\n- ")
}
