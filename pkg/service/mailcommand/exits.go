package mailcommand

import (
	"strings"
	"unicode/utf8"

	"posthaste/pkg/message/dsn"
)

// exit is what a way to end a command means.
type exit struct{ code, text, diag string }

func (e exit) status() dsn.Status {
	diag := e.diag
	if diag == "" {
		diag = e.text
	}
	return dsn.Status{Code: e.code, Reason: e.text, DiagType: "x-unix", DiagText: diag}
}

// with is the status with the output of the command.
func (e exit) with(out string) dsn.Status {
	st := e.status()
	if out != "" {
		st.Reason, st.DiagText = st.Reason+". Command output: "+out, out
	}
	return st
}

const tempFail = 75 // what Postfix's child ends with when it cannot become the command

// exits are the statuses of sysexits.h.
var exits = map[int]exit{
	64: {"5.3.0", "command line usage error", ""},
	65: {"5.6.0", "data format error", ""},
	66: {"5.3.0", "cannot open input", ""},
	67: {"5.1.1", "user unknown", ""},
	68: {"5.1.2", "host name unknown", ""},
	69: {"5.3.0", "service unavailable", ""},
	70: {"5.3.0", "internal software error", ""},
	71: {"4.3.0", "system resource problem", ""},
	72: {"5.3.0", "critical OS file missing", ""},
	73: {"5.2.0", "can't create user output file", ""},
	74: {"5.3.0", "input/output error", ""},
	75: {"4.3.0", "temporary failure", ""},
	76: {"5.5.0", "remote error in protocol", ""},
	77: {"5.7.0", "permission denied", ""},
	78: {"5.3.5", "local configuration error", ""},
}

// printable makes one line of a command's output.
func printable(out []byte) string {
	var b strings.Builder
	for len(out) > 0 {
		r, n := utf8.DecodeRune(out)
		switch {
		case r == '\t' || r == '\n':
			b.WriteByte(' ')
		case r == utf8.RuneError && n == 1 || r < ' ' || r == 0x7f:
			b.WriteByte('_')
		default:
			b.Write(out[:n])
		}
		out = out[n:]
	}
	return b.String()
}
