package smtpd

import (
	"os"
	"strings"
	"testing"
)

// TestGolden replays the corpus against our session: replies and log lines
// must be those that Debian's smtpd gave (testdata/golden, see TestRecord).
func TestGolden(t *testing.T) {
	for _, s := range readCorpus(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile("testdata/golden/" + s.name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			srv, _, log := newTestServer(t, s.options)
			conn, done := connect(t, srv)
			got := maskTalk(play(t, s, conn))
			waitFor(t, done)
			for _, line := range log.Lines() {
				if !unimportant(line) {
					got += "L: " + mask(line) + "\n"
				}
			}
			if got != string(want) {
				t.Error(difference(string(want), got))
			}
		})
	}
}

// difference shows the lines that differ.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for i := 0; i < max(len(w), len(g)); i++ {
		a, c := "", ""
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			c = g[i]
		}
		if a != c {
			b.WriteString("\nwant " + a + "\n got " + c)
			if b.Len() > 3000 {
				break
			}
		}
	}
	return b.String()
}
