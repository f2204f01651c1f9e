package bounce

import (
	"fmt"
	"io"
	"strings"

	"posthaste/pkg/sys/maillog"
)

// template is the text of one class of notices (routing.md §5.4, bounce(5)).
type template struct {
	class      string // "failure"
	origin     string // file for messages, or "[built-in]"
	charset    string
	from       string // "" is the standard From:
	subject    string
	postmaster string // subject of postmaster copies; "" where there are none
	text       []string
}

const builtIn = "[built-in]"

// templateSet has one template a class, by class name.
type templateSet struct {
	byClass map[string]*template
	vars    variables
	utf8    bool
	log     *maillog.Logger
}

// classes in the order in which they are printed.
var classes = [...]string{"failure", "delay", "success", "verify"}

func newTemplates(vars variables, utf8 bool, log *maillog.Logger) *templateSet {
	s := &templateSet{byClass: make(map[string]*template), vars: vars, utf8: utf8, log: log}
	for i := range builtins {
		s.byClass[builtins[i].class] = &builtins[i]
	}
	return s
}

// templateHeader is a header line of a template, checked and stored by set.
type templateHeader struct {
	label string
	set   func(t *template) *string
}

var templateHeaders = [...]templateHeader{
	{"charset", func(t *template) *string { return &t.charset }},
	{"from", func(t *template) *string { return &t.from }},
	{"subject", func(t *template) *string { return &t.subject }},
	{"postmaster-subject", func(t *template) *string { return &t.postmaster }},
}

// parseTemplate makes a template of the text of bounce_template_file for a class; base is
// the built-in one, whose headers hold where the file has none. The error is
// the warning, and the built-in template stays.
func parseTemplate(base *template, file, text string) (*template, error) {
	t := *base
	t.origin = file
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for len(lines) > 0 {
		label, value, ok := headerLine(lines[0])
		if !ok {
			break
		}
		if err := t.setHeader(base, label, value); err != nil {
			return nil, err
		}
		lines = lines[1:]
	}
	for len(lines) > 0 && blank(lines[0]) {
		lines = lines[1:]
	}
	if len(lines) == 0 {
		return nil, t.ignored("missing message text in %s template", t.class)
	}
	t.text = lines
	if strings.EqualFold(t.charset, "us-ascii") && !ascii(strings.Join(lines, "")) {
		return nil, &charsetError{file, t.class}
	}
	return &t, nil
}

func (t *template) setHeader(base *template, label, value string) error {
	for _, h := range templateHeaders {
		if !strings.EqualFold(h.label, label) {
			continue
		}
		switch {
		case value == "":
			return t.ignored("empty \"%s\" header value in %s template", label, t.class)
		case !ascii(value):
			return t.ignored("non-ASCII \"%s\" header value in %s template", label, t.class)
		case h.label == "postmaster-subject" && base.postmaster == "":
			return t.ignored("inapplicable \"%s\" header label in %s template", label, t.class)
		}
		*h.set(t) = value
		return nil
	}
	return t.ignored("unknown \"%s\" header label in %s template", label, t.class)
}

func (t *template) ignored(format string, a ...any) error {
	return fmt.Errorf("%s: %s -- ignoring this template", t.origin, fmt.Sprintf(format, a...))
}

// charsetError is 8-bit text in a template that says us-ascii; the warning has
// three lines.
type charsetError struct{ file, class string }

func (e *charsetError) Error() string {
	return fmt.Sprintf("%s: 8-bit message text in %s template", e.file, e.class)
}

// headerLine splits "Label: value"; a line that is none ends the headers.
func headerLine(line string) (label, value string, ok bool) {
	label, value, ok = strings.Cut(line, ":")
	label = strings.TrimRight(label, " \t")
	if !ok || label == "" {
		return "", "", false
	}
	for i := 0; i < len(label); i++ {
		if label[i] <= ' ' || label[i] >= 0x7f {
			return "", "", false
		}
	}
	return label, strings.Trim(value, " \t\r\n\v\f"), true
}

func blank(line string) bool { return strings.Trim(line, " \t\r\n\v\f") == "" }

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// encoding is the Content-Transfer-Encoding the text needs.
func (t *template) encoding() string {
	if strings.EqualFold(t.charset, "us-ascii") {
		return "7bit"
	}
	return "8bit"
}

// fromLine is the value of From: in notices.
func (t *template) fromLine(obsolete bool) string {
	switch {
	case t.from != "":
		return t.from
	case obsolete:
		return "MAILER-DAEMON (Mail Delivery System)"
	}
	return "Mail Delivery System <MAILER-DAEMON>"
}

// dump writes all templates as bounce_template_file could have them.
func (s *templateSet) dump(w io.Writer) error {
	var b strings.Builder
	for i, class := range classes {
		t := s.byClass[class]
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s_template = <<EOF\nCharset: %s\nFrom: %s\nSubject: %s\n", class, t.charset, t.fromLine(false), t.subject)
		if t.postmaster != "" {
			fmt.Fprintf(&b, "Postmaster-Subject: %s\n", t.postmaster)
		}
		fmt.Fprintf(&b, "\n%s\nEOF\n", strings.Join(t.text, "\n"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// expandAll writes the texts of all templates as a sender would see them.
func (s *templateSet) expandAll(w io.Writer) error {
	var b strings.Builder
	for i, class := range classes {
		lines, err := s.expand(s.byClass[class])
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "expanded_%s_text = <<EOF\n%s\nEOF\n", class, strings.Join(lines, "\n"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
