// Package qshape is the command qshape: it counts what waits in the queue by
// domain and by age (spec queue.md §7).
//
// A file that cannot be read, or is not a complete message, is not counted
// and not an error: the queue is in use meanwhile.
package qshape

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Exit statuses.
const (
	exitUsage    = 255
	exitNoQueues = 2 // the queue directory cannot be entered
	exitNoConfig = 1
)

// settings are the options.
type settings struct {
	senders   bool // -s
	parents   bool // -p
	linear    bool // -l
	children  int  // -m: a parent needs so many
	buckets   int  // -b
	tick      int  // -t, minutes
	width     int  // -w
	topN      int  // -n: rows of an intermediate table
	batch     int  // -N: messages between them
	configDir string
	help      bool
	queues    []string
}

const synopsis = `Usage: %s [ -s ] [ -p ] [ -m <min_subdomains> ] [ -l ]
	[ -b <bucket_count> ] [ -t <bucket_time> ] [ -w <terminal_width> ]
	[ -N <batch_msg_count> ] [ -n <batch_top_domains> ]
	[ -c <config_directory> ] [ <queue_name> ... ]
-s counts by sender domain; without it each recipient counts.
-p counts for parent domains, too, shown with a leading dot, if they have
   at least <min_subdomains> (5) direct subdomains and are no top-level domain.
-b is the number of age columns (10) and -t the width of the first in minutes
   (5). Each further column is twice as wide as the one before; with -l all
   are equal.
-w is the width of the table (80).
On a terminal the table is shown again after each <batch_msg_count> (1000)
messages, and only its first <batch_top_domains> (20) rows.
The queues are incoming and active, or those named: absolute paths, or names
in queue_directory, which is taken from main.cf in <config_directory>.
`

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	s, err := parse(args[1:])
	if err != nil {
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], err)
	}
	if err != nil || s.help {
		fmt.Fprintf(env.Stderr, synopsis, args[0])
		return exitUsage
	}
	dir, code, err := base(s)
	if err != nil {
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], err)
		return code
	}
	out := bufio.NewWriter(env.Stdout)
	c := newCounter(s, time.Now())
	c.terminal = command.IsTerminal(env.Stdout)
	c.out = out
	for _, name := range s.queues {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, name)
		}
		if err := c.walk(path, 0); err != nil {
			fmt.Fprintf(env.Stderr, "Can't stat %s: %v\n", name, maillog.Errno(err))
		}
	}
	c.print(true)
	if out.Flush() != nil {
		return 1
	}
	return 0
}

func parse(args []string) (settings, error) {
	s := settings{children: 5, buckets: 10, tick: 5, width: 80, topN: 20, batch: 1000}
	options, rest, err := getopt.Parse(args, "lhc:psw:b:t:m:n:N:")
	if err != nil {
		text := err.Error()
		return s, fmt.Errorf("Unknown option: %c", text[len(text)-2])
	}
	numbers := map[byte]*int{'m': &s.children, 'b': &s.buckets, 't': &s.tick, 'n': &s.topN, 'N': &s.batch}
	flags := map[byte]*bool{'l': &s.linear, 'h': &s.help, 'p': &s.parents, 's': &s.senders}
	for _, o := range options {
		switch {
		case flags[o.Letter] != nil:
			*flags[o.Letter] = true
		case o.Letter == 'c':
			s.configDir = o.Value
		case o.Letter == 'w':
			if n := number(o.Value); n > s.width {
				s.width = n
			}
		default:
			if n := number(o.Value); n > 0 {
				*numbers[o.Letter] = n
			}
		}
	}
	s.buckets = min(s.buckets, maxBuckets)
	s.queues = rest
	if len(rest) == 0 {
		s.queues = []string{queue.Incoming, queue.Active}
	}
	return s, nil
}

// maxBuckets keeps the heading of the last column a number.
const maxBuckets = 50

// number reads the digits at the head of text.
func number(text string) int {
	end := 0
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(text[:end])
	if err != nil || n > 1<<20 {
		return 0
	}
	return n
}

// base finds queue_directory if it is needed.
func base(s settings) (dir string, exit int, err error) {
	relative := false
	for _, name := range s.queues {
		relative = relative || !filepath.IsAbs(name)
	}
	if !relative {
		return "", 0, nil
	}
	var fatal error
	cfg, err := conf.Load(conf.Options{Dir: s.configDir, ProcessName: "qshape", Fatal: func(format string, a ...any) { fatal = fmt.Errorf(format, a...) }})
	if err != nil {
		return "", exitNoConfig, err
	}
	dir = cfg.String("queue_directory")
	if fatal != nil {
		return "", exitNoConfig, fatal
	}
	if _, err := os.Stat(dir); err != nil {
		return "", exitNoQueues, fmt.Errorf("chdir(%s): %w", dir, maillog.Errno(err))
	}
	return dir, 0, nil
}

const (
	walkBatch = 512
	walkDepth = 64 // directories below each other; more is a loop or a mistake
)

// walk counts the messages in a directory and those below it, a batch of
// names at a time.
func (c *counter) walk(path string, depth int) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(walkBatch)
		for _, e := range entries {
			full := filepath.Join(path, e.Name())
			switch {
			case e.IsDir() && depth < walkDepth:
				_ = c.walk(full, depth+1) // it may have gone meanwhile
			case e.Type().IsRegular() && candidate(e.Name()):
				c.file(full)
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// candidate reports whether a name can be that of a message.
func candidate(name string) bool {
	return len(name) >= 6 && queue.ValidID(name) && !strings.Contains(name, "_")
}
