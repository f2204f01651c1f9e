package postfix

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
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
	{"flush", "unix", "flush service", "flush\t  unix\tn\t-\tn\t1000?\t0\tflush"},
	{"trace", "unix", "trace service", "trace\t  unix\t-\t-\tn\t-\t0\tbounce"},
	{"verify", "unix", "verify service", "verify\t  unix\t-\t-\tn\t-\t1\tverify"},
	{"proxymap", "unix", "proxymap service", "proxymap  unix\t-\t-\tn\t-\t-\tproxymap"},
	{"anvil", "unix", "anvil service", "anvil\t  unix\t-\t-\tn\t-\t1\tanvil"},
	{"scache", "unix", "scache service", "scache\t  unix\t-\t-\tn\t-\t1\tscache"},
	{"discard", "unix", "discard service", "discard\t  unix\t-\t-\tn\t-\t-\tdiscard"},
	{"tlsmgr", "unix", "tlsmgr service", "tlsmgr    unix  -       -       n       1000?   1       tlsmgr"},
	{"retry", "unix", "retry service", "retry\t  unix\t-\t-\tn\t-\t-\terror"},
	{"proxywrite", "unix", "proxywrite service", "proxywrite unix\t-\t-\tn\t-\t1\tproxymap"},
	{"#smtp", "inet", "postscreen TCP service", "#smtp      inet  n       -       n       -       1       postscreen"},
	{"#smtpd", "pass", "smtpd unix-domain service", "#smtpd     pass  -       -       n       -       -       smtpd"},
	{"#dnsblog", "unix", "dnsblog unix-domain service", "#dnsblog   unix  -       -       n       -       0       dnsblog"},
	{"#tlsproxy", "unix", "tlsproxy unix-domain service", "#tlsproxy  unix  -       -       n       -       0       tlsproxy"},
	{"postlog", "unix-dgram", "postlog unix-domain datagram service", "postlog   unix-dgram n  -       n       -       1       postlogd"},
}

// upgradeConfiguration appends the services that master.cf lacks. Changes of
// existing lines, which releases before 2.10 needed, are not made.
func (t *tool) upgradeConfiguration() int {
	path := filepath.Join(t.dirs.config, "master.cf")
	text, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintf(t.env.Stderr, "post-install: Error: %v\n", err)
		return 1
	}
	have := map[string]bool{}
	for _, line := range bytes.Split(text, []byte("\n")) {
		words := bytes.Fields(line)
		if len(words) >= 8 {
			have[string(words[0])+" "+string(words[1])+" "+string(words[7])] = true
			have[strings.TrimPrefix(string(words[0]), "#")+" "+string(words[1])] = have[strings.TrimPrefix(string(words[0]), "#")+" "+string(words[1])] || !bytes.HasPrefix(words[0], []byte("#"))
		}
	}
	added := text
	for _, e := range entries {
		name, optional := strings.CutPrefix(e.name, "#")
		program := strings.Fields(e.line)[7]
		present := have[name+" "+e.kind]
		if optional {
			present = have[e.name+" "+e.kind+" "+program] || have[name+" "+e.kind+" "+program]
		}
		if present {
			continue
		}
		fmt.Fprintf(t.env.Stdout, "Editing %s, adding missing entry for %s\n", path, e.what)
		if len(added) > 0 && added[len(added)-1] != '\n' {
			added = append(added, '\n')
		}
		added = append(added, e.line+"\n"...)
	}
	if len(added) == len(text) {
		return 0
	}
	if err := replaceFile(path, added); err != nil {
		fmt.Fprintf(t.env.Stderr, "post-install: Error: %v\n", err)
		return 1
	}
	return 0
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
