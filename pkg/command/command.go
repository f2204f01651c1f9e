// Package command is what the programs under it share: the outside world they
// are given, so that each can be run inside a test.
package command

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/sys/unix"
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

// exit is the exit status on its way from Exit to Catch.
type exit int

// Exit ends the command that Catch runs; it is made for maillog.Config.Exit,
// so that a fatal log record ends a command inside a test, too.
func Exit(code int) { panic(exit(code)) }

// Catch runs a command and returns its exit status, or the one given to Exit.
func Catch(run func() int) (code int) {
	defer func() {
		if r := recover(); r != nil {
			status, ok := r.(exit)
			if !ok {
				panic(r)
			}
			code = int(status)
		}
	}()
	return run()
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
