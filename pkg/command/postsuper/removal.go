package postsuper

import (
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"posthaste/pkg/sys/maillog"
)

// On some file systems unlink(2) waits for the disk (ext4 with the option
// discard and no journal: 0.1 to 0.4 ms a file), and waits overlap.
const (
	removalSize  = 64 // files removed together
	removalHands = 4  // at once
)

// removal is files that wait to be removed together (-d ALL). What becomes of
// them is reported in the order in which they came.
type removal struct{ files []doomed }

// doomed is a file that is to be removed.
type doomed struct {
	file
	gone bool // before we came
	err  error
}

func (r *removal) add(t *tool, f file) error {
	r.files = append(r.files, doomed{file: f})
	if len(r.files) < removalSize {
		return nil
	}
	return r.carryOut(t)
}

// carryOut removes the files. The first error counts.
func (r *removal) carryOut(t *tool) error {
	if len(r.files) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var next atomic.Int32
	var hands sync.WaitGroup
	for range min(removalHands, len(r.files)) {
		hands.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(r.files); i = next.Add(1) - 1 {
				r.files[i].unlink()
			}
		})
	}
	hands.Wait()
	var err error
	for i := range r.files {
		if e := r.files[i].report(); e != nil && err == nil {
			err = e
		}
	}
	r.files = r.files[:0]
	return err
}

// unlink removes the file, unless it is a directory.
func (d *doomed) unlink() {
	if d.messages || !d.plain {
		there := false
		if d.status, there = look(d.path); !there || d.directory() {
			d.gone = !there
			return
		}
	}
	for d.err = unix.EINTR; d.err == unix.EINTR; {
		d.err = unix.Unlink(d.path)
	}
}

// report counts the file and says what became of it.
func (d *doomed) report() error {
	switch {
	case d.gone || d.err == unix.ENOENT:
		return nil
	case d.directory():
		d.removeSubdirectory()
		return nil
	case d.err != nil:
		return fmt.Errorf("remove file %s: %w", d.path, maillog.Errno(&fs.PathError{Op: "remove", Path: d.path, Err: d.err}))
	}
	d.say("removed file %s", d.path)
	if d.messages && d.ready() {
		d.count.deleted++
	}
	return nil
}
