package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// inline finds what is set in bold: `text`, and name(8).
var inline = regexp.MustCompile("`[^`]+`|[a-z0-9][a-z0-9_-]*\\([1-8]\\)")

// escaper makes roff print a text as it is.
var escaper = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, "`", `\(ga`, `"`, `\(dq`)

// literal escapes a text, also at the beginning of a line.
func literal(s string) string {
	s = escaper.Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// format escapes running text and sets in bold what is to be.
func format(s string) string {
	var b strings.Builder
	for {
		at := inline.FindStringIndex(s)
		if at == nil {
			b.WriteString(plain(s))
			break
		}
		b.WriteString(plain(s[:at[0]]))
		word := s[at[0]:at[1]]
		if quoted, ok := strings.CutPrefix(word, "`"); ok {
			b.WriteString(`\fB` + escaper.Replace(strings.TrimSuffix(quoted, "`")) + `\fP`)
		} else {
			name, sec, _ := strings.Cut(word, "(")
			b.WriteString(`\fB` + escaper.Replace(name) + `\fP(` + sec)
		}
		s = s[at[1]:]
	}
	out := b.String()
	if strings.HasPrefix(out, ".") || strings.HasPrefix(out, "'") {
		out = `\&` + out
	}
	return out
}

// plain escapes running text, whose hyphens and apostrophes are just those.
func plain(s string) string {
	return strings.NewReplacer(`\`, `\e`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`).Replace(s)
}

// roff collects the text of one page.
type roff struct{ strings.Builder }

func (r *roff) line(format string, a ...any) { fmt.Fprintf(r, format+"\n", a...) }

func (r *roff) head(p *page) {
	r.line(`.\" Made by docs/man from docs/man/pages/%s.txt; do not edit.`, p)
	r.line(`.TH %s %s "" Posthaste`, literal(strings.ToUpper(p.name)), p.section)
	// Nobody's shell likes a hyphen that was not there.
	r.line(".nh\n.ad l")
	r.line(".SH NAME\n%s \\- %s", literal(p.name), format(p.summary))
}

func (r *roff) heading(title string) { r.line(".SH %s", literal(title)) }

func (r *roff) text(lines []string) {
	for _, l := range lines {
		r.line("%s", format(l))
	}
}

func (r *roff) tagged(tag string, lines []string) {
	r.line(".TP\n%s", tag)
	r.text(lines)
}

func (r *roff) verbatim(lines []string) {
	r.line(".PP\n.RS 4\n.nf")
	for _, l := range lines {
		r.line("%s", literal(l))
	}
	r.line(".fi\n.RE")
}

// body writes a section as its source has it.
func (r *roff) body(s *section) {
	r.heading(s.title)
	for _, part := range s.parts {
		switch part.kind {
		case paragraph:
			r.line(".PP")
			if s.title == "SYNOPSIS" {
				for i, l := range part.text {
					if i > 0 {
						r.line(".br")
					}
					r.line(`\fB%s\fP`, literal(l))
				}
				continue
			}
			r.text(part.text)
		case tagged:
			r.tagged(tagText(part.tag), part.text)
		case verbatim:
			r.verbatim(part.text)
		}
	}
}

// tagText sets a tag: in bold, unless it says itself what is to be bold.
func tagText(tag string) string {
	if strings.Contains(tag, "`") {
		return format(tag)
	}
	return `\fB` + literal(tag) + `\fP`
}

// references lists the pages that a page's text mentions, sorted.
func (p *page) references() []string {
	seen := map[string]bool{}
	note := func(lines []string) {
		for _, l := range lines {
			for _, word := range inline.FindAllString(l, -1) {
				if !strings.HasPrefix(word, "`") {
					seen[word] = true
				}
			}
		}
	}
	for _, s := range p.sections {
		for _, part := range s.parts {
			if part.kind != verbatim {
				note(append([]string{part.tag}, part.text...))
			}
		}
	}
	delete(seen, p.name+"("+p.section+")")
	list := make([]string, 0, len(seen))
	for word := range seen {
		list = append(list, word)
	}
	slices.Sort(list)
	return list
}
