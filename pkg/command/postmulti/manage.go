package postmulti

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf/edit"
	"posthaste/pkg/sys/maillog"
)

const fatalLevel = maillog.LevelFatal

// action is what -e can do.
type action struct {
	assigns bool // takes -I and -G
	makes   bool // adds an instance: takes param=value
	run     func(t *tool, i *instance) error
}

var actions = map[string]action{
	"init":    {run: (*tool).initialize},
	"create":  {assigns: true, makes: true, run: (*tool).create},
	"import":  {assigns: true, makes: true, run: (*tool).create},
	"assign":  {assigns: true, run: (*tool).assign},
	"enable":  {run: func(t *tool, i *instance) error { return t.enable(i, "yes") }},
	"disable": {run: func(t *tool, i *instance) error { return t.enable(i, "no") }},
	"deport":  {run: (*tool).deport},
	"destroy": {run: (*tool).destroy},
}

// manage is -e.
func (t *tool) manage() int {
	target, err := t.target()
	if err != nil {
		t.log.Fatal("%v", err)
	}
	if err := t.initialized(); err != nil {
		t.script.Fatal("%v", err)
	}
	if err := actions[t.action].run(t, target); err != nil {
		t.script.Fatal("%v", err)
	}
	return 0
}

// target is the instance to be changed, or the one to be made.
func (t *tool) target() (*instance, error) {
	a := actions[t.action]
	if t.action == "init" {
		return t.instances[0], nil
	}
	if a.makes {
		return t.proposed()
	}
	found := t.selected()
	if len(found) == 0 {
		return nil, fmt.Errorf("No instance named %s", t.name) //lint:ignore ST1005 the original's words
	}
	i := found[0]
	if t.action == "deport" || t.action == "destroy" {
		switch {
		case i.primary:
			return nil, errors.New("Cannot remove the primary instance") //lint:ignore ST1005 the original's words
		case i.enabled:
			return nil, errors.New("Cannot remove enabled instances") //lint:ignore ST1005 the original's words
		}
	}
	if a.assigns {
		return i, t.conflict(t.renamed(i))
	}
	return i, nil
}

// renamed is the instance as it will be. It takes the old one's place.
func (t *tool) renamed(i *instance) *instance {
	after := *i
	if t.newName != nil {
		after.name = *t.newName
	}
	if t.newGroup != nil {
		after.group = *t.newGroup
	}
	for n := range t.instances {
		if t.instances[n] == i {
			t.instances[n] = &after
		}
	}
	return &after
}

// initialized tells whether -e init was done.
func (t *tool) initialized() error {
	switch {
	case t.action == "init":
		return nil
	case t.config.String("multi_instance_wrapper") == "":
		return errors.New("multi_instance_wrapper is empty, run 'postmulti -e init' first.") //lint:ignore ST1005 the original's words
	case !t.config.Bool("multi_instance_enable"):
		return errors.New("multi_instance_enable!=yes, run 'postmulti -e init' first.") //lint:ignore ST1005 the original's words
	}
	return nil
}

// change sets parameters in an instance's main.cf.
func change(dir string, settings ...edit.Setting) error {
	return edit.Replace(filepath.Join(dir, "main.cf"), editor(edit.Set, settings))
}

func (t *tool) initialize(i *instance) error {
	return change(i.config,
		edit.Setting{Name: "multi_instance_wrapper", Value: "${command_directory}/postmulti -p --"},
		edit.Setting{Name: "multi_instance_enable", Value: "yes"})
}

func (t *tool) enable(i *instance, value string) error {
	return change(i.config, edit.Setting{Name: "multi_instance_enable", Value: value})
}

// assign gives the name and group that are new, if any is.
func (t *tool) assign(i *instance) error { return t.label(i) }

func (t *tool) label(i *instance) error {
	var settings []edit.Setting
	if t.newGroup != nil && *t.newGroup != i.group {
		settings = append(settings, edit.Setting{Name: "multi_instance_group", Value: *t.newGroup})
	}
	if t.newName != nil && *t.newName != i.name {
		settings = append(settings, edit.Setting{Name: "multi_instance_name", Value: *t.newName})
	}
	if len(settings) == 0 {
		return nil
	}
	return change(i.config, settings...)
}

// secondaries are the directories of all instances but the primary and dir.
func (t *tool) secondaries(dir string) []string {
	var out []string
	for _, i := range t.instances[1:] {
		if i.config != dir {
			out = append(out, i.config)
		}
	}
	return out
}

// alternates is alternate_config_directories without dir; had tells whether
// dir was in it.
func (t *tool) alternates(dir string) (rest []string, had bool) {
	for _, d := range t.config.List("alternate_config_directories") {
		if d == dir {
			had = true
		} else {
			rest = append(rest, d)
		}
	}
	return rest, had
}

func directories(list []string) edit.Setting {
	return edit.Setting{Name: "multi_instance_directories", Value: strings.Join(list, " ")}
}

func alternates(list []string) edit.Setting {
	return edit.Setting{Name: "alternate_config_directories", Value: strings.Join(list, " ")}
}

// stopped refuses to touch an instance that runs.
func (t *tool) stopped(i *instance) error {
	cmd := exec.Command(t.commandDir+"/postfix", "-c", i.config, "status")
	cmd.Env, cmd.Stdout, cmd.Stderr = t.env.Environ, t.env.Stdout, t.env.Stderr
	err := cmd.Run()
	if err == nil {
		return fmt.Errorf("Instance '%s' is not stopped", i.config) //lint:ignore ST1005 the original's words
	}
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return fmt.Errorf("cannot execute %s: %w", cmd.Path, reason(err))
	}
	return nil
}

// deport takes an instance from the list; commands still accept its directory.
func (t *tool) deport(i *instance) error {
	if err := t.stopped(i); err != nil {
		return err
	}
	rest, _ := t.alternates(i.config)
	return change(t.instances[0].config, directories(t.secondaries(i.config)), alternates(append(rest, i.config)))
}

// queues are what a queue directory has in it.
var queues = []string{
	"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "pid", "private", "public", "saved", "trace",
}

// destroy removes an instance and those of its directories that are empty.
func (t *tool) destroy(i *instance) error {
	if err := t.stopped(i); err != nil {
		return err
	}
	settings := []edit.Setting{directories(t.secondaries(i.config))}
	if rest, had := t.alternates(i.config); had {
		settings = append(settings, alternates(rest))
	}
	if err := change(t.instances[0].config, settings...); err != nil {
		return err
	}
	for _, name := range queues {
		t.rmdir(filepath.Join(i.queue, name), name)
	}
	t.rmdir(i.data, i.data)
	t.rmdir(i.queue, i.queue)
	for _, name := range []string{"main.cf", "master.cf"} {
		if err := os.Remove(filepath.Join(i.config, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s/%s: %w", i.config, name, reason(err))
		}
	}
	t.rmdir(i.config, i.config)
	return nil
}

// rmdir removes an empty directory. name is what the message calls it, as
// rmdir(1) does.
func (t *tool) rmdir(path, name string) {
	err := unix.Rmdir(path)
	if err == nil || err == unix.ENOENT {
		return
	}
	fmt.Fprintf(t.env.Stderr, "rmdir: failed to remove '%s': %v\n", name, maillog.Errno(err))
	t.script.Warn("%s: please verify contents and remove by hand", path)
}

// reason is a system error without the path in front.
func reason(err error) error {
	var pe *fs.PathError
	var ee *exec.Error
	switch {
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &ee):
		err = ee.Err
	}
	return maillog.Errno(err)
}
