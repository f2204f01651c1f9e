package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"posthaste/pkg/conf"
)

// parameters is the table of pkg/conf joined with our sentences.
type parameters struct {
	rows     map[string]row
	sentence map[string]string
	groups   []group // in the order of parameters.txt
}

// row is a line of parameters.tsv.
type row struct {
	kind, deflt string
	min, max    int64
	programs    []string // who reads it in 3.7
}

// group is the parameters below one heading.
type group struct {
	title string
	names []string // sorted
}

// names returns all names sorted.
func (ps *parameters) names() []string {
	list := make([]string, 0, len(ps.rows))
	for name := range ps.rows {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// referrers names the parameters whose defaults refer to this one.
func (ps *parameters) referrers(name string) string {
	uses := regexp.MustCompile(`\$[{(]?[{]?` + regexp.QuoteMeta(name) + `\b`)
	var list []string
	for _, other := range ps.names() {
		if uses.MatchString(ps.rows[other].deflt) {
			list = append(list, other)
		}
	}
	return strings.Join(list, ", ")
}

// tag is the name and the default as a tag in roff.
func (ps *parameters) tag(name string) string {
	value := ps.rows[name].deflt
	switch value {
	case "":
		value = "empty"
	case conf.Computed, "(pid)":
		value = "computed"
	default:
		value = `\fB` + breakable(value) + `\fP`
	}
	return `\fB` + literal(name) + `\fP (default: ` + value + `)`
}

// breakable is literal with places where a very long word may be broken.
func breakable(value string) string {
	const piece = 20
	words := strings.Split(value, " ")
	for i, w := range words {
		if len(w) < 2*piece {
			words[i] = escaper.Replace(w)
			continue
		}
		var parts []string
		for ; len(w) > piece; w = w[piece:] {
			parts = append(parts, escaper.Replace(w[:piece]))
		}
		words[i] = strings.Join(append(parts, escaper.Replace(w)), `\:`)
	}
	return strings.Join(words, " ")
}

// readParameters reads the table and the sentences, and says what one has and
// the other has not.
func readParameters(table, sentences string) (*parameters, error) {
	ps := &parameters{rows: map[string]row{}, sentence: map[string]string{}}
	text, err := os.ReadFile(table)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		c := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(c) < 6 || c[0] == "name" {
			continue
		}
		r := row{kind: c[1], deflt: c[2], programs: strings.Fields(c[5])}
		r.min, _ = strconv.ParseInt(c[3], 10, 64)
		r.max, _ = strconv.ParseInt(c[4], 10, 64)
		ps.rows[c[0]] = r
	}
	text, err = os.ReadFile(sentences)
	if err != nil {
		return nil, err
	}
	return ps, ps.readSentences(sentences, string(text))
}

// readSentences reads lines "name: sentence" below lines "# Group". A name
// that ends in "*" stands for all parameters with that prefix which have no
// line of their own; "*" in its sentence is the rest of the name.
func (ps *parameters) readSentences(file, text string) error {
	type wildcard struct {
		prefix, sentence string
		group            int
	}
	var wild []wildcard
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "# "); ok {
			ps.groups = append(ps.groups, group{title: title})
			continue
		}
		if line == "" || strings.HasPrefix(line, "//") {
			continue
		}
		name, sentence, ok := strings.Cut(line, ": ")
		if !ok || len(ps.groups) == 0 {
			return fmt.Errorf("%s:%d: not \"name: sentence\" below a group", file, n)
		}
		g := len(ps.groups) - 1
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			wild = append(wild, wildcard{prefix, sentence, g})
			continue
		}
		if _, known := ps.rows[name]; !known {
			return fmt.Errorf("%s:%d: there is no parameter %s", file, n, name)
		}
		if _, twice := ps.sentence[name]; twice {
			return fmt.Errorf("%s:%d: %s a second time", file, n, name)
		}
		ps.sentence[name] = sentence
		ps.groups[g].names = append(ps.groups[g].names, name)
	}
	for _, w := range wild {
		for _, name := range ps.names() {
			rest, ok := strings.CutPrefix(name, w.prefix)
			if _, has := ps.sentence[name]; !ok || has {
				continue
			}
			ps.sentence[name] = strings.ReplaceAll(w.sentence, "*", rest)
			ps.groups[w.group].names = append(ps.groups[w.group].names, name)
		}
	}
	for _, g := range ps.groups {
		slices.Sort(g.names)
	}
	var missing []string
	for _, name := range ps.names() {
		if _, ok := ps.sentence[name]; !ok {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return fmt.Errorf("%s has no sentence for %s", file, strings.Join(missing, " "))
	}
	return nil
}
