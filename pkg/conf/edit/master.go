package edit

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/mastercf"
)

// Service is one entry of master.cf as an editor sees it.
type Service struct {
	Name, Type string
	Text       string // the logical line
	Line       int    // number of its first physical line
}

// Action is what becomes of an entry.
type Action int

// The actions.
const (
	Keep      Action = iota // leave every byte
	Drop                    // drop its lines, keep the comments between them
	CommentUp               // put "#" in front of its lines
	Rewrite                 // write Change.Text, after the comments between and behind its lines
	Replaced                // write Change.Text, before the comments
)

// Change is what MasterCF does with an entry.
type Change struct {
	Action Action
	Text   string // with its newline
}

// MasterCF copies master.cf from r to w; decide says what becomes of each
// entry, and tail is appended. Name is the file's name in errors.
func MasterCF(r io.Reader, w io.Writer, name string, decide func(Service) (Change, error), tail func() string) error {
	e := masterEditor{out: bufio.NewWriter(w), name: name, decide: decide}
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := readLine(in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := e.line(line, n); err != nil {
			return err
		}
	}
	if err := e.finish(); err != nil {
		return err
	}
	e.out.WriteString(tail())
	return e.out.Flush()
}

// masterEditor collects the physical lines of an entry. Comments are held back
// until it is known whether the entry goes on behind them.
type masterEditor struct {
	out    *bufio.Writer
	name   string
	decide func(Service) (Change, error)

	lines   []string // of the entry, with comments between them
	comment []bool   // which of lines are comments
	after   []string // comments that follow
	first   int
}

func (e *masterEditor) line(text string, n int) error {
	body := conf.TrimLeft(text)
	switch {
	case body == "" || body[0] == '#':
		e.after = append(e.after, text)
	case len(body) < len(text) && e.lines != nil:
		for _, c := range e.after {
			e.add(c, true)
		}
		e.after = nil
		e.add(text, false)
	case len(body) < len(text): // continues nothing
		e.after = append(e.after, text)
	default:
		if err := e.finish(); err != nil {
			return err
		}
		e.first = n
		e.add(text, false)
	}
	return nil
}

func (e *masterEditor) add(text string, comment bool) {
	e.lines = append(e.lines, text)
	e.comment = append(e.comment, comment)
}

// finish writes the entry and what follows it.
func (e *masterEditor) finish() error {
	if e.lines != nil {
		change, err := e.ask()
		if err != nil {
			return err
		}
		if change.Action == Replaced {
			e.out.WriteString(change.Text)
		}
		for i, line := range e.lines {
			switch {
			case e.comment[i], change.Action == Keep:
				e.out.WriteString(line)
			case change.Action == CommentUp:
				e.out.WriteString("#" + line)
			}
		}
		// The original takes the comments behind an entry for a part of it.
		if change.Action == Rewrite {
			e.writeAfter()
			e.out.WriteString(change.Text)
		}
	}
	e.writeAfter()
	e.lines, e.comment = nil, nil
	return nil
}

func (e *masterEditor) writeAfter() {
	for _, line := range e.after {
		e.out.WriteString(line)
	}
	e.after = nil
}

func (e *masterEditor) ask() (Change, error) {
	bad := func(format string, a ...any) (Change, error) {
		return Change{}, fmt.Errorf("file %s: line %d: %s", e.name, e.first, fmt.Sprintf(format, a...))
	}
	var text strings.Builder
	for i, line := range e.lines {
		if !e.comment[i] {
			text.WriteString(strings.TrimSuffix(line, "\n"))
		}
	}
	words := mastercf.Split(strings.TrimSuffix(e.lines[0], "\n"))
	if len(words) < 2 {
		return bad("specify service name and type on the same line")
	}
	for i, what := range []string{"name", "type"} {
		if strings.Contains(words[i], "=") {
			return bad(`service %s syntax "%s" is unsupported with -Me, -Fe, -Pe, -X, or -#`, what, words[i])
		}
	}
	return e.decide(Service{Name: words[0], Type: words[1], Text: text.String(), Line: e.first})
}
