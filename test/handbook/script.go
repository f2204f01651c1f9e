// Package handbook runs the recipes of a mail administrator's handbook. A
// scenario is a text file that reads as a page of documentation: the
// configuration, the commands typed, what a client sees, what is in the log, in
// the mailbox and in the queue. README.md beside it describes the format. Every
// scenario is run with both suites, on a machine of its own (package world).
package handbook

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// step is one thing that a scenario does or expects.
type step struct {
	line  int      // in the file, from 1
	verb  string   // "$", "file", "log" ...
	args  string   // what follows the verb on its line
	user  string   // for "$": who types; empty is root
	again bool     // for "$": until it does what is expected
	block []string // the indented lines below, without the indentation
}

// verbs that end with a colon and take a block.
var blockVerbs = []string{"file", "add", "dns", "log", "mailbox", "queue", "smtp", "server", "listening"}

var (
	typed  = regexp.MustCompile(`^(until)? ?([a-z]*)\$ (.*)$`)
	headed = regexp.MustCompile(`^([a-z]+)( [^ ].*)?:$`)
)

// parse reads a scenario. Unindented lines that are not steps are prose; an
// indented line that belongs to no step is an error.
func parse(text string) ([]step, error) {
	var steps []step
	open := false // an indented line belongs to the last step
	blanks := 0
	for i, line := range strings.Split(text, "\n") {
		switch content, indented := strings.CutPrefix(line, "    "); {
		case strings.TrimSpace(line) == "":
			blanks++
			continue
		case indented && !open:
			return nil, fmt.Errorf("line %d: indented, but no step is above it", i+1)
		case indented:
			last := &steps[len(steps)-1]
			for ; blanks > 0 && len(last.block) > 0; blanks-- {
				last.block = append(last.block, "")
			}
			last.block = append(last.block, content)
		default:
			s, ok := parseStep(line)
			if open = ok; ok {
				s.line = i + 1
				steps = append(steps, s)
			}
		}
		blanks = 0
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("no steps")
	}
	return steps, nil
}

func parseStep(line string) (step, bool) {
	if m := typed.FindStringSubmatch(line); m != nil {
		return step{verb: "$", again: m[1] != "", user: m[2], args: m[3]}, true
	}
	if m := headed.FindStringSubmatch(line); m != nil {
		for _, v := range blockVerbs {
			if v == m[1] {
				return step{verb: v, args: strings.TrimSpace(m[2])}, true
			}
		}
	}
	return step{}, false
}

// names are what "{name}" stood for when it was first met.
type names map[string]string

var named = regexp.MustCompile(`\{[a-z]+\}`)

// fill puts known names into a line that is to be typed or sent.
func (n names) fill(line string) string {
	return named.ReplaceAllStringFunc(line, func(s string) string {
		if v, ok := n[s]; ok {
			return v
		}
		return s
	})
}

// pattern makes an expected line a regular expression for a whole line: "..."
// is any text, "{name}" a word that is remembered.
func (n names) pattern(line string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for i, part := range strings.Split(line, "...") {
		if i > 0 {
			b.WriteString(".*")
		}
		at := 0
		for _, loc := range named.FindAllStringIndex(part, -1) {
			b.WriteString(regexp.QuoteMeta(part[at:loc[0]]))
			name := part[loc[0]:loc[1]]
			if v, ok := n[name]; ok {
				b.WriteString(regexp.QuoteMeta(v))
			} else {
				b.WriteString("(?P<" + strings.Trim(name, "{}") + ">[^ :,;]+)")
			}
			at = loc[1]
		}
		b.WriteString(regexp.QuoteMeta(part[at:]))
	}
	b.WriteString("$")
	re, err := regexp.Compile(b.String())
	if err != nil { // a name twice in a line
		return regexp.MustCompile(`^\z.`)
	}
	return re
}

// squeeze makes all white space one space: tables and folded lines vary.
func squeeze(line string) string { return strings.Join(strings.Fields(line), " ") }

// match reports whether a line is as expected, and remembers names.
func (n names) match(want, line string) bool {
	return n.find(want, []string{squeeze(line)}) == 0
}

// find is the index of the first line (squeezed before) that is as expected, or
// -1. It remembers names.
func (n names) find(want string, lines []string) int {
	re := n.pattern(squeeze(want))
	for at, line := range lines {
		m := re.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		for i, name := range re.SubexpNames() {
			if name != "" {
				n["{"+name+"}"] = m[i]
			}
		}
		return at
	}
	return -1
}

// compare looks for the expected lines in what is there: in their order, or in
// any. A line that begins with "! " must not be there; "(empty)" expects
// nothing at all. It returns the first line that disappoints, or "".
func (n names) compare(want, got []string, ordered bool) string {
	lines := make([]string, len(got))
	for i, line := range got {
		lines[i] = squeeze(line)
	}
	rest := lines
	for _, w := range want {
		unwanted, negative := strings.CutPrefix(w, "! ")
		switch {
		case w == "":
		case w == "(empty)":
			if strings.Join(lines, "") != "" {
				return w
			}
		case negative:
			re := n.pattern(squeeze(unwanted))
			if slices.ContainsFunc(lines, re.MatchString) {
				return w
			}
		default:
			at := n.find(w, rest)
			if at < 0 {
				return w
			}
			if ordered {
				rest = rest[at+1:]
			}
		}
	}
	return ""
}
