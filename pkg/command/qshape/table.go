package qshape

import (
	"bufio"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// counter counts by domain and age. Index 0 of each row is the sum.
type counter struct {
	settings
	now      time.Time
	out      *bufio.Writer
	terminal bool
	messages int
	total    []int
	rows     map[string]*row
}

type row struct {
	counts   []int
	children map[string]bool // of a parent domain, as many as matter
}

const totalName = "TOTAL"

func newCounter(s settings, now time.Time) *counter {
	return &counter{settings: s, now: now, total: make([]int, s.buckets+1), rows: map[string]*row{}}
}

// file counts one queue file.
func (c *counter) file(path string) {
	e, ok := read(path)
	if !ok {
		return
	}
	bucket := c.bucket(e.arrival)
	if c.senders {
		c.add(domain(e.sender), bucket)
	} else {
		for _, rcpt := range e.recipients {
			c.add(domain(rcpt), bucket)
		}
	}
	if c.messages++; c.terminal && c.messages%c.batch == 0 {
		c.print(false)
	}
}

func (c *counter) add(name string, bucket int) {
	count := func(counts []int) {
		counts[0]++
		counts[bucket]++
	}
	count(c.total)
	count(c.row(name).counts)
	if !c.parents {
		return
	}
	for child := name; ; {
		_, rest, ok := strings.Cut(strings.TrimPrefix(child, "."), ".")
		if !ok || !strings.Contains(rest, ".") {
			return
		}
		parent := "." + rest
		r := c.row(parent)
		count(r.counts)
		if r.children == nil {
			r.children = map[string]bool{}
		}
		if len(r.children) < c.children {
			r.children[child] = true
		}
		child = parent
	}
}

func (c *counter) row(name string) *row {
	r := c.rows[name]
	if r == nil {
		r = &row{counts: make([]int, c.buckets+1)}
		c.rows[name] = r
	}
	return r
}

// domain is the part of an address by which it is counted.
func domain(address string) string {
	if address == "" {
		return "MAILER-DAEMON"
	}
	d := strings.ToLower(address)
	d = d[strings.LastIndexByte(d, '@')+1:]
	d = strings.ReplaceAll(d, "..", ".")
	return strings.TrimSuffix(strings.TrimPrefix(d, "."), ".")
}

// bucket is the column of an arrival time: 1 for the youngest.
func (c *counter) bucket(arrival time.Time) int {
	m := float64(c.now.Unix()-arrival.Unix()) / float64(60*c.tick)
	n := 1
	switch {
	case m < 1:
	case c.linear:
		n = int(m + 1)
	default:
		n = 2 + int(math.Log2(m))
	}
	return min(n, c.buckets)
}

// labels are the headings of the columns.
func (c *counter) labels() []string {
	labels := []string{"T"}
	last := 0
	for i := 1; i < c.buckets; i++ {
		switch {
		case c.linear:
			last = i * c.tick
		case i == 1:
			last = c.tick
		default:
			last *= 2
		}
		labels = append(labels, strconv.Itoa(last))
	}
	return append(labels, strconv.Itoa(last)+"+")
}

// print shows the table: all of it, or the start of an intermediate one.
func (c *counter) print(final bool) {
	labels := c.labels()
	widths := make([]int, len(labels))
	rest := c.width
	for i, label := range labels {
		w := max(len(label), len(strconv.Itoa(c.total[i])))
		widths[i] = max(w+1, 3)
		rest -= widths[i]
	}
	nameWidth := max(rest, 18)
	if c.terminal {
		c.out.WriteString("\x1b[H\x1b[2J\x1b[3J")
	}
	line := func(name string, cells []string) {
		fmt.Fprintf(c.out, "%*s", nameWidth, shorten(name, nameWidth))
		for i, cell := range cells {
			fmt.Fprintf(c.out, "%*s", widths[i], cell)
		}
		c.out.WriteByte('\n')
	}
	line("", labels)
	for i, name := range c.order() {
		if c.terminal && i == c.topN {
			break
		}
		counts := c.total
		if name != totalName {
			counts = c.rows[name].counts
		}
		cells := make([]string, len(counts))
		for i, n := range counts {
			cells[i] = strconv.Itoa(n)
		}
		line(name, cells)
	}
	if !final {
		c.out.Flush()
	}
}

// order is the names of the rows, largest first. A domain name is never in
// capitals, so that the sum has a name of its own.
func (c *counter) order() []string {
	names := []string{totalName}
	for name, r := range c.rows {
		if r.children == nil || len(r.children) >= c.children {
			names = append(names, name)
		}
	}
	sum := func(name string) int {
		if name == totalName {
			return c.total[0]
		}
		return c.rows[name].counts[0]
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(sum(b), sum(a)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	return names
}

// shorten cuts a name at its less telling end.
func shorten(name string, width int) string {
	switch {
	case len(name) <= width:
		return name
	case name[0] == '.':
		return ".+" + name[len(name)-(width-2):]
	}
	return "+" + name[len(name)-(width-1):]
}
