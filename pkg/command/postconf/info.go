package postconf

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"posthaste/pkg/conf"
	"posthaste/pkg/table"
)

// information holds the modes that show what the programs can do.
var information = map[byte]func(*program) error{
	'a': func(p *program) error { return p.lines("cyrus", "dovecot") },
	'A': func(p *program) error { return p.lines("cyrus") },
	'l': func(p *program) error { return p.lines("flock", "fcntl", "dotlock") },
	'm': (*program).mapTypes,
	'T': (*program).tlsInfo,
	'b': func(p *program) error { return p.templates("expand_templates") },
	't': func(p *program) error { return p.templates("dump_templates") },
}

func (p *program) lines(list ...string) error {
	for _, s := range list {
		p.out.WriteString(s + "\n")
	}
	return nil
}

// mapTypes lists the table types: those of this build and those that the
// dynamicmaps files of plug-ins name.
func (p *program) mapTypes() error {
	types := table.Types()
	for _, path := range p.dynamicMaps() {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			if words := strings.Fields(s.Text()); len(words) > 1 && words[0][0] != '#' {
				types = append(types, words[0])
			}
		}
		f.Close()
	}
	slices.Sort(types)
	return p.lines(slices.Compact(types)...)
}

func (p *program) dynamicMaps() []string {
	dir := p.dir
	if settings, err := conf.ReadSettings(p.path("main.cf"), nil); err == nil && strings.HasPrefix(settings["meta_directory"], "/") {
		dir = settings["meta_directory"]
	}
	more, _ := filepath.Glob(filepath.Join(dir, "dynamicmaps.cf.d", "*.cf"))
	return append([]string{filepath.Join(dir, "dynamicmaps.cf")}, more...)
}

// tlsInfo answers -T. The TLS library is Go's, which is versioned with the
// compiler.
func (p *program) tlsInfo() error {
	switch p.opt.tls {
	case "compile-version", "run-version":
		return p.lines("Go crypto/tls " + runtime.Version())
	case "public-key-algorithms":
		return p.lines("ecdsa", "ed25519", "rsa")
	}
	p.warn("unknown 'postconf -T' mode: %s", p.opt.tls)
	return errReported
}

// templates replaces this process by the bounce daemon, which knows the
// templates.
func (p *program) templates(mode string) error {
	if len(p.opt.args) > 1 {
		return errors.New("options -b and -t require at most one template file")
	}
	if err := os.Setenv("MAIL_CONFIG", p.dir); err != nil {
		return err
	}
	c, err := conf.Load(conf.Options{Dir: p.dir, ProcessName: p.name, Warn: p.warn})
	if err != nil {
		return err
	}
	args := []string{"bounce", "-SVn" + mode}
	if len(p.opt.args) == 1 {
		args = append(args, "-o", "bounce_template_file="+p.opt.args[0])
	}
	args = append(args, "-o", "queue_directory=.")
	path := filepath.Join(c.String("daemon_directory"), args[0])
	err = syscall.Exec(path, args, os.Environ())
	return fmt.Errorf("execute %s: %s", path, conf.Reason(err))
}
