package bounce

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"posthaste/pkg/sys/maillog"
)

// load reads bounce_template_file; "" is none. The error ends the program, what
// is wrong with a single template is a warning.
func (s *templateSet) load(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open file %s: %w", path, maillog.Errno(err))
	}
	defer f.Close()
	raw, err := readTemplates(f, path, s.log.Warn)
	if err != nil {
		return err
	}
	for _, class := range classes {
		text, found := raw[class]
		if !found {
			continue
		}
		base := s.byClass[class]
		t, err := parseTemplate(base, path, text)
		if _, charset := err.(*charsetError); charset {
			s.log.Warn("%v", err)
			s.log.Warn("please specify a charset value other than us-ascii")
			s.log.Warn("-- ignoring this template for now")
		} else if err != nil {
			s.log.Warn("%v", err)
		} else {
			s.byClass[class] = t
		}
	}
	return nil
}

// maxTemplateLine bounds the lines of the template file.
const maxTemplateLine = 1 << 20

// readTemplates reads the grammar of bounce_template_file (routing.md §5.5) and
// returns the text of each class. The line numbers in messages are one too high,
// as they are in Postfix.
func readTemplates(in io.Reader, path string, warn func(format string, a ...any)) (map[string]string, error) {
	raw := make(map[string]string)
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, maxTemplateLine)
	number := 1
	for sc.Scan() {
		number++
		line := strings.TrimLeft(sc.Text(), " \t\r\v\f")
		if line == "" || line[0] == '#' {
			continue
		}
		fail := func(text string) error {
			return fmt.Errorf("%s, line %d: %s: \"%s\"", path, number, text, strings.TrimRight(line, " \t\r\v\f"))
		}
		name, value, err := splitNameValue(line)
		if err != "" {
			return nil, fail(err)
		}
		if mark, here := strings.CutPrefix(value, "<<"); here {
			mark = strings.TrimLeft(mark, " \t\r\v\f")
			switch {
			case mark == "":
				return nil, fail("missing end marker after <<")
			case !alphanumeric(mark[0]):
				return nil, fail("malformed end marker after <<")
			}
			var found bool
			value, found = hereText(sc, mark, &number)
			if !found {
				warn("%s, line %d: missing \"%s\" end marker", path, number, mark)
			}
		}
		class, ok := strings.CutSuffix(name, "_template")
		if !ok || builtinFor(class) == nil {
			warn("%s, line %d: unknown template name: %s -- ignoring this template", path, number, name)
			continue
		}
		raw[class] = value
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read file %s: %w", path, err)
	}
	return raw, nil
}

// hereText reads lines up to the mark.
func hereText(sc *bufio.Scanner, mark string, number *int) (text string, found bool) {
	var b strings.Builder
	for sc.Scan() {
		*number++
		if sc.Text() == mark {
			return b.String(), true
		}
		b.WriteString(sc.Text())
		b.WriteByte('\n')
	}
	return b.String(), false
}

// splitNameValue splits "name = value"; trouble says what is wrong.
func splitNameValue(line string) (name, value, trouble string) {
	name, value, ok := strings.Cut(line, "=")
	name = strings.Trim(name, " \t\r\v\f")
	switch {
	case name == "":
		return "", "", "missing attribute name"
	case !ok || strings.ContainsAny(name, " \t"):
		return "", "", "missing '=' after attribute name"
	}
	return name, strings.Trim(value, " \t\r\v\f"), ""
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func builtinFor(class string) *template {
	for i := range builtins {
		if builtins[i].class == class {
			return &builtins[i]
		}
	}
	return nil
}
