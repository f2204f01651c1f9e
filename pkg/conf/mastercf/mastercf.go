// Package mastercf reads master.cf, the list of services that master runs
// (spec master.md 2).
//
// Parse makes the checks that master makes; its errors are the texts of
// master's fatal messages, with file and line. What needs the network (does a
// host exist, is a port known, is a service listed twice) is left to master.
// Postconf has other checks and shares only the lexer.
package mastercf

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"posthaste/pkg/conf"
)

// Entry is one service of master.cf.
type Entry struct {
	Name, Type              string
	Private, Unpriv, Chroot bool
	// ChrootByLevel says that Chroot is the default "y" of compatibility
	// levels below 1: master logs that at every reading.
	ChrootByLevel bool
	Wakeup        int  // seconds; 0 = none
	WakeupOnUse   bool // not before the first process has been started
	MaxProc       int  // 0 = no limit
	Command       string
	Args          []string // without the command; braces removed
	File          string
	Line          int // of the first physical line
	Fields        [8]string
}

// String returns "FILE: line N", the context of messages about the entry.
func (e Entry) String() string { return context(e.File, e.Line) }

func context(file string, line int) string { return fmt.Sprintf("%s: line %d", file, line) }

// Separators are the bytes between fields.
const Separators = " \t\r\n"

// Split splits a logical line into words; blanks inside { } do not separate.
func Split(text string) []string { return conf.SplitBraced(text, Separators) }

// Parse reads the file and returns the services that master_service_disable
// leaves, in file order.
func Parse(path string, c *conf.Config) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %s", path, conf.Reason(err))
	}
	defer f.Close()
	return read(f, path, c)
}

func read(r io.Reader, path string, c *conf.Config) ([]Entry, error) {
	disabled := parseDisable(c.String("master_service_disable"))
	if v4, v6 := c.Protocols(); !v4 && !v6 {
		c.Warnf("all network protocols are disabled (inet_protocols = %s)", c.String("inet_protocols"))
		c.Warnf(`disabling all type "inet" services in master.cf`)
		disabled = append([]pattern{{typ: "inet"}}, disabled...)
	}
	var entries []Entry
	lines := conf.NewLineReader(r, path, c.Warnf)
	for {
		line, err := lines.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %s", path, conf.Reason(err))
		}
		p := parser{words: Split(line.Text), config: c}
		e, err := p.entry(disabled)
		if errors.Is(err, errDisabled) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", context(path, line.First), err)
		}
		e.File, e.Line = path, line.First
		entries = append(entries, e)
	}
}

var errDisabled = errors.New("disabled by master_service_disable")

// parser takes one field after the other from the words of an entry.
type parser struct {
	words  []string
	taken  int
	fields [8]string
	config *conf.Config
}

func (p *parser) field(name string) (string, error) {
	if p.taken >= len(p.words) {
		return "", fmt.Errorf(`missing "%s" field`, name)
	}
	word := p.words[p.taken]
	p.fields[p.taken] = word
	p.taken++
	return word, nil
}

func badValue(name, value string) error {
	return fmt.Errorf(`field "%s": bad value: "%s"`, name, value)
}

func (p *parser) boolean(name string, fallback bool) (bool, error) {
	word, err := p.field(name)
	switch {
	case err != nil:
		return false, err
	case word == "-":
		return fallback, nil
	case word == "y":
		return true, nil
	case word == "n":
		return false, nil
	}
	return false, badValue(name, word)
}

// number takes a count; what follows its digits is returned and otherwise
// ignored.
func (p *parser) number(name string, fallback int) (n int, tail string, err error) {
	word, err := p.field(name)
	if err != nil {
		return 0, "", err
	}
	if word == "-" {
		return fallback, "", nil
	}
	digits := len(word) - len(strings.TrimLeft(word, "0123456789"))
	if digits == 0 {
		return 0, "", badValue(name, word)
	}
	value, err := strconv.ParseInt(word[:digits], 10, 32)
	if err != nil {
		value = math.MaxInt32
	}
	return int(value), word[digits:], nil
}

func (p *parser) entry(disabled []pattern) (e Entry, err error) {
	if e.Name, err = p.field("service name"); err != nil {
		return e, err
	}
	if e.Type, err = p.field("transport type"); err != nil {
		return e, err
	}
	if matches(disabled, e.Name, e.Type) {
		return e, errDisabled
	}
	switch e.Type {
	case "inet", "unix", "unix-dgram", "fifo", "pass":
	default:
		return e, errors.New("bad transport type: " + e.Type)
	}
	if e.Private, err = p.boolean("private", true); err != nil {
		return e, err
	}
	if e.Type == "inet" {
		if e.Private {
			return e, errors.New("inet service cannot be private")
		}
		if _, _, err := SplitEndpoint(e.Name); err != nil {
			return e, err
		}
	}
	if e.Unpriv, err = p.boolean("unprivileged", true); err != nil {
		return e, err
	}
	legacy := p.config.Level().Less(1, 0)
	if e.Chroot, err = p.boolean("chroot", legacy); err != nil {
		return e, err
	}
	e.ChrootByLevel = legacy && p.fields[4] == "-"
	var tail string
	if e.Wakeup, tail, err = p.number("wakeup_time", 0); err != nil {
		return e, err
	}
	e.WakeupOnUse = e.Wakeup > 0 && strings.HasSuffix(tail, "?")
	if e.MaxProc, _, err = p.number("max_proc", p.config.Int("default_process_limit")); err != nil {
		return e, err
	}
	if e.Command, err = p.field("command"); err != nil {
		return e, err
	}
	if e.Command == "-" {
		return e, errors.New(`field "command" has no default value`)
	}
	e.Fields = p.fields
	e.Args, err = Args(p.words[p.taken:])
	return e, err
}

// Args removes the outer braces, and the blanks just inside, of the words that
// start with one.
func Args(words []string) ([]string, error) {
	args := make([]string, 0, len(words))
	for _, w := range words {
		if strings.HasPrefix(w, "{") {
			var err error
			if w, err = conf.Unbrace(w); err != nil {
				return nil, err
			}
		}
		args = append(args, w)
	}
	return args, nil
}
