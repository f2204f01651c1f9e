package maptool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// Style is what differs between postmap and postalias.
type Style struct {
	Usage     string // after "usage: NAME "
	Options   string // for getopt
	Separator string // between key and value in output
	// Fill reads the source into the writer.
	Fill func(t *Tool, src Source, w *table.Writer) error
}

// Source is a text file being made into a table.
type Source struct {
	File *os.File
	Name string // for warnings; "stdin"
	// Incremental is set for -i.
	Incremental bool
}

// Tool is one run of the command.
type Tool struct {
	Config *conf.Config
	Log    *maillog.Logger
	Tables table.Env
	Flags  table.Flags // what tables are opened with

	style       Style
	env         command.Env
	name        string
	files       []string
	configDir   string
	query, del  *string
	sequence    bool
	incremental bool
	keepUser    bool // -o
	keepMask    bool // -p
	headers     bool
	body        bool
	mime        bool
	forceUTF8   bool
	noUTF8      bool
	verbose     int
}

// usageError ends the program with the usage.
var errUsage = errors.New("usage")

// parse reads the command line.
func (t *Tool) parse(args []string) error {
	t.Flags = table.DupWarn | table.FoldFix | table.UTF8Request
	options, rest, err := getopt.Parse(args[1:], t.style.Options)
	for _, o := range options {
		if err := t.option(o); err != nil {
			return err
		}
	}
	if err != nil {
		fmt.Fprintf(t.env.Stderr, "%s: %s\n", t.name, err)
		return errUsage
	}
	t.files = rest
	return nil
}

const dupFlags = table.DupWarn | table.DupIgnore | table.DupReplace

func (t *Tool) option(o getopt.Option) error {
	value := o.Value
	switch o.Letter {
	case 'N':
		t.Flags = t.Flags&^table.Try0Null | table.Try1Null
	case 'n':
		t.Flags = t.Flags&^table.Try1Null | table.Try0Null
	case 'b':
		t.body = true
	case 'h':
		t.headers = true
	case 'm':
		t.mime = true
	case 'c':
		t.configDir = value
	case 'd', 'q':
		if t.sequence || t.query != nil || t.del != nil {
			return errors.New("specify only one of -s -q or -d")
		}
		if o.Letter == 'd' {
			t.del = &value
		} else {
			t.query = &value
		}
	case 's':
		if t.query != nil || t.del != nil {
			return errors.New("specify only one of -s or -q or -d")
		}
		t.sequence = true
	case 'f':
		t.Flags &^= table.FoldFix
	case 'F':
		t.Flags |= table.SrcRHSIsFile
	case 'i':
		t.incremental = true
	case 'o':
		t.keepUser = true
	case 'p':
		t.keepMask = true
	case 'r':
		t.Flags = t.Flags&^dupFlags | table.DupReplace
	case 'w':
		t.Flags = t.Flags&^dupFlags | table.DupIgnore
	case 'u':
		t.noUTF8, t.forceUTF8 = true, false
	case 'U':
		t.forceUTF8, t.noUTF8 = true, false
	case 'v':
		t.verbose++
	}
	return nil
}

// configure reads main.cf and settles what depends on it.
func (t *Tool) configure() error {
	c, err := conf.Load(conf.Options{
		Dir: t.directory(), ProcessName: t.name, Warn: t.Log.Warn, Error: t.Log.Error,
		Fatal: func(format string, a ...any) { panic(fatal{fmt.Sprintf(format, a...)}) },
	})
	if err != nil {
		return err
	}
	t.Config = c
	t.Log.Reset(t.logConfig(c))
	message := t.headers || t.body
	if t.noUTF8 || message && !t.forceUTF8 || !t.forceUTF8 && !c.Bool("smtputf8_enable") {
		t.Flags &^= table.UTF8Request
	}
	t.Tables = table.Env{Config: c, Log: t.Log, Strict: true, ForceUTF8: t.forceUTF8}
	return nil
}

// fatal carries a bad parameter value out of conf's getters to Run.
type fatal struct{ text string }

func (t *Tool) directory() string {
	if t.configDir != "" {
		return t.configDir
	}
	dir, _ := t.env.Lookup("MAIL_CONFIG")
	return dir
}

// startLog is the logging before main.cf is read.
func (t *Tool) startLog() {
	t.Log = maillog.New(maillog.Config{
		Tag: "postfix/" + t.name, StderrTag: t.name, Stderr: true, StderrOnly: true, ErrorOutput: t.env.Stderr,
	})
}

func (t *Tool) logConfig(c *conf.Config) maillog.Config {
	cfg := maillog.Config{
		Tag: c.String("syslog_name") + "/" + t.name, StderrTag: t.name, Stderr: true, ErrorOutput: t.env.Stderr,
		Facility: c.String("syslog_facility"), Hostname: c.String("myhostname"),
		Verbose: t.verbose, UTF8: c.Bool("smtputf8_enable"),
	}
	if file := c.String("maillog_file"); file != "" {
		cfg.PostlogSocket = filepath.Join(c.String("queue_directory"), "public", c.String("postlog_service_name"))
		cfg.FallbackFile = file
	}
	return cfg
}

// spec completes a table name without type.
func (t *Tool) spec(arg string) string {
	if strings.Contains(arg, ":") {
		return arg
	}
	return t.Config.String("default_database_type") + ":" + arg
}
