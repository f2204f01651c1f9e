// Package cred is about who we are: it looks up accounts, and runs a function
// with the file-access rights of another user while the rest of the process
// stays what it is (spec master.md §7).
package cred

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrUnknownUser is returned for a name or number without an account. Any
// other error of a look-up is temporary: the account data could not be read.
var ErrUnknownUser = errors.New("unknown user")

// Identity is an account.
type Identity struct {
	UID, GID int
	Groups   []int  // supplementary groups; nil is GID alone
	Name     string // login name
	FullName string // the GECOS field up to its first comma
	Home     string
	Shell    string // "" when it cannot be known without cgo
}

// account is what the account data say about one.
type account struct {
	name, gecos, home, shell string
	uid, gid                 int
}

func (a account) identity() Identity {
	fullName, _, _ := strings.Cut(a.gecos, ",")
	return Identity{UID: a.uid, GID: a.gid, Name: a.name, FullName: fullName, Home: a.home, Shell: a.shell}
}

// Lookup finds an account by name, without its supplementary groups.
func Lookup(name string) (Identity, error) {
	id, _, err := LookupGECOS(name)
	return id, err
}

// LookupGECOS is Lookup that returns the whole GECOS field, too.
func LookupGECOS(name string) (id Identity, gecos string, err error) {
	a, err := byName(name)
	if err != nil {
		return Identity{}, "", err
	}
	return a.identity(), a.gecos, nil
}

// LookupID finds an account by number, without its supplementary groups.
func LookupID(uid int) (Identity, error) {
	a, err := byID(uid)
	if err != nil {
		return Identity{}, err
	}
	return a.identity(), nil
}

func unknown(name string) error { return fmt.Errorf("%w: %s", ErrUnknownUser, name) }

// LookupGroup finds a group's number by its name.
func LookupGroup(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("unknown group: %s", name)
	}
	return strconv.Atoi(g.Gid)
}

// WithGroups returns id with the supplementary groups of its account, as
// initgroups gives them.
func WithGroups(id Identity) (Identity, error) {
	u := &user.User{Username: id.Name, Uid: strconv.Itoa(id.UID), Gid: strconv.Itoa(id.GID)}
	ids, err := u.GroupIds()
	if err != nil {
		return id, err
	}
	id.Groups = []int{id.GID}
	for _, s := range ids {
		if g, err := strconv.Atoi(s); err == nil && g != id.GID {
			id.Groups = append(id.Groups, g)
		}
	}
	return id, nil
}

// Owns tells whether a file belongs to the user we run as: what makes a queue
// directory that of a rootless mail system (DESIGN §6).
func Owns(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && int(st.Uid) == os.Geteuid()
}

// As runs f with id's effective user, group and supplementary groups on one
// operating system thread, and returns f's error. Other goroutines are not
// touched; f must do its file work itself and not in goroutines it starts.
// When the real user of the process is not root, f runs as it is.
//
// A thread that cannot be switched back is ended with its goroutine, which is
// not the caller's. A panic of f is passed on to the caller.
func As(id Identity, f func() error) error {
	if os.Getuid() != 0 {
		return f()
	}
	done := make(chan outcome, 1)
	go func() {
		// New threads of the runtime are never cloned from a locked one,
		// so the identity does not spread.
		runtime.LockOSThread()
		var r outcome
		var before thread
		r.err = before.become(id)
		if r.err == nil {
			func() {
				defer r.catch()
				r.err = f()
				r.ok = true
			}()
		}
		err := before.restore()
		done <- r
		if err == nil {
			runtime.UnlockOSThread()
		}
	}()
	r := <-done
	if r.panicked != nil {
		panic(fmt.Sprintf("%v\n%s", r.panicked, r.stack))
	}
	return r.err
}

type outcome struct {
	err      error
	ok       bool
	panicked any
	stack    []byte
}

func (r *outcome) catch() {
	if v := recover(); v != nil {
		r.panicked, r.stack = v, debug.Stack()
	} else if !r.ok {
		r.err = errors.New("goroutine ended in f")
	}
}

// thread is what a thread was before.
type thread struct {
	euid, egid int
	groups     []uint32
	saved      bool
}

func (t *thread) become(id Identity) error {
	_, euid, _ := unix.Getresuid()
	_, egid, _ := unix.Getresgid()
	groups, err := unix.Getgroups()
	if err != nil {
		return fmt.Errorf("getgroups: %w", err)
	}
	t.euid, t.egid, t.groups, t.saved = euid, egid, numbers(groups), true
	want := numbers(id.Groups)
	if id.Groups == nil {
		want = []uint32{uint32(id.GID)}
	}
	return set(id.UID, id.GID, want)
}

func (t *thread) restore() error {
	if !t.saved {
		return nil
	}
	return set(t.euid, t.egid, t.groups)
}

// set gives the calling thread other effective ids. The raw system calls
// change this thread only; those of package syscall change them all.
func set(uid, gid int, groups []uint32) error {
	const keep = ^uintptr(0)
	if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, keep, 0, keep); e != 0 {
		return fmt.Errorf("set_eugid: seteuid(0): %w", e)
	}
	if e := setgroups(groups); e != 0 {
		return fmt.Errorf("set_eugid: setgroups(%d): %w", gid, e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(gid), keep); e != 0 {
		return fmt.Errorf("set_eugid: setegid(%d): %w", gid, e)
	}
	if uid == 0 {
		return nil
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); e != 0 {
		return fmt.Errorf("set_eugid: seteuid(%d): %w", uid, e)
	}
	return nil
}

func numbers(in []int) []uint32 {
	out := make([]uint32, len(in))
	for i, n := range in {
		out[i] = uint32(n)
	}
	return out
}
