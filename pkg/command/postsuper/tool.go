package postsuper

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

// tool is one run of the command, after it has become mail_owner.
type tool struct {
	req    request
	spool  *queue.Spool
	hashed []string // hash_queue_names as written: compared case-sensitively here
	depth  int      // hash_queue_depth
	in     io.Reader
	log    *maillog.Logger
	now    func() time.Time
	exit   func(int)

	mu    sync.Mutex // held during the work on one file
	count counters
}

type counters struct {
	requeued, deleted, expired, held, released int
	renamed                                    int // to match the inode number
	mismatched                                 int // names that do not, seen
	misplaced                                  int // files that are not where they belong, seen
}

// mass is what a pass over a queue does with each file.
type mass struct {
	purge, structure, redundant            bool
	remove, requeue, hold, release, expire bool // the argument ALL
}

// run does everything in the order of spec queue.md §5.2.
func (t *tool) run() error {
	repair := mass{purge: t.req.purge, structure: t.req.structure, redundant: t.req.redundant}
	if repair != (mass{}) {
		if err := t.pass(repair); err != nil {
			return err
		}
		if t.count.mismatched > 0 { // files may now be in each other's places
			if err := t.pass(repair); err != nil {
				return err
			}
		}
	}
	if t.count.mismatched+t.count.renamed > 0 {
		for _, o := range t.req.options {
			if o.Value != "ALL" {
				t.log.Error("QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS")
				return errors.New("CHECK YOUR QUEUE IDS AND RE-ISSUE THE COMMAND")
			}
		}
	}
	for _, o := range t.req.options {
		if err := t.option(o.Letter, o.Value); err != nil {
			return err
		}
	}
	t.report()
	return nil
}

func (t *tool) option(letter byte, value string) error {
	switch value {
	case "ALL":
		return t.pass(massOf[letter])
	case "-":
		return t.fromInput(letter)
	}
	return t.one(letter, value)
}

var massOf = map[byte]mass{
	'd': {remove: true},
	'r': {requeue: true},
	'h': {hold: true},
	'H': {release: true},
	'e': {expire: true},
	'f': {expire: true, release: true},
}

// maxInput bounds a line of standard input: far more than a queue id has.
const maxInput = 4096

func (t *tool) fromInput(letter byte) error {
	lines := bufio.NewScanner(t.in)
	lines.Buffer(make([]byte, 0, maxInput), maxInput)
	lines.Split(command.SplitLF)
	for lines.Scan() {
		if err := t.one(letter, lines.Text()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("error reading input: %w", maillog.Errno(err))
	}
	return nil
}

// report says what was done, one line for each kind of option used.
func (t *tool) report() {
	used := func(letters string) bool {
		for _, o := range t.req.options {
			for _, l := range letters {
				if o.Letter == byte(l) {
					return true
				}
			}
		}
		return false
	}
	for _, line := range []struct {
		letters string
		text    string
		n       int
	}{
		{"r", "Requeued", t.count.requeued},
		{"d", "Deleted", t.count.deleted},
		{"ef", "Force-expired", t.count.expired},
		{"h", "Placed on hold", t.count.held},
		{"Hf", "Released from hold", t.count.released},
	} {
		if used(line.letters) {
			t.log.Info("%s: %d message%s", line.text, line.n, plural(line.n))
		}
	}
	if t.count.renamed > 0 {
		t.log.Info("Renamed to match inode number: %d message%s", t.count.renamed, plural(t.count.renamed))
	}
	if t.count.mismatched > 0 || t.count.renamed > 0 {
		t.log.Warn("QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS")
	}
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// outcome of an action on one file in one queue.
type outcome int

const (
	missed outcome = iota // no such message there
	done
	vanished // it was there a moment ago
)

// action is an option that names one message (spec queue.md §5.3).
type action struct {
	skip   []string // queues it does not apply to
	only   string   // the one queue it applies to, if not empty
	rounds int      // walks over the queues, for a message that moves meanwhile
	do     func(t *tool, queueName, id string) (outcome, error)
}

var actions = map[byte]action{
	'd': {rounds: 2, do: (*tool).deleteOne},
	'r': {rounds: 2, skip: []string{queue.Maildrop}, do: (*tool).requeueOne},
	'h': {rounds: 2, skip: []string{queue.Maildrop, queue.Hold}, do: (*tool).holdOne},
	'H': {rounds: 1, only: queue.Hold, do: (*tool).releaseOne},
	'e': {rounds: 2, skip: []string{queue.Maildrop}, do: (*tool).expireOne},
}

// one applies an option to the message of that id.
func (t *tool) one(letter byte, id string) error {
	if letter == 'f' {
		if err := t.one('e', id); err != nil {
			return err
		}
		return t.one('H', id)
	}
	if !queue.ValidID(id) {
		t.log.Warn("invalid mail queue id: %s", id)
		return nil
	}
	a := actions[letter]
	for range a.rounds {
		for _, name := range t.req.queues {
			messages, known := kinds[name]
			if !known {
				return fmt.Errorf("invalid directory name: %s", name)
			}
			if !messages || slices.Contains(a.skip, name) || a.only != "" && name != a.only {
				continue
			}
			result, err := t.tryOne(a, name, id)
			if err != nil || result == done {
				return err
			}
		}
	}
	return nil
}

func (t *tool) tryOne(a action, name, id string) (outcome, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.spool.Ready(name, id); !ok {
		return missed, nil
	}
	return a.do(t, name, id)
}

func (t *tool) deleteOne(name, id string) (outcome, error) {
	for _, log := range []string{queue.Bounce, queue.Defer, queue.Trace} {
		if _, err := t.remove(t.spool.Path(log, id)); err != nil {
			return missed, err
		}
	}
	gone, err := t.remove(t.spool.Path(name, id))
	if err != nil || !gone {
		return vanished, err
	}
	t.count.deleted++
	t.log.Info("%s: removed", id)
	return done, nil
}

func (t *tool) requeueOne(name, id string) (outcome, error) {
	result, err := t.move(name, queue.Maildrop, id)
	if result != done {
		return result, err
	}
	// pickup takes the time of the file for that of arrival.
	if err := t.spool.SetTime(queue.Maildrop, id, t.now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.log.Warn("%s: reset time stamps: %v", t.spool.Path(queue.Maildrop, id), maillog.Errno(err))
	}
	t.count.requeued++
	t.log.Info("%s: requeued", id)
	return done, nil
}

func (t *tool) holdOne(name, id string) (outcome, error) {
	result, err := t.move(name, queue.Hold, id)
	if result == done {
		t.count.held++
		t.log.Info("%s: placed on hold", id)
	}
	return result, err
}

func (t *tool) releaseOne(name, id string) (outcome, error) {
	result, err := t.move(name, queue.Deferred, id)
	if result == done {
		t.count.released++
		t.log.Info("%s: released from hold", id)
	}
	return result, err
}

func (t *tool) expireOne(name, id string) (outcome, error) {
	return t.expire(t.spool.Path(name, id), id, true), nil
}

// expire sets the bit that makes the queue manager return the message at the
// next attempt. Only an expired message that was named has a log line.
func (t *tool) expire(path, id string, named bool) outcome {
	f, err := queue.SafeOpen(path, os.O_RDWR)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return vanished
		}
		t.log.Warn("expire file %s: %v", path, err)
		return missed
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.log.Warn("expire file %s: %v", path, maillog.Errno(err))
		return missed
	}
	if info.Mode()&queue.ModeReady != queue.ModeReady || info.Mode()&queue.ModeExpire != 0 {
		return done
	}
	if err := f.Chmod(info.Mode().Perm() | queue.ModeExpire); err != nil {
		t.log.Warn("expire file %s: cannot set permission: %v", path, maillog.Errno(err))
		return missed
	}
	t.count.expired++
	if named {
		t.log.Info("%s: expired", id)
	}
	return done
}

// move renames a message from one queue to another.
func (t *tool) move(from, to, id string) (outcome, error) {
	moved, err := t.rename(t.spool.Path(from, id), t.spool.Path(to, id))
	if !moved {
		return vanished, err
	}
	return done, nil
}

// remove unlinks a file; it reports false for one that is not there.
func (t *tool) remove(path string) (bool, error) {
	err := os.Remove(path)
	switch {
	case err == nil:
		t.say("removed file %s", path)
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, fmt.Errorf("remove file %s: %w", path, maillog.Errno(err))
}

// rename renames a file and makes the directories it needs; it reports false
// for one that is not there.
func (t *tool) rename(from, to string) (bool, error) {
	err := t.spool.Rename(from, to)
	switch {
	case err == nil:
		t.say("renamed file %s as %s", from, to)
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, fmt.Errorf("rename file %s as %s: %w", from, to, maillog.Errno(err))
}

// say logs details for -v.
func (t *tool) say(format string, args ...any) {
	if t.req.verbose > 0 {
		t.log.Info(format, args...)
	}
}
