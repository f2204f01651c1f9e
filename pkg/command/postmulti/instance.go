package postmulti

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/service/logging"
)

// instance is a mail system: its directories, and how it is managed.
type instance struct {
	config, queue, data string
	name, group         string
	enabled, primary    bool
}

// wanted are the parameters of an instance that postconf is asked for.
var wanted = []string{"queue_directory", "data_directory", "multi_instance_name", "multi_instance_group", "multi_instance_enable"}

// load finds the instances and sees to it that none takes another's place.
func (t *tool) load() error {
	c := t.config
	first := &instance{
		config: c.Dir(), queue: c.String("queue_directory"), data: c.String("data_directory"),
		name: c.String("multi_instance_name"), group: c.String("multi_instance_group"), primary: true,
	}
	t.instances = append(t.instances, first)
	directories := c.List("multi_instance_directories")
	first.enabled = c.Bool("multi_instance_enable") || len(directories) == 0
	if t.mode == 'e' && t.action == "init" {
		return nil
	}
	for _, dir := range directories {
		i, err := t.read(dir)
		if err != nil {
			return err
		}
		if err := t.conflict(i); err != nil {
			return err
		}
		t.instances = append(t.instances, i)
	}
	return nil
}

// read asks postconf about an instance.
func (t *tool) read(dir string) (*instance, error) {
	cmd := exec.Command(t.commandDir+"/postconf", append([]string{"-xc", dir}, wanted...)...)
	cmd.Env, cmd.Stderr = t.env.Environ, t.env.Stderr
	out, err := cmd.Output()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return nil, fmt.Errorf("Cannot execute %s: %v", cmd.Path, err)
	}
	i, err := parseInstance(dir, out)
	if err == nil && ended != nil {
		err = fmt.Errorf("Cannot parse %s/main.cf file", dir)
	}
	return i, err
}

// parseInstance reads what postconf says.
func parseInstance(dir string, text []byte) (*instance, error) {
	i := &instance{config: dir}
	seen := map[string]bool{}
	for line := range bytes.Lines(text) {
		line := strings.TrimSuffix(string(line), "\n")
		name, value, err := conf.SplitNameValue(line)
		if err != nil {
			return nil, fmt.Errorf("Invalid %s/main.cf parameter: %s", dir, line)
		}
		if !i.set(name, value) {
			return nil, fmt.Errorf("Unexpected %s/main.cf entry: %s = %s", dir, name, value)
		}
		seen[name] = true
	}
	if len(seen) != len(wanted) {
		return nil, fmt.Errorf("Failed to obtain all required %s/main.cf parameters", dir)
	}
	return i, nil
}

func (i *instance) set(name, value string) bool {
	texts := map[string]*string{
		"queue_directory": &i.queue, "data_directory": &i.data, "multi_instance_name": &i.name, "multi_instance_group": &i.group,
	}
	if p, ok := texts[name]; ok {
		*p = value
		return true
	}
	if name != "multi_instance_enable" {
		return false
	}
	i.enabled = strings.EqualFold(value, "yes")
	return i.enabled || strings.EqualFold(value, "no")
}

// field is what must be different in each instance.
type field struct{ name, value string }

func (i *instance) fields() []field {
	return []field{
		{"multi_instance_name", i.name}, {"config_directory", i.config}, {"queue_directory", i.queue}, {"data_directory", i.data},
	}
}

// conflict looks for another instance with a name or directory of this one.
// A directory is no other's, whatever that one uses it for.
func (t *tool) conflict(i *instance) error {
	for _, other := range t.instances {
		if other == i {
			continue
		}
		for _, mine := range i.fields() {
			for _, theirs := range other.fields() {
				named := mine.name == "multi_instance_name"
				if mine.value == "" || mine.value != theirs.value || named != (theirs.name == "multi_instance_name") {
					continue
				}
				return fmt.Errorf("instance %s, %s=%s conflicts with instance %s, %s=%s",
					i.config, mine.name, mine.value, other.config, theirs.name, theirs.value)
			}
		}
	}
	return nil
}

// matches tells whether this is the instance that -i names.
func (i *instance) matches(name string) bool {
	switch {
	case name == "-":
		return i.primary
	case strings.HasPrefix(name, "/"):
		return i.config == name
	}
	return i.name != "" && (i.name == name || i.name == "postfix-"+name)
}

// selected are the instances that -a, -g or -i names.
func (t *tool) selected() []*instance {
	var out []*instance
	for _, i := range t.instances {
		if t.nobody || t.name != "" && !i.matches(t.name) || t.group != "" && i.group != t.group {
			continue
		}
		out = append(out, i)
	}
	if t.reverse {
		slices.Reverse(out)
	}
	return out
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func (t *tool) list() int {
	for _, i := range t.selected() {
		enabled := "n"
		if i.enabled {
			enabled = "y"
		}
		fmt.Fprintf(t.env.Stdout, "%-15s %-15s %-9s %s\n", dash(i.name), dash(i.group), enabled, i.config)
	}
	return 0
}

// environ is the environment of a command for an instance.
func (t *tool) environ(i *instance) []string {
	path, _ := t.env.Lookup("PATH")
	enabled := "no"
	if i.enabled {
		enabled = "yes"
	}
	env := append(slices.Clone(t.env.Environ),
		"MAIL_CONFIG="+i.config, "MAIL_LOGTAG="+t.config.String("syslog_name"),
		"daemon_directory="+t.daemonDir, "command_directory="+t.commandDir,
		"config_directory="+i.config, "queue_directory="+i.queue, "data_directory="+i.data,
		"multi_instance_name="+i.name, "multi_instance_group="+i.group, "multi_instance_enable="+enabled,
		"PATH="+t.commandDir+":"+path)
	if t.verbose > 0 {
		env = append(env, logging.EnvVerbose+"=")
	}
	return env
}

// each runs a command for each instance; words may change it.
func (t *tool) each(instances []*instance, words func(*instance) []string) int {
	if len(instances) == 0 {
		t.log.Fatal("No matching instances")
	}
	code := 0
	for _, i := range instances {
		if argv := words(i); len(argv) > 0 && !t.command(i, argv) {
			code = 1
		}
	}
	return code
}

// command runs one, and reports whether it succeeded.
func (t *tool) command(i *instance, argv []string) bool {
	env := t.environ(i)
	path, err := search(argv[0], t.commandDir+":"+os.Getenv("PATH"))
	if err == nil {
		cmd := &exec.Cmd{Path: path, Args: argv, Env: env, Stdin: t.env.Stdin, Stdout: t.env.Stdout, Stderr: t.env.Stderr}
		err = cmd.Run()
	}
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.log.Log(fatalLevel, "execvp %s: %v", argv[0], reason(err))
	}
	return err == nil
}

// postfix is -p: a postfix command, with respect to who is enabled.
func (t *tool) postfix() int {
	in := func(list string) bool { return slices.Contains(t.config.List(list), t.words[0]) }
	start, stop, control := in("postmulti_start_commands"), in("postmulti_stop_commands"), in("postmulti_control_commands")
	instances := t.selected()
	if stop {
		slices.Reverse(instances)
	}
	return t.each(instances, func(i *instance) []string {
		argv := []string{t.commandDir + "/postfix", "--"}
		switch {
		case i.enabled || !start && !stop && !control:
			return append(argv, t.words...)
		case start:
			return append(argv, "check")
		}
		return nil
	})
}

// execute is -x: any command.
func (t *tool) execute() int {
	return t.each(t.selected(), func(*instance) []string { return t.words })
}
