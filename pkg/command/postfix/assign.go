package postfix

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/edit"
)

// installed are the parameters that post-install takes as name=value, and
// writes to main.cf when one of them is new there (spec master.md §4.6).
var installed = strings.Fields(`daemon_directory command_directory queue_directory data_directory mail_owner setgid_group sendmail_path mailq_path
	newaliases_path html_directory manpage_directory sample_directory readme_directory shlib_directory meta_directory`)

// assign carries out the assignments among the arguments and returns the
// others. If a value differs from main.cf's, all are written to main.cf.
func (t *tool) assign(args []string) (rest []string, err error) {
	values := conf.Settings{}
	changed := false
	for _, arg := range args {
		name, value, assignment := strings.Cut(arg, "=")
		switch {
		case !assignment:
			rest = append(rest, arg)
			continue
		case !slices.Contains(installed, name):
			return nil, fmt.Errorf("%s: not an installation parameter", arg)
		case value == "" || strings.ContainsAny(value, " \t\n"):
			return nil, fmt.Errorf("%s: bad value", arg)
		}
		values[name] = value
		changed = changed || value != t.config.String(name)
	}
	if !changed {
		return rest, nil
	}
	var settings []edit.Setting
	for _, name := range installed {
		if _, ok := values[name]; !ok {
			values[name] = t.config.String(name)
		}
		settings = append(settings, edit.Setting{Name: name, Value: values[name]})
	}
	err = edit.Replace(filepath.Join(t.dirs.config, "main.cf"), func(r io.Reader, w io.Writer) error {
		return edit.MainCF(r, w, edit.Set, settings, func(string) {})
	})
	if err != nil {
		return nil, err
	}
	t.config = t.config.With(values)
	t.directories()
	return rest, nil
}
