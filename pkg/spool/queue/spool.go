package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"posthaste/pkg/conf"
	"posthaste/pkg/sys/dirsync"

	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/sys/quick"
)

// Names of the directories below queue_directory.
const (
	Maildrop = "maildrop" // submissions of local users, requeued mail
	Incoming = "incoming" // being written by cleanup, and new mail
	Active   = "active"   // opened by the queue manager
	Deferred = "deferred" // waiting for the next attempt
	Hold     = "hold"     // parked
	Corrupt  = "corrupt"  // damaged, moved aside
	Saved    = "saved"    // unused; postcat looks there
	Bounce   = "bounce"   // logs of failed recipients
	Defer    = "defer"    // logs of deferred recipients
	Trace    = "trace"    // logs of traced recipients
	Flush    = "flush"    // lists of queue ids, one file a destination
)

// Mode bits of a queue file (spec queue.md §1.6).
const (
	ModeReady      fs.FileMode = 0700 // complete
	ModeUnthrottle fs.FileMode = 0040 // postqueue -i: deliver even to dead destinations
	ModeExpire     fs.FileMode = 0010 // postsuper -e: return it at the next attempt
	ModeCorrupt    fs.FileMode = 0400 // exactly this: a delivery agent found damage
)

// Logger takes what the package has to say. *maillog.Logger is one.
type Logger interface {
	Info(format string, args ...any)
	Warn(format string, args ...any)
}

type discard struct{}

func (discard) Info(string, ...any) {}
func (discard) Warn(string, ...any) {}

// Options of a Spool.
type Options struct {
	HashNames []string // hash_queue_names
	HashDepth int      // hash_queue_depth; less than 1 is 1
	LongIDs   bool     // enable_long_queue_ids
	Log       Logger   // nil: nothing is logged
	FS        FS       // zero: the real file system
}

// Spool is a queue_directory. It is safe for concurrent use.
type Spool struct {
	dir     string
	hashed  []string
	depth   int
	long    bool
	log     Logger
	fs      FS
	syncer  dirsync.Group
	mu      sync.Mutex
	durable map[inode]bool // hash directories whose own names are durable
	clockOK bool           // incoming's time stamps agree with our clock
	clockTo bool           // they do not, and that was said
}

// New returns the spool in dir; "" or "." is the working directory, and then
// paths in log lines are relative, as daemons want them.
func New(dir string, o Options) *Spool {
	s := &Spool{dir: dir, hashed: o.HashNames, depth: max(o.HashDepth, 1), long: o.LongIDs, log: o.Log, fs: o.FS.withDefaults()}
	if dir == "." {
		s.dir = ""
	}
	if s.log == nil {
		s.log = discard{}
	}
	s.durable = map[inode]bool{}
	return s
}

// Open returns the spool in dir as main.cf describes it: hash_queue_names,
// hash_queue_depth, enable_long_queue_ids. Nothing is logged until WithLog.
func Open(dir string, cfg *conf.Config) *Spool {
	return New(dir, Options{
		HashNames: cfg.List("hash_queue_names"),
		HashDepth: cfg.Int("hash_queue_depth"),
		LongIDs:   cfg.Bool("enable_long_queue_ids"),
	})
}

// WithLog sets where warnings go and returns s. It is for set-up, before the
// spool is used.
func (s *Spool) WithLog(l Logger) *Spool {
	s.log = l
	return s
}

// Dir is the spool directory as given to New.
func (s *Spool) Dir() string { return s.dir }

// LongIDs tells whether new files get long ids.
func (s *Spool) LongIDs() bool { return s.long }

// QueueDir is the path of a queue's directory.
func (s *Spool) QueueDir(queue string) string { return filepath.Join(s.dir, queue) }

// Depth is the number of hash directories above each file of a queue.
func (s *Spool) Depth(queue string) int {
	for _, name := range s.hashed {
		if strings.EqualFold(name, queue) {
			return s.depth
		}
	}
	return 0
}

// Path is where a file of that name belongs in a queue. It is "", which no
// system call finds, when one of the names is not legal: check with ValidID
// what comes from outside.
func (s *Spool) Path(queue, id string) string {
	if !ValidName(queue) || !ValidID(id) {
		return ""
	}
	return s.path(queue, id)
}

func (s *Spool) path(queue, id string) string { return s.HashPath(queue, id, s.Depth(queue)) }

// HashPath is Path for a queue that is hashed to a given depth.
func (s *Spool) HashPath(queue, id string, depth int) string {
	var b strings.Builder
	if s.dir != "" {
		b.WriteString(s.dir)
		b.WriteByte('/')
	}
	b.WriteString(queue)
	b.WriteByte('/')
	if depth > 0 {
		hash := hashString(id)
		for i := range depth {
			if i < len(hash) {
				b.WriteByte(hash[i])
			} else {
				b.WriteByte('_')
			}
			b.WriteByte('/')
		}
	}
	b.WriteString(id)
	return b.String()
}

// Open opens a queue file; flag is os.O_RDONLY or os.O_RDWR.
func (s *Spool) Open(queue, id string, flag int) (*os.File, error) {
	path := s.Path(queue, id)
	if path == "" {
		return nil, ErrID
	}
	return s.fs.OpenFile(path, flag, 0)
}

// OpenLog opens a log file (bounce, defer, trace, flush) and creates it with
// mode 0600, its hash directories too, when flag has os.O_CREATE.
func (s *Spool) OpenLog(queue, id string, flag int) (*os.File, error) {
	path := s.Path(queue, id)
	if path == "" {
		return nil, ErrID
	}
	f, err := s.fs.OpenFile(path, flag, 0600)
	if errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0 && s.MakeDirs(path) == nil {
		f, err = s.fs.OpenFile(path, flag, 0600)
	}
	return f, err
}

// Remove removes a file of a queue.
func (s *Spool) Remove(queue, id string) error {
	path := s.Path(queue, id)
	if path == "" {
		return ErrID
	}
	return s.fs.Remove(path)
}

// Move renames a file from one queue to another and makes the hash
// directories it needs. It is atomic, and not synced: see the package comment.
func (s *Spool) Move(from, to, id string) error {
	src, dst := s.Path(from, id), s.Path(to, id)
	if src == "" || dst == "" {
		return ErrID
	}
	return s.Rename(src, dst)
}

// Rename renames a path within the spool to another, as Move does.
func (s *Spool) Rename(from, to string) error { return s.renameBy(s.fs.Rename, from, to) }

func (s *Spool) renameBy(rename func(from, to string) error, from, to string) error {
	err := s.saneRename(rename, from, to)
	if err == nil {
		return nil
	}
	if failed := s.MakeDirs(to); failed != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return failed // no room for the directory does not mean that there is no file
		}
		return err
	}
	return s.saneRename(rename, from, to)
}

// saneRename knows that an NFS server may carry a rename out and report that
// it failed, when the reply to the first request was lost.
func (s *Spool) saneRename(rename func(from, to string) error, from, to string) error {
	err := rename(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, gone := os.Lstat(from); !errors.Is(gone, fs.ErrNotExist) {
		return err
	}
	if _, there := os.Lstat(to); there != nil {
		return err
	}
	s.log.Info("sane_rename(%s,%s): worked around spurious NFS error", from, to)
	return nil
}

// MakeDirs makes the missing directories above a path in the spool, mode
// 0700, but never the queue directory itself.
func (s *Spool) MakeDirs(path string) error {
	dir := filepath.Dir(path)
	err := s.fs.Mkdir(dir, 0700)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) || len(filepath.Base(dir)) != 1 {
		return err
	}
	if err := s.MakeDirs(dir); err != nil {
		return err
	}
	if err = s.fs.Mkdir(dir, 0700); errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// SetTime sets a file's times to the given one: in incoming and deferred that
// of the next attempt (spec queue.md §1.7).
func (s *Spool) SetTime(queue, id string, t time.Time) error {
	path := s.Path(queue, id)
	if path == "" {
		return ErrID
	}
	return os.Chtimes(path, t, t)
}

// Ready looks at a file that a scan found: it reports whether there is a
// complete message in it (spec queue.md §1.6, 9.1). What is strange is
// logged; what is incomplete or has gone is passed over in silence.
func (s *Spool) Ready(queue, id string) (fs.FileInfo, bool) {
	path := s.Path(queue, id)
	if path == "" {
		return nil, false
	}
	info, err := os.Lstat(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("%s: %v", path, maillog.Errno(err))
		}
		return nil, false
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() {
		s.log.Warn("%s: uid %d: not a regular file", path, st.Uid)
		return nil, false
	}
	if info.Mode()&ModeReady != ModeReady {
		return nil, false
	}
	changed := time.Unix(int64(st.Ctim.Sec), 0)
	if st.Nlink > 1 && s.fs.Now().Sub(changed) > time.Minute {
		s.log.Warn("%s: uid %d: file has %d links", path, st.Uid, st.Nlink)
	}
	return info, true
}

// Due is Ready for the time of the file only. What is as it should be is looked
// at in the quick way.
func (s *Spool) Due(queue, id string) (at time.Time, ok bool) {
	var st unix.Statx_t
	if path := s.Path(queue, id); queue == Incoming && path != "" {
		const ready = syscall.S_IFREG | uint16(ModeReady)
		errno := quick.Lstat(path, &st)
		kind := st.Mode & (syscall.S_IFMT | uint16(ModeReady))
		switch {
		case errno == syscall.ENOENT:
			return time.Time{}, false
		case errno == 0 && kind != ready && kind&syscall.S_IFMT == syscall.S_IFREG: // being written
			return time.Time{}, false
		case errno == 0 && st.Nlink == 1 && kind == ready:
			return time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)), true
		}
	}
	info, ok := s.Ready(queue, id)
	if !ok {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// Mark marks the recipient whose record starts at offset as done, in an open
// queue file: the type byte 'R' becomes 'D' (spec queue.md §2.7). An offset of
// -1 means there is nothing to mark. Anything but a recipient at that offset
// is an error, and left alone.
func (s *Spool) Mark(f *os.File, offset int64) error { return s.replaceType(f, offset, 'R', 'D') }

// Kill crosses out the attribute whose record starts at offset: 'A' becomes
// 'K'.
func (s *Spool) Kill(f *os.File, offset int64) error { return s.replaceType(f, offset, 'A', 'K') }

func (s *Spool) replaceType(f *os.File, offset int64, from, to byte) error {
	if offset == -1 {
		return nil
	}
	var b [1]byte
	if _, err := quick.ReadAt(f, b[:], offset); err != nil {
		return err
	}
	switch b[0] {
	case to:
		return nil
	case from:
		_, err := s.fs.WriteAt(f, []byte{to}, offset)
		return err
	}
	return fmt.Errorf("record type %d at offset %d, wanted %d", b[0], offset, from)
}
