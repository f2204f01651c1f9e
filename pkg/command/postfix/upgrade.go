package postfix

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf/edit"
)

// entry is a service that master.cf of an older release does not have.
type entry struct {
	name, kind string
	what       string // in the message
	line       string
}

// entries are appended by upgrade-configuration (spec §4.6). Those behind a
// comment sign are alternatives and are looked for as they are.
var entries = []entry{
	{"relay", "unix", "relay service", "relay\t  unix\t-\t-\tn\t-\t-\tsmtp"},
	{"flush", "unix", "flush service", "flush     unix  -       -       n       1000?   0       flush"},
	{"trace", "unix", "trace service", "trace\t  unix\t-\t-\tn\t-\t0\tbounce"},
	{"verify", "unix", "verify service", "verify\t  unix\t-\t-\tn\t-\t1\tverify"},
	{"proxymap", "unix", "proxymap service", "proxymap  unix\t-\t-\tn\t-\t-\tproxymap"},
	{"anvil", "unix", "anvil service", "anvil\t  unix\t-\t-\tn\t-\t1\tanvil"},
	{"scache", "unix", "scache service", "scache\t  unix\t-\t-\tn\t-\t1\tscache"},
	{"discard", "unix", "discard service", "discard\t  unix\t-\t-\tn\t-\t-\tdiscard"},
	{"tlsmgr", "unix", "tlsmgr service", "tlsmgr    unix  -       -       n       1000?   1       tlsmgr"},
	{"retry", "unix", "retry service", "retry     unix  -       -       n       -       -       error"},
	{"proxywrite", "unix", "proxywrite service", "proxywrite unix -       -       n       -       1       proxymap"},
	{"#smtp", "inet", "postscreen TCP service", "#smtp      inet  n       -       n       -       1       postscreen"},
	{"#smtpd", "pass", "smtpd unix-domain service", "#smtpd     pass  -       -       n       -       -       smtpd"},
	{"#dnsblog", "unix", "dnsblog unix-domain service", "#dnsblog   unix  -       -       n       -       0       dnsblog"},
	{"#tlsproxy", "unix", "tlsproxy unix-domain service", "#tlsproxy  unix  -       -       n       -       0       tlsproxy"},
	{"postlog", "unix-dgram", "postlog unix-domain datagram service", "postlog   unix-dgram n  -       n       -       1       postlogd"},
}

// steps are what upgrade-configuration does, in its order: "+" adds an entry
// of that name if it is missing, "~" mends one.
var steps = strings.Fields(`+relay +flush +trace +verify ~verify ~pickup ~cleanup ~flush hash +proxymap +anvil +scache +discard +tlsmgr ~tlsmgr
	+retry +proxywrite ~proxywrite +#smtp +#smtpd +#dnsblog +#tlsproxy obsolete protocols +postlog`)

// upgradeConfiguration brings master.cf and main.cf of an older release up to
// date.
func (t *tool) upgradeConfiguration() int {
	fail := func(err error) int {
		fmt.Fprintf(t.env.Stderr, "post-install: Error: %v\n", err)
		return 1
	}
	path := filepath.Join(t.dirs.config, "master.cf")
	text, err := os.ReadFile(path)
	if err != nil {
		return fail(err)
	}
	lines := slices.Collect(strings.Lines(string(text)))
	var settings []edit.Setting
	for _, step := range steps {
		switch {
		case step[0] == '+':
			lines = t.add(step[1:], path, lines)
		case step[0] == '~':
			t.mend(step[1:], path, lines)
		case step == "hash":
			settings = append(settings, t.hashed()...)
		case step == "protocols":
			settings = append(settings, t.protocols()...)
		default:
			if err := t.obsolete(); err != nil {
				return fail(err)
			}
		}
	}
	if changed := strings.Join(lines, ""); changed != string(text) {
		if err := replaceFile(path, []byte(changed)); err != nil {
			return fail(err)
		}
	}
	if len(settings) > 0 {
		err := edit.Replace(filepath.Join(t.dirs.config, "main.cf"), func(r io.Reader, w io.Writer) error {
			return edit.MainCF(r, w, edit.Set, settings, func(string) {})
		})
		if err != nil {
			return fail(err)
		}
	}
	return 0
}

// add appends an entry that is missing.
func (t *tool) add(name, path string, lines []string) []string {
	e := entries[slices.IndexFunc(entries, func(e entry) bool { return e.name == name })]
	if e.in(lines) {
		return lines
	}
	t.say("Editing " + path + ", adding missing entry for " + e.what)
	if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1], "\n") {
		lines[n-1] += "\n"
	}
	return append(lines, e.line+"\n")
}

// in tells whether master.cf has the entry. Of an alternative, which is
// installed behind a comment sign, either form will do.
func (e entry) in(lines []string) bool {
	name, optional := strings.CutPrefix(e.name, "#")
	program := strings.Fields(e.line)[7]
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) < 8 {
			continue
		}
		typ := words[1] == e.kind || e.name == "tlsmgr" && words[1] == "fifo"
		switch {
		case !typ:
		case optional && words[7] == program && strings.TrimPrefix(words[0], "#") == name, !optional && words[0] == name,
			e.name == "tlsmgr" && words[0] == "#tlsmgr": // the administrator does not want it
			return true
		}
	}
	return false
}

// replaceFile writes a file anew beside the old one, with its owner and mode,
// and puts it in its place.
func replaceFile(path string, text []byte) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(os.FileMode(st.Mode & 0o777))
	}
	if err == nil && os.Geteuid() == 0 {
		err = f.Chown(int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
