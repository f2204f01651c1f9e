package edit

import (
	"bufio"
	"io"
	"strings"

	"posthaste/pkg/conf"
)

// Operation is what is done to the lines that are asked for.
type Operation int

// The operations.
const (
	Set     Operation = iota // replace, or append what is not there
	Remove                   // drop
	Comment                  // put "#" in front
)

// Setting is a "name = value" line to be written; Remove and Comment use only
// the name.
type Setting struct{ Name, Value string }

// MainCF copies main.cf from r to w with the operation applied. Comments and
// blank lines are always kept. Settings that are appended keep the order they
// have in settings. A name that the file has more than once is told to
// duplicate, once; every occurrence is treated alike.
func MainCF(r io.Reader, w io.Writer, op Operation, settings []Setting, duplicate func(name string)) error {
	wanted := map[string]string{}
	for _, s := range settings {
		wanted[s.Name] = s.Value
	}
	seen := map[string]int{}
	out := bufio.NewWriter(w)
	in := bufio.NewReader(r)
	hit := false // the current entry is one that is asked for
	for {
		line, err := readLine(in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		body := conf.TrimLeft(line)
		if body == "" || body[0] == '#' {
			out.WriteString(line)
			continue
		}
		first := len(body) == len(line)
		if first {
			name := line[:nameLength(line)]
			_, hit = wanted[name]
			if hit {
				if seen[name]++; seen[name] == 2 {
					duplicate(name)
				}
			}
			if hit && op == Set {
				out.WriteString(name + " = " + wanted[name] + "\n")
			}
		}
		switch {
		case !hit:
			out.WriteString(line)
		case op == Comment:
			out.WriteString("#" + line)
		}
	}
	if op == Set {
		for _, s := range settings {
			if seen[s.Name] == 0 {
				out.WriteString(s.Name + " = " + s.Value + "\n")
			}
		}
	}
	return out.Flush()
}

// readLine returns the next physical line with its newline; one that is
// missing at the end of the file is supplied, so that text can follow.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	switch {
	case err == io.EOF && line != "":
		return line + "\n", nil
	case err != nil:
		return "", err
	}
	return line, nil
}

func nameLength(line string) int {
	if i := strings.IndexAny(line, "= \t\n\v\f\r"); i >= 0 {
		return i
	}
	return len(line)
}
