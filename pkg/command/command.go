// Package command is what the programs under it share: the outside world they
// are given, so that each can be run inside a test.
package command

import (
	"bytes"
	"io"
	"os"
)

// Env is what a command sees of the world.
type Env struct {
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Environ []string // "NAME=value"
}

// OS is the Env of the running process.
func OS() Env {
	return Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}
}

// Lookup returns the value of an environment variable.
func (e Env) Lookup(name string) (value string, ok bool) {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		v := e.Environ[i]
		if len(v) > len(name) && v[len(name)] == '=' && v[:len(name)] == name {
			return v[len(name)+1:], true
		}
	}
	return "", false
}

// SplitLF is a bufio.SplitFunc as bufio.ScanLines, but for a CR at the end of
// a line, which it leaves where it is.
func SplitLF(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
