// Package postlog is the command that logs what it is told, for shell scripts
// (spec master.md §8.3).
package postlog

import (
	"bufio"
	"io"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/service/logging"
	"posthaste/pkg/sys/maillog"
)

const usage = "usage: postlog [-c config_dir] [-i] [-p priority] [-t tag] [-v] [text]"

// maxLine is the longest line of standard input that is logged as one record.
const maxLine = 64 << 10

// levels are the priorities of -p, without regard to case.
var levels = map[string]maillog.Level{
	"info": maillog.LevelInfo,
	"warn": maillog.LevelWarning, "warning": maillog.LevelWarning,
	"error": maillog.LevelError, "err": maillog.LevelError,
	"fatal": maillog.LevelFatal, "crit": maillog.LevelFatal,
	"panic": maillog.LevelPanic,
}

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	return command.Catch(func() int { return run(args, env) })
}

func run(args []string, env command.Env) int {
	getenv := func(name string) string { v, _ := env.Lookup(name); return v }
	logs := logging.Early("postlog", getenv)
	logs.Stderr, logs.ErrorOutput = command.IsTerminal(env.Stderr), env.Stderr
	logs.Exit = command.Exit
	log := maillog.New(logs)
	o := parse(args, log)
	level, ok := levels[strings.ToLower(o.priority)]
	if !ok {
		log.Fatal("bad severity: \"%s\"", o.priority)
	}
	if o.configDir == "" {
		o.configDir = getenv("MAIL_CONFIG")
	}
	c, err := conf.Load(conf.Options{Dir: o.configDir, ProcessName: "postlog", Fatal: log.Fatal, Warn: log.Warn, Error: log.Error})
	if err != nil {
		log.Fatal("%v", err)
	}
	if logs, err = logging.Configured(c, "postlog", logs); err != nil {
		log.Fatal("%v", err)
	}
	logs.FallbackFile = c.String("maillog_file")
	logs.StderrTag = logs.Tag
	if o.tag != "" {
		logs.Tag, logs.StderrTag = o.tag, o.tag
	}
	log.Reset(logs)
	if len(o.words) > 0 {
		write(log, level, strings.Join(o.words, " "))
		return 0
	}
	return copyLines(log, level, env.Stdin)
}

func copyLines(log *maillog.Logger, level maillog.Level, in io.Reader) int {
	r := bufio.NewReaderSize(in, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			write(log, level, strings.TrimSuffix(string(line), "\n"))
		}
		if err != nil && err != bufio.ErrBufferFull {
			return 0
		}
	}
}

// write logs one record; the two last levels cost a second, as in a program
// that ends with them.
func write(log *maillog.Logger, level maillog.Level, text string) {
	log.Log(level, "%s", text)
	if level >= maillog.LevelFatal {
		time.Sleep(time.Second)
	}
}

type options struct {
	configDir, priority, tag string
	words                    []string
}

func parse(args []string, log *maillog.Logger) options {
	syscall.Umask(0o022)
	o := options{priority: "info"}
	values := map[byte]*string{'c': &o.configDir, 'p': &o.priority, 't': &o.tag}
	given, rest, err := getopt.Parse(args[1:], "c:ip:t:v")
	if err != nil {
		log.Fatal(usage)
	}
	for _, g := range given {
		if p, takes := values[g.Letter]; takes {
			*p = g.Value
		}
	}
	o.words = rest
	return o
}
