// Package postconf shows and changes main.cf and master.cf (spec config.md 2).
//
// Showing never changes anything and exits 0 although it warns about unknown
// and unused parameters; every error is fatal and exits 1. Warnings of one kind
// are sorted by name, where Postfix 3.7 prints them in random order.
package postconf

import (
	"bufio"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/conf/macro"
)

// Main runs the program for the operating system; args[0] is its name.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the program and returns its exit status; args[0] is its name.
func Run(args []string, env command.Env) int {
	out := bufio.NewWriter(env.Stdout)
	p := &program{env: env, called: args[0], name: filepath.Base(args[0]), out: out}
	err := p.run(args[1:])
	if err == nil { // what is still in the buffer when a program fails is lost, as it is in the original
		if flushErr := out.Flush(); flushErr != nil {
			err = fmt.Errorf("write output: %s", conf.Reason(flushErr))
		}
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return 1
	}
	var bad *getopt.Error
	var failed *macro.Error
	switch {
	case errors.As(err, &bad):
		p.print("", bad.Text)
		p.print("fatal: ", "usage: "+p.called+usage)
	case errors.As(err, &failed) && !failed.Fatal:
		p.warn("%s", failed.Text)
		p.print("fatal: ", "macro processing error")
	default:
		p.print("fatal: ", err.Error())
	}
	return 1
}

// errReported ends the program with status 1 after a message.
var errReported = errors.New("already reported")

type program struct {
	env    command.Env
	called string // by what name, as messages show it
	name   string // without directory
	out    *bufio.Writer
	opt    *options
	dir    string
}

// print writes a message to standard error, bytes that are not printable as
// question marks.
func (p *program) print(severity, text string) {
	b := []byte(text)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	fmt.Fprintf(p.env.Stderr, "%s: %s%s\n", p.called, severity, b)
}

func (p *program) warn(format string, a ...any) { p.print("warning: ", fmt.Sprintf(format, a...)) }

func (p *program) path(name string) string { return p.dir + "/" + name }

func (p *program) run(args []string) (err error) {
	if p.opt, err = parseOptions(args); err != nil {
		return err
	}
	set := p.opt.dir
	if set == "" && !conf.Unsafe() {
		set, _ = p.env.Lookup("MAIL_CONFIG")
	}
	if p.dir = set; set == "" {
		p.dir = conf.DefaultDir
	}
	if info := information[p.opt.mode()]; info != nil {
		return info(p)
	}
	if p.opt.has('e') || p.opt.has('X') || p.opt.has('#') {
		return p.edit()
	}
	classes, err := parseClasses(p.opt.classes)
	if err != nil {
		return err
	}
	m, err := p.load(set != "")
	if err != nil {
		return err
	}
	if p.opt.mode() == 'p' {
		err = p.showParameters(m, classes)
	} else {
		err = p.showServices(m)
	}
	if err == nil && !p.opt.has('d') && !p.opt.quiet {
		m.warnUnused(p.opt.mode() == 'p')
	}
	return err
}

func (p *program) edit() error {
	if len(p.opt.args) == 0 {
		if p.opt.has('e') {
			return errors.New("-e requires name=value argument")
		}
		return errors.New("missing service argument")
	}
	if p.opt.mode() == 'p' {
		return p.editMain()
	}
	return p.editMaster()
}

// class says where a parameter comes from.
type class int

const (
	builtin class = 1 << iota
	service
	user
)

func parseClasses(value string) (class, error) {
	names := map[string]class{"builtin": builtin, "service": service, "user": user, "all": builtin | service | user}
	var c class
	for _, word := range conf.Fields(value) {
		bit, ok := names[strings.ToLower(word)]
		if !ok {
			return 0, fmt.Errorf(`unknown -C option value "%s" in "%s"`, word, value)
		}
		c |= bit
	}
	return c, nil
}
