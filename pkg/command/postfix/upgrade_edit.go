package postfix

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/edit"
)

// A mending changes lines of master.cf that an older release installed (spec
// master.md §4.6). The first submatch is what comes before the new text, the
// second what comes after it.
type mending struct {
	line    *regexp.Regexp
	instead string
	message string
}

// fields is a pattern for that many fields of any content, with the blanks
// behind each.
func fields(n int) string { return strings.Repeat(`\S+[ \t]+`, n) }

// mendings are made in this order, between the entries that are added before
// and behind them. They are not compiled when the program starts: one executable
// holds all programs.
var mendings = sync.OnceValue(func() map[string]mending {
	return map[string]mending{
		"verify":     {regexp.MustCompile(`^(verify[ \t]+unix[ \t]+` + fields(4) + `)0([ \t]+verify.*)$`), "${1}1$2", "setting verify process limit to 1"},
		"pickup":     {regexp.MustCompile(`^(pickup[ \t]+fifo[ \t]+n[ \t]+)n([ \t]+.*)$`), "$1-$2", "making the pickup service unprivileged"},
		"cleanup":    {regexp.MustCompile(`^(cleanup[ \t]+unix[ \t]+)[-y]([ \t]+.*)$`), "${1}n$2", "making the cleanup service public"},
		"flush":      {regexp.MustCompile(`^(flush[ \t]+unix[ \t]+)[-y]([ \t]+.*)$`), "${1}n$2", "making the flush service public"},
		"tlsmgr":     {regexp.MustCompile(`^(tlsmgr[ \t]+)fifo([ \t]+` + fields(3) + `[0-9]+)\??([ \t]+.*)$`), "${1}unix$2?$3", "updating the tlsmgr from fifo to unix service"},
		"proxywrite": {regexp.MustCompile(`^(proxywrite[ \t]+unix[ \t]+` + fields(4) + `)-([ \t]+proxymap.*)$`), "${1}1$2", "setting proxywrite process limit to 1"},
	}
})

// mend applies the mending of that name to the lines.
func (t *tool) mend(name, path string, lines []string) {
	m := mendings()[name]
	told := false
	for i, line := range lines {
		body := strings.TrimSuffix(line, "\n")
		if !m.line.MatchString(body) {
			continue
		}
		if !told {
			t.say("Editing " + path + ", " + m.message)
			told = true
		}
		lines[i] = m.line.ReplaceAllString(body, m.instead) + "\n"
	}
}

// hashed returns the setting by which the directories of deferred mail are
// hashed, if main.cf forgets one. As in the original "deferred" will do for
// both.
func (t *tool) hashed() []edit.Setting {
	var missing []string
	value := t.config.String("hash_queue_names")
	names := conf.Fields(value)
	for _, name := range []string{"defer", "deferred"} {
		if !strings.Contains(value, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	t.say("fixing main.cf hash_queue_names for missing " + strings.Join(missing, " "))
	return []edit.Setting{{Name: "hash_queue_names", Value: strings.Join(append(names, missing...), " ")}}
}

// protocols returns the setting by which a configuration from before IPv6
// stays with IPv4.
func (t *tool) protocols() []edit.Setting {
	if t.config.IsSet("inet_protocols") {
		return nil
	}
	t.say(fmt.Sprintf(compatibility, filepath.Join(t.dirs.config, "main.cf")))
	return []edit.Setting{{Name: "inet_protocols", Value: "ipv4"}}
}

const compatibility = `
    COMPATIBILITY: editing %s, setting
    inet_protocols=ipv4.  Specify inet_protocols explicitly if you want
    to enable IPv6.  In a future release IPv6 will be enabled by default.`

// obsolete lists the files that earlier releases installed and this one does
// not.
func (t *tool) obsolete() error {
	records, err := t.records()
	if err != nil {
		return err
	}
	var found []string
	for _, r := range records {
		if _, err := os.Lstat(r.path); err == nil && strings.Contains(r.flags, "o") {
			found = append(found, r.path)
		}
	}
	if len(found) > 0 {
		t.say("\n    Note: the following files or directories still exist but are no\n    longer part of Postfix:\n\n     " + strings.Join(found, " ") + "\n")
	}
	return nil
}
