package postsuper

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

const (
	// fixed marks a name that has been made to match the inode number. The
	// mark keeps it apart from a file that has that name still, rightly or
	// not; the second pass takes it off.
	fixed     = "#FIX"
	staleTime = 7 * 24 * time.Hour // -p: age of an unfinished file that nobody will finish
	minName   = 6                  // bytes of a message's name: shorter ones hold no inode number
)

// pass goes over all queues, file by file (spec queue.md §5.4).
func (t *tool) pass(m mass) error {
	for _, name := range t.req.queues {
		messages, known := kinds[name]
		if !known {
			return fmt.Errorf("invalid directory name: %s", name)
		}
		t.say("queue: %s", name)
		if err := t.queue(m, name, messages); err != nil {
			return err
		}
	}
	return nil
}

func (t *tool) queue(m mass, name string, messages bool) error {
	depth := 0
	if slices.Contains(t.hashed, name) {
		depth = t.depth
	}
	if depth > 0 && name == queue.Maildrop {
		return errors.New("maildrop queue must not be hashed")
	}
	w, err := t.spool.Walk(name)
	if err != nil {
		return fmt.Errorf("scan_dir_push: open directory %s: %w", name, maillog.Errno(err))
	}
	defer w.Close()
	var doomed removal
	for {
		e, walkErr := w.Next()
		if walkErr == nil && !e.Leave {
			f := file{tool: t, mass: m, queue: name, messages: messages, depth: depth, path: e.Path(), name: e.Name, plain: e.Plain}
			if err := t.take(f, &doomed); err != nil {
				return err
			}
			continue
		}
		if err := doomed.carryOut(t); err != nil {
			return err
		}
		switch {
		case walkErr == io.EOF:
			return nil
		case walkErr != nil:
			return fmt.Errorf("scan_dir_push: open directory %s: %w", e.Path(), maillog.Errno(walkErr))
		case e.Depth >= depth:
			if err := t.removeDirectory(e.Path()); err != nil {
				return err
			}
		}
	}
}

// take does what is to be done with one file, or lets it wait for its removal
// together with others.
func (t *tool) take(f file, doomed *removal) error {
	if f.mass.remove {
		return doomed.add(t, f)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return f.visit()
}

// removeDirectory removes a hash directory that is deeper than there should
// be any. It is empty: its files have found their places.
func (t *tool) removeDirectory(path string) error {
	t.say("remove directory %s", path)
	err := os.Remove(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove directory %s: %w", path, maillog.Errno(err))
	}
	return nil
}

// file is one directory entry in a pass.
type file struct {
	*tool
	mass
	queue    string
	messages bool // a queue of messages, not of logs
	depth    int  // of hash directories in this queue
	path     string
	name     string
	plain    bool // a regular file, as its directory says
	status
}

// visit takes the steps of spec queue.md §5.4 until one of them settles what
// becomes of the file.
func (f *file) visit() error {
	if onlyMoves := f.hold || f.requeue || f.release && !f.mass.expire; onlyMoves && f.plain && queue.ValidID(f.name) {
		return f.act() // nothing more need be known
	}
	there := false
	if f.status, there = look(f.path); !there {
		return nil
	}
	if f.directory() {
		f.removeSubdirectory()
		return nil
	}
	if !f.regular() || f.purge && f.stale() {
		_, err := f.tool.remove(f.path)
		return err
	}
	if f.structure && strings.HasSuffix(f.name, fixed) {
		if ok, err := f.finishFix(); !ok || err != nil {
			return err
		}
	}
	if !queue.ValidID(f.name) {
		f.bogus()
		return nil
	}
	if f.structure && f.messages {
		if ok, err := f.checkInode(); !ok || err != nil {
			return err
		}
	}
	return f.act()
}

func (f *file) bogus() { f.log.Warn("bogus file name: %s", f.path) }

func (f *file) stale() bool {
	return f.messages && !f.ready() && f.age(f.now()) > staleTime
}

func (f *file) removeSubdirectory() {
	if err := os.Remove(f.path); err != nil {
		f.log.Warn("remove subdirectory %s: %v", f.path, maillog.Errno(err))
	} else {
		f.say("remove subdirectory %s", f.path)
	}
}

// finishFix takes the mark off a name that was made to match the inode
// number. ok is false when nothing more can be done with the file.
func (f *file) finishFix() (ok bool, err error) {
	name := strings.TrimSuffix(f.name, fixed)
	if !queue.ValidID(name) {
		f.bogus()
		return false, nil
	}
	if f.messages {
		id, err := queue.ParseID(name)
		if err != nil {
			f.bogus()
			return false, nil
		}
		if id.Inode != f.inode {
			f.log.Warn("name/inode mismatch: %s", f.path)
			return false, nil
		}
	}
	path := f.spool.HashPath(f.queue, name, f.depth)
	moved, err := f.tool.rename(f.path, path)
	if !moved || err != nil {
		return false, err
	}
	if f.messages {
		f.count.renamed++
	}
	f.name, f.path = name, path
	return true, nil
}

// checkInode compares the name of a message with its inode number: two files
// whose names do not follow from their inodes could get the same one. ok is
// false when the file was renamed, or has no number in its name.
func (f *file) checkInode() (ok bool, err error) {
	id, err := queue.ParseID(f.name)
	if err != nil || len(f.name) < minName {
		f.bogus()
		return false, nil
	}
	wrong := id.Inode != f.inode && (!id.Long || f.redundant)
	if !wrong && (!id.Long || f.spool.LongIDs()) {
		return true, nil
	}
	name := f.newName(id)
	f.count.mismatched++
	for _, log := range []string{queue.Bounce, queue.Defer, queue.Trace} {
		if _, err := f.tool.rename(f.spool.Path(log, f.name), f.logPath(log, name)); err != nil {
			return false, err
		}
	}
	_, err = f.tool.rename(f.path, f.spool.HashPath(f.queue, name, f.depth)+fixed)
	return false, err
}

func (f *file) logPath(log, name string) string { return f.spool.Path(log, name) + fixed }

// newName keeps the time in the name and exchanges the inode number.
func (f *file) newName(id queue.ID) string {
	number := f.inode
	switch {
	case !id.Long:
		return f.name[:5] + fmt.Sprintf("%X", number)
	case f.spool.LongIDs():
		long := queue.NewID(time.Unix(0, 0), number, true)
		return f.name[:strings.LastIndexByte(f.name, 'z')] + long[strings.LastIndexByte(long, 'z'):]
	}
	return fmt.Sprintf("%05X%X", id.Usec, number)
}

// act does what was asked for ALL messages, and at last puts the file where it
// belongs.
func (f *file) act() error {
	switch {
	case f.requeue && f.messages && f.queue != queue.Maildrop:
		return f.moveTo(queue.Maildrop, &f.count.requeued)
	case f.mass.expire && f.messages && f.queue != queue.Maildrop && f.ready():
		f.tool.expire(f.path, f.name, false)
	case f.hold && f.messages && f.queue != queue.Maildrop && f.queue != queue.Hold:
		return f.moveTo(queue.Hold, &f.count.held)
	}
	if f.release && f.queue == queue.Hold {
		return f.moveTo(queue.Deferred, &f.count.released)
	}
	if !f.structure {
		return nil
	}
	path := f.spool.HashPath(f.queue, f.name, f.depth)
	if path == f.path {
		return nil
	}
	f.count.misplaced++
	_, err := f.tool.rename(f.path, path)
	return err
}

func (f *file) moveTo(queueName string, counter *int) error {
	moved, err := f.tool.rename(f.path, f.spool.Path(queueName, f.name))
	if moved {
		*counter++
	}
	return err
}
