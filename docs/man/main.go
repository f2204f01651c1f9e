// Command man makes the manual pages: man(7) text out of the sources in
// docs/man/pages, the table of parameters in pkg/conf, the sentences in
// docs/man/parameters.txt, and the Go sources, which say what program reads
// which parameter. It needs no other tool.
//
//	go run ./docs/man [-root DIR] -o DIR
//
// writes DIR/man1, DIR/man5 and DIR/man8. A page of a program that is not in
// cmd/ is left out. README.md in this directory describes the sources.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "the top of the source tree")
	out := flag.String("o", "", "the directory that gets man1, man5, man8")
	flag.Parse()
	if err := run(*root, *out); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func run(root, out string) error {
	if out == "" {
		return fmt.Errorf("say where to with -o")
	}
	m, err := load(root)
	if err != nil {
		return err
	}
	for _, p := range m.pages {
		if p.program() && !m.tree.has(p.name) {
			continue
		}
		dir := filepath.Join(out, "man"+p.section)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		text, err := m.render(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if err := os.WriteFile(filepath.Join(dir, p.name+"."+p.section), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
