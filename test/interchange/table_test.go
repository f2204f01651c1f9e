package interchange

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"posthaste/test/world"
)

// The page of the interchange has two generated parts, each between two marks,
// which full runs of TestExchange and TestCommands replace.
const page = "docs/interchange.md"

// replacePart writes one generated part of the page.
func replacePart(name, text string) error {
	root, err := world.Root()
	if err != nil {
		return err
	}
	path := filepath.Join(root, page)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no part %q", page, name)
	}
	return os.WriteFile(path, []byte(before+begin+text+end+after), 0o644)
}

func (v verdict) String() string {
	switch {
	case v.skipped != "":
		return v.skipped
	case len(v.trouble) > 0:
		return fmt.Sprintf("**%d of %d**", v.same, v.kinds)
	}
	return fmt.Sprintf("%d of %d", v.same, v.kinds)
}

// writeExchange writes the tables of cells and of kinds.
func writeExchange(list []cell, verdicts []verdict) error {
	type row struct{ daemon, note string }
	var order []row
	found := map[row]map[string]string{}
	for i, c := range list {
		r := row{c.daemon, c.note}
		if c.daemon == "" {
			r = row{"(no exchange)", ""}
		}
		if len(c.swap) > 1 && c.note != "" {
			r.daemon = strings.Join(c.swap, ", ")
		}
		if c.note == "by FIFO" && slices.Equal(c.swap, []string{"master"}) {
			r.daemon = "master"
		}
		if found[r] == nil {
			order, found[r] = append(order, r), map[string]string{}
		}
		found[r][c.suite.String()+c.chroot] = verdicts[i].String()
	}
	var b strings.Builder
	b.WriteString("| program | ours in Debian's suite, chroot | no chroot | Debian's in our suite, chroot | no chroot |\n|---|---|---|---|---|\n")
	for _, r := range order {
		name := r.daemon
		if r.note != "" {
			name += " (" + r.note + ")"
		}
		fmt.Fprintf(&b, "| %s |", name)
		for _, column := range []string{"debiany", "debiann", "oursy", "oursn"} {
			text := found[r][column]
			if text == "" {
				text = "-"
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
	}
	b.WriteString("\nThe kinds, and the programs that each was made for:\n\n| kind | tries |\n|---|---|\n")
	for _, k := range kinds {
		fmt.Fprintf(&b, "| %s | %s |\n", k.name, strings.ReplaceAll(k.uses, " ", ", "))
	}
	return replacePart("cells", b.String())
}

// writeCommands writes the table of commands.
func writeCommands(verdicts map[string]string) error {
	var b strings.Builder
	b.WriteString("| command | ours on Debian's running system | Debian's on ours |\n|---|---|---|\n")
	for _, p := range commandParts {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.name, verdicts["debian "+p.name], verdicts["ours "+p.name])
	}
	return replacePart("commands", b.String())
}
