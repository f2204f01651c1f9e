// Package postmulti is the command that runs other commands for several
// instances of the mail system, and makes, changes and removes instances (spec
// master.md §6). What the original leaves to a shell script, postmulti-script,
// is done here; of other programs it runs postconf, to see an instance as the
// instance does, and postfix.
package postmulti

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/service/logging"
	"posthaste/pkg/sys/maillog"
)

const usageText = "Usage:%[1]s -l [-v] [-a] [-g group] [-i instance] | %[1]s -p [-v] [-a] [-g group] [-i instance] command... | " +
	"%[1]s -x [-v] [-a] [-i name] [-g group] command... | " +
	"%[1]s -e action [-v] [-a] [-i name] [-g group] [-I name] [-G group] [param=value ...]"

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as. The exit status
// is 1 when anything failed for any instance.
func Run(args []string, env command.Env) int {
	return command.Catch(func() int { return run(args, env) })
}

// tool is one run of the command.
type tool struct {
	env    command.Env
	log    *maillog.Logger // as "postmulti"
	script *maillog.Logger // as "SYSLOG_NAME/postmulti-script"
	config *conf.Config    // of the primary instance
	request
	instances []*instance // the primary first

	commandDir, daemonDir, metaDir string
}

// request is the command line.
type request struct {
	mode      byte // e, l, p or x
	action    string
	all       bool
	group     string // -g
	name      string // -i
	named     bool   // -i was given
	selectors int    // how many of -a, -g, -i
	nobody    bool   // -g or -i with nothing, which nobody is called
	newGroup  *string
	newName   *string
	reverse   bool
	verbose   int
	words     []string
}

func run(args []string, env command.Env) int {
	t := &tool{env: env}
	syscall.Umask(0o022)
	logs := maillog.Config{
		Tag: "postmulti", Stderr: command.IsTerminal(env.Stderr), LastResort: true, ErrorOutput: env.Stderr, Exit: command.Exit,
	}
	logs.PostlogSocket, _ = env.Lookup(logging.EnvService)
	logs.Hostname, _ = env.Lookup(logging.EnvHost)
	t.log = maillog.New(logs)
	if logging.SetID() {
		t.log.Fatal("the postmulti command must not run as a set-uid process")
	}
	if err := t.configure(logs); err != nil {
		t.log.Fatal("%v", err)
	}
	if err := t.parse(args); err != nil {
		t.log.Fatal("%v", err)
	}
	if err := t.load(); err != nil {
		t.log.Fatal("%v", err)
	}
	do := map[byte]func() int{'l': t.list, 'p': t.postfix, 'x': t.execute, 'e': t.manage}
	return do[t.mode]()
}

// configure reads the primary instance's main.cf and opens both logs.
func (t *tool) configure(logs maillog.Config) error {
	dir, _ := t.env.Lookup("MAIL_CONFIG")
	c, err := conf.Load(conf.Options{Dir: dir, ProcessName: "postmulti", Fatal: t.log.Fatal, Warn: t.log.Warn, Error: t.log.Error})
	if err != nil {
		return err
	}
	t.config = c
	if logs, err = logging.Configured(c, "postmulti-script", logs); err != nil {
		return err
	}
	logs.FallbackFile = c.String("maillog_file")
	logs.StderrTag = logs.Tag
	t.script = maillog.New(logs)
	logs.Tag, logs.StderrTag = "postmulti", "postmulti"
	t.log.Reset(logs)
	if err := logging.Export(c, logs); err != nil {
		return err
	}
	if dir != "" && dir != conf.DefaultDir {
		return fmt.Errorf("Non-default configuration directory: MAIL_CONFIG=%s", dir)
	}
	t.commandDir, t.daemonDir, t.metaDir = c.String("command_directory"), c.String("daemon_directory"), c.String("meta_directory")
	return nil
}

// The original's words for a bad command line.
var (
	errMode    = errors.New("Specify exactly one of '-e', '-l', '-p', '-x'")
	errSelect  = errors.New("Specity no more than one of '-a', '-g', '-i'")
	errNoWords = errors.New("Command not allowed with '-l'")
	errWords   = errors.New("Command required with '-p' or '-x' option")
	errReverse = errors.New("The '-p' and '-e' options preclude the use of '-R'")
	errAssign  = errors.New("Cannot assign instance name or group without '-e assign'")
	errNewName = errors.New("New instance name must start with 'postfix-'")
	errAction  = errors.New("Select an instance via '-i name'")
)

func (t *tool) parse(args []string) error {
	given, rest, err := getopt.Parse(args[1:], "ae:g:i:G:I:lpRvx")
	if err != nil {
		fmt.Fprintf(t.env.Stderr, "%s: %v\n", args[0], err)
		return fmt.Errorf(usageText, args[0])
	}
	modes, seen := 0, map[byte]bool{}
	for _, g := range given {
		value := g.Value
		switch {
		case strings.IndexByte("gi", g.Letter) >= 0, g.Letter == 'a' && !seen['a']:
			t.selectors++
		case strings.IndexByte("elpx", g.Letter) >= 0 && !seen[g.Letter]:
			modes++
		}
		seen[g.Letter] = true
		switch g.Letter {
		case 'e', 'l', 'p', 'x':
			t.mode = g.Letter
			if g.Letter == 'e' {
				t.action = value
				if _, ok := actions[value]; !ok {
					return fmt.Errorf("Invalid '-e' edit action '%s'. Specify 'create', 'destroy', 'import', 'deport', 'enable', 'disable', 'assign' or 'init'", value)
				}
			}
		case 'a':
			t.all = true
		case 'g':
			t.group, t.nobody = value, value == ""
		case 'i':
			t.name, t.named, t.nobody = value, true, value == ""
		case 'G':
			t.newGroup = clear(value)
		case 'I':
			if value != "-" && !strings.HasPrefix(value, "postfix-") && t.mode == 'e' && actions[t.action].assigns {
				return errNewName
			}
			t.newName = clear(value)
		case 'R':
			t.reverse = true
		case 'v':
			t.verbose++
		}
	}
	t.words = rest
	return t.check(modes)
}

// clear is the value of -G or -I: "-" is none.
func clear(value string) *string {
	if value == "-" {
		value = ""
	}
	return &value
}

// check looks for what does not go together.
func (t *tool) check(modes int) error {
	assigns := t.newName != nil || t.newGroup != nil
	a := actions[t.action]
	switch {
	case t.selectors > 1:
		return errSelect
	case modes != 1:
		return errMode
	case t.mode == 'l' && len(t.words) > 0:
		return errNoWords
	case (t.mode == 'p' || t.mode == 'x') && len(t.words) == 0:
		return errWords
	case (t.mode == 'p' || t.mode == 'e') && t.reverse:
		return errReverse
	case t.mode != 'e' && assigns:
		return errAssign
	case t.mode != 'e':
		return nil
	case assigns && !a.assigns:
		return fmt.Errorf("Cannot assign instance name or group with '-e %s'", t.action)
	case !a.makes && len(t.words) > 0:
		return fmt.Errorf("Parameter overrides not valid with '-e %s'", t.action)
	case t.action == "assign" && !assigns:
		return errors.New("Specify new instance name or group with '-e assign'")
	case t.newName != nil && *t.newName != "" && !strings.HasPrefix(*t.newName, "postfix-"):
		return errNewName
	case !a.makes && t.action != "init" && !t.named:
		return errAction
	}
	return nil
}
