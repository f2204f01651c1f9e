// Command report reads the events of `go test -json` and shows what a person
// wants to see of them: a line a package, all output of failed tests, the
// reason of each skipped one, lines that begin with "= " (figures that tests
// report), and the sums. It exits 1 when anything failed.
//
//	go test -json ./... | go run ./test/report
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of test2json.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string
	Elapsed                       float64
}

// report is what was seen so far.
type report struct {
	out                     io.Writer
	output                  map[string][]string // of tests and packages that have not ended
	passed, failed, skipped int
	broken                  bool // a package did not build, or failed outside its tests
}

func main() {
	r := &report{out: os.Stdout, output: map[string][]string{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if r.failed > 0 || r.broken {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(r.out, "%s", line) // the go command's own words
			} else {
				r.event(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		if strings.HasPrefix(e.Output, "= ") {
			fmt.Fprint(r.out, e.Output)
		}
		r.output[key] = append(r.output[key], e.Output)
		return
	case "build-output":
		fmt.Fprint(r.out, e.Output)
		return
	case "build-fail":
		r.broken = true
		return
	}
	if e.Test == "" {
		r.endPackage(e, key)
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprintf(r.out, "FAIL %s\n%s", key, strings.Join(r.output[key], ""))
	case "skip":
		r.skipped++
		fmt.Fprintf(r.out, "SKIP %s:%s\n", key, reason(r.output[key]))
	default:
		return
	}
	delete(r.output, key)
}

// endPackage shows a package's line.
func (r *report) endPackage(e event, key string) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(r.out, "ok  \t%s\t%.3fs\n", e.Package, e.Elapsed)
	case "fail":
		r.broken = true
		fmt.Fprintf(r.out, "%sFAIL\t%s\t%.3fs\n", strings.Join(r.output[key], ""), e.Package, e.Elapsed)
	case "skip": // no test files
	default:
		return
	}
	delete(r.output, key)
}

// reason is what a skipped test said.
func reason(output []string) string {
	var b strings.Builder
	for _, line := range output {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "=== ") || strings.HasPrefix(text, "--- ") {
			continue
		}
		if _, said, ok := strings.Cut(text, ".go:"); ok { // FILE.go:LINE: reason
			_, text, _ = strings.Cut(said, ": ")
		}
		b.WriteString(" " + strings.TrimPrefix(text, "SKIP: "))
	}
	return b.String()
}
