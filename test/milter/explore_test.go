package milter

import (
	"fmt"
	"os"
	"testing"

	"posthaste/test/world"
)

func TestExplore(t *testing.T) {
	l := newLab(t, world.Options{Suite: world.Debian}, true)
	out, _ := os.Create("/tmp/filter-explore.txt")
	defer out.Close()
	for _, c := range editCases {
		m := c.mail
		fill(&m)
		o := l.run(t, m, c.scripts()...)
		fmt.Fprintf(out, "=== %s\n%s\nqueue %s\n--- file\n%s--- raw\n%s--- seen\n%s--- log\n%s\n", c.name, o.replies, o.queue, o.file, o.raw, o.seen, o.log)
	}
}
