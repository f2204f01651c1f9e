// Package postfix is the command that starts, stops and checks the mail system
// (spec master.md §4). Where the original runs shell scripts, everything here
// is done by the program itself; only postsuper, postqueue and master are run.
//
// An ordinary user may use it for a configuration whose queue_directory is his
// own (rootless, DESIGN §6).
package postfix

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/service/logging"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// tool is one run of the command.
type tool struct {
	env      command.Env
	log      *maillog.Logger // as "postfix"
	script   *maillog.Logger // as "SYSLOG_NAME/postfix-script"
	logs     maillog.Config  // of other names
	config   *conf.Config
	environ  []string // of the programs that are run
	dirs     directories
	rootless bool
	explicit bool // MAIL_CONFIG was given
	sleep    func(time.Duration)

	defaultInstances []string // multi_instance_directories of the default instance
}

// directories are the parameters that say where things are.
type directories struct {
	command, daemon, data, meta, queue, config, shlib string
	owner, setgid                                     string
}

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	return command.Catch(func() int { return run(args, env) })
}

func run(args []string, env command.Env) int {
	t := &tool{env: env, sleep: time.Sleep}
	syscall.Umask(0o022)
	logs := maillog.Config{
		Tag: "postfix", Stderr: command.IsTerminal(env.Stderr), LastResort: true, ErrorOutput: env.Stderr,
		Exit: command.Exit,
	}
	if !logging.SetID() {
		logs.PostlogSocket, _ = env.Lookup(logging.EnvService)
		logs.Hostname, _ = env.Lookup(logging.EnvHost)
	}
	t.log = maillog.New(logs)
	if logging.SetID() {
		t.log.Fatal("the postfix command must not run as a set-uid process")
	}
	words := t.options(args)
	t.configure(logs, words)
	t.compatibility()
	t.environment()
	for _, dir := range []string{t.dirs.command, t.dirs.daemon, t.dirs.queue} {
		if err := os.Chdir(dir); err != nil && !(dir == t.dirs.queue && t.rootless) {
			t.log.Fatal("chdir(%s): %v", dir, reason(err))
		}
	}
	if !t.explicit && len(t.config.List("multi_instance_directories")) > 0 {
		return t.multi(words)
	}
	return t.run(words)
}

// options reads the command line and puts what it says into the environment.
func (t *tool) options(args []string) (words []string) {
	_, t.explicit = t.env.Lookup("MAIL_CONFIG")
	given, rest, err := getopt.Parse(args[1:], "c:Dv")
	if err != nil {
		t.notRoot(os.Geteuid() == 0)
	}
	for _, o := range given {
		switch o.Letter {
		case 'c':
			if !strings.HasPrefix(o.Value, "/") {
				t.log.Fatal("-c requires absolute pathname")
			}
			t.set("MAIL_CONFIG", o.Value)
			t.explicit = true
		case 'D':
			t.set("MAIL_DEBUG", "")
		case 'v':
			t.set(logging.EnvVerbose, "")
		}
	}
	if err != nil {
		fmt.Fprintf(t.env.Stderr, "%s: %v\n", args[0], err)
		t.log.Fatal("usage: postfix [-c config_dir] [-Dv] command")
	}
	return rest
}

func (t *tool) set(name, value string) {
	t.env.Environ = append(t.env.Environ, name+"="+value)
	_ = os.Setenv(name, value)
}

func (t *tool) notRoot(ok bool) {
	if !ok {
		t.log.Error("to submit mail, use the Postfix sendmail command")
		t.log.Fatal("the postfix command is reserved for the superuser")
	}
}

// configure reads main.cf and opens both logs; words is the command.
func (t *tool) configure(logs maillog.Config, words []string) {
	dir, _ := t.env.Lookup("MAIL_CONFIG")
	c, err := conf.Load(conf.Options{Dir: dir, ProcessName: "postfix", Fatal: t.log.Fatal, Warn: t.log.Warn, Error: t.log.Error})
	if err != nil {
		t.notRoot(os.Geteuid() == 0 || cred.Owns(filepath.Join(conf.Directory(dir), "main.cf")))
		if slices.Equal(words, []string{"reload"}) {
			t.refuse(t.log, []string{err.Error()})
		}
		t.log.Fatal("%v", err)
	}
	t.config = c
	t.directories()
	if os.Geteuid() != 0 {
		t.rootless = cred.Owns(t.dirs.queue)
		t.notRoot(t.rootless)
	}
	t.logs = logs
	logs, err = logging.Configured(c, "postfix-script", logs)
	if err != nil {
		t.log.Fatal("%v", err)
	}
	logs.FallbackFile = c.String("maillog_file")
	logs.Stderr = logs.Stderr || t.rootless // there is hardly a syslog to look at
	logs.StderrTag = logs.Tag
	t.script = maillog.New(logs)
	logs.Tag, logs.StderrTag = "postfix", "postfix"
	t.log.Reset(logs)
	if err := logging.Export(c, logs); err != nil {
		t.log.Fatal("%v", err)
	}
}

// directories takes from the configuration where things are.
func (t *tool) directories() {
	c := t.config
	t.dirs = directories{
		command: c.String("command_directory"), daemon: c.String("daemon_directory"), data: c.String("data_directory"),
		meta: c.String("meta_directory"), queue: c.String("queue_directory"), config: c.Dir(),
		shlib: c.String("shlib_directory"), owner: c.String("mail_owner"), setgid: c.String("setgid_group"),
	}
}

// compatibility tells about a configuration of an older release.
func (t *tool) compatibility() {
	if t.config.Level().Less(3, 6) {
		t.log.Info("Postfix is using backwards-compatible default settings")
		t.log.Info("See http://www.postfix.org/COMPATIBILITY_README.html for details")
		t.log.Info("To disable backwards compatibility use \"postconf compatibility_level=3.6\" and \"postfix reload\"")
	}
}

// exported are the parameters that programs started by us see as variables.
var exported = []string{
	"command_directory", "daemon_directory", "data_directory", "meta_directory", "queue_directory", "config_directory",
	"shlib_directory", "mail_owner", "setgid_group", "sendmail_path", "mailq_path", "newaliases_path",
	"manpage_directory", "sample_directory", "readme_directory", "html_directory",
}

// environment is what the programs that we run get: import_environment, and
// the parameters.
func (t *tool) environment() {
	for _, word := range t.config.List("import_environment") {
		name, value, set := strings.Cut(word, "=")
		if !set {
			if value, set = os.LookupEnv(name); !set {
				continue
			}
		}
		t.environ = append(t.environ, name+"="+value)
	}
	t.environ = append(t.environ, "PATH=/bin:/usr/bin:/sbin:/usr/sbin", "MAIL_CONFIG="+t.dirs.config)
	for _, name := range exported {
		value := t.config.String(name)
		if name == "config_directory" {
			value = t.dirs.config
		}
		t.environ = append(t.environ, name+"="+value)
	}
}

// multi hands the command to the multi-instance manager.
func (t *tool) multi(words []string) int {
	wrapper := t.config.List("multi_instance_wrapper")
	if len(wrapper) == 0 {
		t.log.Fatal("multi-instance support is requested, but multi_instance_wrapper is empty")
	}
	argv := append(wrapper, words...)
	cmd := t.command(argv...)
	code, err := ended(cmd.Run())
	if err != nil {
		t.log.Fatal("%s: %v", argv[0], reason(err))
	}
	return code
}

// command prepares a program with our standard files.
func (t *tool) command(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = t.environ
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.env.Stdin, t.env.Stdout, t.env.Stderr
	return cmd
}

// exec runs a program with our standard files and returns its exit status.
func (t *tool) exec(argv ...string) int { return t.wait(t.command(argv...)) }

func (t *tool) wait(cmd *exec.Cmd) int {
	code, err := ended(cmd.Run())
	if err != nil {
		t.script.Log(maillog.LevelFatal, "cannot execute %s: %v", cmd.Path, reason(err))
		return 1
	}
	return code
}

// ended is the exit status of a program as a shell has it, or why it was not
// started.
func ended(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// any runs a program of the administrator's. As from a shell the exit status
// is 127 for one that is not there and 126 for one that cannot be run.
func (t *tool) any(argv []string) int {
	code, err := ended(t.command(argv...).Run())
	switch {
	case err == nil:
		return code
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(t.env.Stderr, "postfix-script: %s: not found\n", argv[0])
		return 127
	}
	fmt.Fprintf(t.env.Stderr, "postfix-script: %s: %v\n", argv[0], reason(err))
	return 126
}

// run carries out a command.
func (t *tool) run(words []string) int {
	signal.Ignore(syscall.SIGHUP)
	t.present()
	name := ""
	if len(words) > 0 {
		name = words[0]
		words = words[1:]
	}
	if strings.HasPrefix(name, "/") {
		return t.any(append([]string{name}, words...))
	}
	do, ok := commands[name]
	if !ok {
		t.script.Fatal("unknown command: '%s'. Usage: postfix start (or stop, reload, abort, flush, check, status, set-permissions, upgrade-configuration, logrotate)", name)
	}
	return do(t, words)
}

// commands are the subcommands (spec §4.3).
var commands = map[string]func(t *tool, args []string) int{
	"start":           func(t *tool, _ []string) int { return t.start() },
	"start-fg":        func(t *tool, _ []string) int { return t.startForeground() },
	"stop":            func(t *tool, _ []string) int { return t.halt() },
	"quick-stop":      func(t *tool, _ []string) int { return t.quickStop() },
	"abort":           func(t *tool, _ []string) int { return t.abort() },
	"drain":           func(t *tool, _ []string) int { return t.drain() },
	"reload":          func(t *tool, _ []string) int { return t.reload() },
	"flush":           func(t *tool, _ []string) int { return t.exec(t.dirs.command+"/postqueue", "-f") },
	"check":           func(t *tool, args []string) int { return t.check(args) },
	"check-fatal":     func(t *tool, _ []string) int { return t.checkFatal() },
	"check-warn":      func(t *tool, _ []string) int { return t.checkWarn() },
	"status":          func(t *tool, _ []string) int { return t.status() },
	"set-permissions": func(t *tool, args []string) int { return t.postInstall(append([]string{"set-permissions"}, args...)) },
	"upgrade-configuration": func(t *tool, args []string) int {
		return t.postInstall(append([]string{"upgrade-configuration"}, args...))
	},
	"post-install": func(t *tool, args []string) int { return t.postInstall(args) },
	"tls":          func(t *tool, args []string) int { return t.tls(args) },
	"logrotate":    func(t *tool, args []string) int { return t.logrotate(args) },
	"start_msg":    func(t *tool, _ []string) int { return t.say("Start postfix") },
	"stop_msg":     func(t *tool, _ []string) int { return t.say("Stop postfix") },
}

// say writes a line to standard output.
func (t *tool) say(text string) int {
	_, _ = io.WriteString(t.env.Stdout, text+"\n")
	return 0
}

// present checks that the parts of the mail system are where they should be.
func (t *tool) present() {
	for _, x := range []struct{ what, path string }{
		{"command directory", t.dirs.command}, {"daemon directory", t.dirs.daemon},
	} {
		t.directory(x.what, x.path)
	}
	if !executable(t.dirs.daemon + "/master") {
		t.script.Fatal("no Postfix master program %s/master!", t.dirs.daemon)
	}
	t.directory("configuration directory", t.dirs.config)
	if t.dirs.shlib != "no" && !t.rootless {
		t.directory("shared-library directory", t.dirs.shlib)
	}
	if !t.rootless {
		t.directory("meta directory", t.dirs.meta)
	}
	t.directory("queue directory", t.dirs.queue)
	if !executable(t.dirs.command + "/postconf") {
		t.script.Fatal("cannot execute %s/postconf!", t.dirs.command)
	}
	if err := os.Chdir(t.dirs.queue); err != nil {
		t.script.Fatal("no Postfix queue directory %s!", t.dirs.queue)
	}
}

func (t *tool) directory(what, path string) {
	if st, err := os.Stat(path); err != nil || !st.IsDir() {
		t.script.Fatal("no Postfix %s %s!", what, path)
	}
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && unix.Access(path, unix.X_OK) == nil
}

// reason is a system error without the path in front.
func reason(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return maillog.Errno(err)
}
