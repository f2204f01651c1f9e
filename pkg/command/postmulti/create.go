package postmulti

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf"
	"posthaste/pkg/conf/edit"
)

// shared are the parameters that instances of one machine have in common: a
// new one gets what the primary's main.cf says, or the built-in default.
var shared = []string{
	"command_directory", "daemon_directory", "mail_owner", "setgid_group", "sendmail_path", "newaliases_path", "mailq_path",
	"html_directory", "manpage_directory", "sample_directory", "readme_directory", "shlib_directory", "meta_directory",
}

// overrides reads the param=value words of -e create and -e import.
func (t *tool) overrides(i *instance) error {
	to := map[string]*string{"config_directory": &i.config}
	if t.action == "create" {
		to["queue_directory"], to["data_directory"] = &i.queue, &i.data
	}
	for _, word := range t.words {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" {
			return fmt.Errorf("Malformed parameter setting '%s'", word) //lint:ignore ST1005 the original's words
		}
		p, ok := to[name]
		if !ok {
			return fmt.Errorf("Parameter '%s' not valid with action %s", name, t.action) //lint:ignore ST1005 the original's words
		}
		if !strings.HasPrefix(value, "/") {
			return fmt.Errorf("Parameter setting '%s' is not an absolute path", name) //lint:ignore ST1005 the original's words
		}
		*p = value
	}
	return nil
}

// proposed is the instance that is to be made: what the command line does not
// say lies beside the primary's, under the new name. It is already in its
// place among the others.
func (t *tool) proposed() (*instance, error) {
	i := &instance{}
	if err := t.overrides(i); err != nil {
		return nil, err
	}
	beside := func(dir string) string {
		if t.newName == nil || *t.newName == "" {
			return ""
		}
		return filepath.Join(filepath.Dir(dir), *t.newName)
	}
	first := t.instances[0]
	fill := func(to *string, name, like string) error {
		if *to == "" {
			*to = beside(like)
		}
		if *to == "" {
			return fmt.Errorf("Missing %s parameter value", name) //lint:ignore ST1005 the original's words
		}
		return nil
	}
	if err := fill(&i.config, "config_directory", first.config); err != nil {
		return nil, err
	}
	if err := t.inUse(i.config); err != nil {
		return nil, err
	}
	if t.action == "import" || present(i) {
		existing, err := t.read(i.config)
		if err != nil {
			return nil, err
		}
		i = existing
	} else if err := errors.Join(
		fill(&i.queue, "queue_directory", first.queue),
		fill(&i.data, "data_directory", first.data),
	); err != nil {
		text, _, _ := strings.Cut(err.Error(), "\n")
		return nil, errors.New(text)
	}
	after := *i
	if t.newName != nil {
		after.name = *t.newName
	}
	if err := t.conflict(&after); err != nil {
		return nil, err
	}
	return i, t.place(i)
}

// inUse refuses a configuration directory that an instance uses for anything.
func (t *tool) inUse(dir string) error {
	for _, other := range t.instances {
		for _, f := range other.fields()[1:] {
			if f.value == dir {
				return fmt.Errorf("new config_directory=%s is already in use by instance %s, %s=%s", dir, other.config, f.name, f.value)
			}
		}
	}
	return nil
}

// present tells whether both configuration files are there.
func present(i *instance) bool {
	for _, name := range []string{"main.cf", "master.cf"} {
		if _, err := os.Stat(filepath.Join(i.config, name)); err != nil {
			return false
		}
	}
	return true
}

// place puts the new instance before the one that -a, -g or -i selects.
func (t *tool) place(i *instance) error {
	at := len(t.instances)
	if t.selectors > 0 {
		at = slices.IndexFunc(t.instances, func(o *instance) bool {
			return !o.primary && (t.all || t.group != "" && o.group == t.group || t.name != "" && o.matches(t.name))
		})
	}
	if at < 0 && t.all {
		at = len(t.instances)
	}
	if at < 0 {
		return errors.New("No matching secondary instances") //lint:ignore ST1005 the original's words
	}
	t.instances = slices.Insert(t.instances, at, i)
	return nil
}

// create makes the instance's files as far as they are missing, and puts it on
// the list. master.cf comes last: with it the instance is complete.
func (t *tool) create(i *instance) error {
	if t.action == "import" && !present(i) {
		return fmt.Errorf("'%s' is missing main.cf or master.cf", i.config)
	}
	if !present(i) {
		if err := t.furnish(i); err != nil {
			return err
		}
	}
	if err := t.label(i); err != nil {
		return err
	}
	settings := []edit.Setting{directories(t.secondaries(""))}
	if rest, had := t.alternates(i.config); had {
		settings = append(settings, alternates(rest))
	}
	if err := change(t.instances[0].config, settings...); err != nil {
		return err
	}
	cmd := exec.Command(t.commandDir+"/postfix", "-c", i.config, "set-permissions")
	cmd.Env, cmd.Stdout, cmd.Stderr = t.env.Environ, t.env.Stdout, t.env.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("'postfix -c %s set-permissions' failed: %w", i.config, reason(err))
	}
	return nil
}

// furnish makes directories, main.cf and master.cf of a new instance.
func (t *tool) furnish(i *instance) error {
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{{i.config, 0o755}, {i.queue, 0o755}, {i.data, 0o700}} {
		if _, err := os.Stat(d.path); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
			return fmt.Errorf("mkdir %s: %w", filepath.Dir(d.path), reason(err))
		}
		if err := os.Mkdir(d.path, d.mode); err != nil {
			return fmt.Errorf("mkdir %s: %w", d.path, reason(err))
		}
	}
	main, err := t.mainCF(i)
	if err != nil {
		return err
	}
	master, err := t.template("master.cf")
	if err != nil {
		return err
	}
	if err := install(filepath.Join(i.config, "main.cf"), main); err != nil {
		return err
	}
	return install(filepath.Join(i.config, "master.cf"), master)
}

// template is the stock configuration file.
func (t *tool) template(name string) ([]byte, error) {
	path := filepath.Join(t.metaDir, name+".proto")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, reason(err))
	}
	return text, nil
}

// mainCF is the new instance's main.cf.
func (t *tool) mainCF(i *instance) ([]byte, error) {
	text, err := t.template("main.cf")
	if err != nil {
		return nil, err
	}
	primary, err := conf.ReadSettings(filepath.Join(t.instances[0].config, "main.cf"), func(string, ...any) {})
	if err != nil {
		return nil, err
	}
	var comment, set []edit.Setting
	for _, name := range shared {
		if value, ok := primary[name]; ok {
			set = append(set, edit.Setting{Name: name, Value: value})
		} else {
			comment = append(comment, edit.Setting{Name: name})
		}
	}
	set = append(set,
		edit.Setting{Name: "queue_directory", Value: i.queue}, edit.Setting{Name: "data_directory", Value: i.data},
		edit.Setting{Name: "authorized_submit_users"}, edit.Setting{Name: "master_service_disable", Value: "inet"})
	var commented, out bytes.Buffer
	if err := editor(edit.Comment, comment)(bytes.NewReader(text), &commented); err != nil {
		return nil, err
	}
	if err := editor(edit.Set, set)(&commented, &out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// editor changes main.cf; that a parameter is there twice was told when it was
// read.
func editor(op edit.Operation, settings []edit.Setting) func(r io.Reader, w io.Writer) error {
	return func(r io.Reader, w io.Writer) error {
		return edit.MainCF(r, w, op, settings, func(string) {})
	}
}

// install puts a file in place at once, on stable storage.
func install(path string, text []byte) error {
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("create %s: %w", temp, reason(err))
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return fmt.Errorf("write %s: %w", path, reason(err))
	}
	return nil
}

// search finds a program as execvp(3) does.
func search(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", unix.ENOENT
}
