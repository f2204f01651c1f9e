// Command man makes the manual pages: man(7) text out of the sources in
// docs/man/pages, the table of parameters in pkg/conf, the sentences in
// docs/man/parameters.txt, and the Go sources, which say what program reads
// which parameter. It needs no other tool.
//
//	go run ./docs/man [-root DIR] [-z] -o DIR
//
// writes DIR/man1, DIR/man5 and DIR/man8; with -z compressed and under the
// names that Debian's package has, so that one takes the other's place. A page
// of a program that is not in cmd/ is left out. README.md in this directory
// describes the sources.
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	root := flag.String("root", ".", "the top of the source tree")
	out := flag.String("o", "", "the directory that gets man1, man5, man8")
	debian := flag.Bool("z", false, "compress, and name files as Debian does")
	flag.Parse()
	if err := run(*root, *out, *debian); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

// obsolete is a page that Debian's list of files, postfix-files, calls one of an
// earlier release: "postfix upgrade-configuration" would tell people to remove it.
const obsolete = "nqmgr"

func run(root, out string, debian bool) error {
	if out == "" {
		return fmt.Errorf("say where to with -o")
	}
	m, err := load(root)
	if err != nil {
		return err
	}
	for _, p := range m.pages {
		if p.program() && !m.tree.has(p.name) || debian && p.name == obsolete {
			continue
		}
		dir := filepath.Join(out, "man"+p.section)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := p.write(dir, m.render(p), debian); err != nil {
			return err
		}
	}
	return nil
}

// write puts a page into its directory. What is there may be a link to another
// page and is removed first.
func (p *page) write(dir, text string, debian bool) error {
	suffix, data := "."+p.section, []byte(text)
	if debian {
		if p.section == "8" {
			suffix += "postfix"
		}
		suffix += ".gz"
	}
	file := filepath.Join(dir, p.name+suffix)
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if debian {
		if p.same != "" {
			return os.Symlink(strings.TrimSuffix(p.same, filepath.Ext(p.same))+suffix, file)
		}
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := z.Write(data); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		data = b.Bytes()
	}
	return os.WriteFile(file, data, 0o644)
}
