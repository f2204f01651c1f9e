// Package postsuper is the command postsuper: the super-user's tool to delete,
// requeue, hold, release and expire messages, and to repair the structure of
// the queue (spec queue.md §5).
//
// Trouble with one file is a warning, or is passed over when the file has
// gone; the queue is in use meanwhile. What keeps the command from its work
// is fatal, exit status 1.
package postsuper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
)

// Main runs the command in the environment of the process.
func Main(args []string) int {
	code := Run(args, command.OS())
	if code == 1 {
		time.Sleep(time.Second) // as every fatal error of the original
	}
	return code
}

const usage = "usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] [-f queue_id (expire and/or un-hold)] [-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] [-r queue_id (requeue)] [-s (structure fix)] [-S (redundant structure fix)][-v (verbose)] [queue...]"

// request is what the command line asks for.
type request struct {
	options   []getopt.Option // -d, -e, -f, -h, -H, -r in order
	queues    []string
	purge     bool // -p
	structure bool // -s, -S
	redundant bool // -S: long names are compared with inode numbers, too
	verbose   int
	configDir string
}

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	p := &command.Program{Name: "postsuper", StderrTag: filepath.Base(args[0]), Env: env}
	p.OpenLog()
	t := &tool{in: env.Stdin, log: p.Log, now: time.Now, exit: os.Exit}
	if err := prepare(t, args, p); err != nil {
		return t.fail(err)
	}
	stop := t.catchSignals()
	defer stop()
	if err := t.run(); err != nil {
		return t.fail(err)
	}
	return 0
}

// prepare goes as far as the rights of the super-user are needed.
func prepare(t *tool, args []string, p *command.Program) error {
	if os.Getuid() != os.Geteuid() {
		return fmt.Errorf("this postfix command must not run as a set-uid process")
	}
	req, err := parse(args, p.Env)
	if err != nil {
		return err
	}
	cfg, err := p.EnterQueue(req.configDir, req.verbose)
	rootless := os.Getuid() != 0
	if rootless && (err != nil || !cred.Owns(".")) {
		return fmt.Errorf("use of this command is reserved for the superuser")
	}
	if err != nil {
		return err
	}
	t.spool = queue.Open("", cfg).WithLog(t.log)
	t.hashed, t.depth = cfg.List("hash_queue_names"), cfg.Int("hash_queue_depth")
	t.req = req
	if rootless { // DESIGN §6: the caller's own queue
		return nil
	}
	owner, err := cred.Lookup(cfg.String("mail_owner"))
	if err != nil {
		return fmt.Errorf("file %s/main.cf: parameter mail_owner: unknown user name value: %s", cfg.Dir(), cfg.String("mail_owner"))
	}
	return become(owner)
}

// become gives up the rights of the super-user, for the whole process and for
// good: from here on nothing outside the queue can be harmed.
func become(owner cred.Identity) error {
	syscall.Umask(022)
	if err := syscall.Setgroups([]int{owner.GID}); err != nil {
		return fmt.Errorf("setgroups(1, &%d): %w", owner.GID, maillog.Errno(err))
	}
	if err := syscall.Setgid(owner.GID); err != nil {
		return fmt.Errorf("setgid(%d): %w", owner.GID, maillog.Errno(err))
	}
	if err := syscall.Setuid(owner.UID); err != nil {
		return fmt.Errorf("setuid(%d): %w", owner.UID, maillog.Errno(err))
	}
	return nil
}

func parse(args []string, env command.Env) (request, error) {
	var req request
	options, rest, err := getopt.Parse(args[1:], "c:d:e:f:h:H:pr:sSv")
	if err != nil {
		fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], err)
		return req, errors.New(usage)
	}
	for _, o := range options {
		switch o.Letter {
		case 'c':
			if !strings.HasPrefix(o.Value, "/") {
				return req, fmt.Errorf("-c requires absolute pathname")
			}
			req.configDir = o.Value
		case 'p':
			req.purge = true
		case 's':
			req.structure = true
		case 'S':
			req.structure, req.redundant = true, true
		case 'v':
			req.verbose++
		default:
			req.options = append(req.options, o)
		}
	}
	req.queues = rest
	if len(rest) == 0 {
		req.queues = defaultQueues
	}
	if !req.purge && !req.structure && len(req.options) == 0 {
		req.purge, req.structure = true, true
	}
	return req, nil
}

// defaultQueues has the logs first, so that they are at their right places
// before a message and its logs are renamed together.
var defaultQueues = []string{queue.Defer, queue.Bounce, queue.Maildrop, queue.Incoming, queue.Active, queue.Deferred, queue.Hold, queue.Flush}

// kinds of queues that can be named on the command line; true is a queue of
// messages.
var kinds = map[string]bool{
	queue.Maildrop: true, queue.Incoming: true, queue.Active: true, queue.Deferred: true, queue.Hold: true,
	queue.Trace: false, queue.Defer: false, queue.Bounce: false, queue.Flush: false,
}

// fail reports what ended the command, and says so when the queue is left
// half repaired.
func (t *tool) fail(err error) int {
	t.log.Log(maillog.LevelFatal, "%v", err)
	t.warnIncomplete()
	return 1
}

func (t *tool) warnIncomplete() {
	if t.count.mismatched+t.count.renamed+t.count.misplaced > 0 {
		t.log.Warn("OPERATION INCOMPLETE -- RERUN COMMAND TO FIX THE QUEUE FIRST")
	}
}

// catchSignals ends the command at a signal, but not in the midst of the work
// on one file. The exit status is the number of the signal.
func (t *tool) catchSignals() (stop func()) {
	return command.OnSignal(func(s syscall.Signal) {
		t.mu.Lock() // for ever: nothing more is done
		t.warnIncomplete()
		t.exit(int(s))
	})
}
