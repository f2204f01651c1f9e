// Package queue is the life of a queue file: directories, queue ids, creation,
// completion, renames, scans and locks (spec queue.md §1).
//
// # What is on stable storage when
//
// A file is created under a name that is no queue id, renamed to its id in
// the same directory, and written with mode 0600, which every reader ignores.
// File.Commit makes it a message:
//
//  1. buffered records are written;
//  2. fchmod to 0700: the message exists;
//  3. fsync of the file: its data and, in the same inode, its mode;
//  4. fsync of the directory that holds its name;
//  5. close.
//
// Commit returns nil only when all five worked, and only then may a program
// promise anything to a client. The mode goes before the fsync, as Postfix
// has it, because the mode must be durable, too: a file that comes back from
// a power failure with all its data and mode 0600 would be ignored and purged
// a week later. A reader that picks the file up between 2 and 5 sees complete
// data; if Commit then fails the mode is taken back and the worst case is a
// message that is delivered although its client was told to try again. A
// power failure between 2 and 3 may leave a truncated file of mode 0700,
// which lacks its end record, is moved to "corrupt", and was never promised.
//
// Step 4 is what Postfix leaves to the file system. So do we where the file
// system is known to make a new file's name, and those of new directories
// above it, durable with the file (nameFollowsFile: ext4, XFS, Btrfs, F2FS
// have both in one journal transaction or log tree). On any other, concurrent
// Commits in one directory share one fsync (they wait for the next one that
// starts, at most two fsyncs away), and when a hash directory's own name may
// not be durable yet its parents are synced as well, once in the life of a
// process. A process that may not read the directory (postdrop in maildrop)
// uses syncfs(2) instead.
//
// The renames after Commit (incoming to active, active to deferred, to hold,
// to corrupt) are not synced: rename is atomic, every queue is scanned after a
// restart, and whichever of the two names survives a power failure is the
// message. Nor is the mark of a finished recipient: losing it means a second
// delivery, not a lost one. A first entry in a bounce log does sync its
// directory (package bouncelog), because recipients are marked done on the
// strength of it.
//
// # Errors
//
// Functions return the errors of the system calls as they are (match them
// with errors.Is and syscall numbers: EFBIG is "message too big", ENOSPC
// "queue full"), ErrID for a name that is not a queue id, ErrNotReady, and
// ErrBusy for a lock that someone holds. Nothing ends the process.
package queue
