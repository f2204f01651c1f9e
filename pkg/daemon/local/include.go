package local

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/sys/cred"
)

// include delivers to the addresses in a file (delivery.md §3.4). The state's
// rights are those with which it is read; a file of a user's gives that user's
// rights to what stands in it.
func (t *task) include(ctx context.Context, s state, path string) (done bool) {
	reader := cred.Identity{}
	if s.rights != nil {
		reader = *s.rights
	}
	if !t.first("include", strconv.Itoa(reader.UID), path) {
		return true
	}
	if s.depth > maxDepth {
		t.job.Log.Warn(":include: nesting limit exceeded for %s", path)
		return t.ownerBounced(ctx, &s, dsn.Status{Code: "5.4.6", Reason: ":include: nesting limit exceeded"})
	}
	if t.tooMany(ctx, &s) {
		return false
	}
	if path == "" || path[0] != '/' {
		t.job.Log.Warn(":include:%s uses a relative path", path)
		return t.misconfigured(ctx, &s, "5.3.5")
	}
	var f *os.File
	var owner int
	var problem string
	_ = cred.As(reader, func() error {
		f, owner, problem = openInclude(path)
		return nil
	})
	if problem != "" {
		t.job.Log.Warn("%s", problem)
		return t.misconfigured(ctx, &s, "5.3.5")
	}
	defer f.Close()
	if s.rights == nil && owner != 0 {
		id, err := t.lookupID(owner)
		if err != nil {
			if errors.Is(err, cred.ErrUnknownUser) {
				t.job.Log.Warn("cannot find username for uid %d", owner)
			} else {
				t.job.Log.Warn("error looking up passwd info for uid %d: %v", owner, err)
			}
			t.job.Log.Warn("%s: cannot find :include: file owner username", path)
			return t.misconfigured(ctx, &s, "4.3.5")
		}
		s.rights = &id
	}
	if s.owner == "" {
		s.owner = s.rcpt.Address
	}
	if !t.propagate[string(include)] {
		s.unmatched = ""
	}
	s.list, s.expanding = include, s.local
	s.depth++
	_, done = t.lines(ctx, s, f)
	return done
}

// openInclude opens the file, or says what is wrong with it.
func openInclude(path string) (f *os.File, owner int, problem string) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, "unable to lookup :include: file " + path + ": " + text(err)
	}
	if problem := notForLists(info); problem != "" {
		return nil, 0, ":include: file " + path + " " + problem
	}
	f, info, err = openRegular(path)
	if err != nil {
		return nil, 0, "cannot open include file " + path + ": " + text(err)
	}
	return f, uidOf(info), ""
}

// notForLists says why a file may not tell us where to deliver.
func notForLists(info os.FileInfo) string {
	switch {
	case !info.Mode().IsRegular():
		return "is not a regular file"
	case info.Mode().Perm()&0o002 != 0:
		return "is world writable"
	}
	return ""
}

// openRegular opens a regular file for reading. What became something else since
// it was looked at does not hold us up.
func openRegular(path string) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = syscall.EINVAL
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func uidOf(info os.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
