package local

import (
	"context"
	"os"
	"strconv"
	"strings"

	"posthaste/pkg/sys/cred"
)

// dotForward delivers as the user's .forward file says, if there is one
// (delivery.md §3.5).
func (t *task) dotForward(ctx context.Context, s state, id cred.Identity) (handled, done bool) {
	list := s
	s.rights, s.owner = &id, s.user
	s.list, s.expanding = dotFwd, s.local
	path, info := t.forwardFile(&s, id)
	if path == "" {
		return false, false
	}
	if finished, before := t.forwardFiles[path]; before {
		return finished, finished // inside itself it means the mailbox
	}
	if t.mtaProbe() {
		return true, t.sent(ctx, &s, "forward via file: "+path)
	}
	f := t.openForward(path, info, id)
	if f == nil {
		return false, false
	}
	defer f.Close()
	t.forwardFiles[path] = false
	t.thaw(&s)
	s.rcpt.Notify = passOn(s.rcpt.Notify)
	s.depth++
	addresses, done := t.lines(ctx, s, f)
	if addresses == 0 && done {
		delete(t.forwardFiles, path)
		return false, false
	}
	t.forwardFiles[path] = true
	if done {
		done = t.expanded(ctx, &list, "expanded")
	}
	return true, done
}

// forwardFile finds the first file of forward_path that exists, looking with
// the user's rights, and drops the extension from s if the path took it up.
func (t *task) forwardFile(s *state, id cred.Identity) (path string, info os.FileInfo) {
	for _, template := range t.forwardPath {
		m := macros{state: s, id: &id, delimiters: t.ext.Delimiters}
		path, err := m.expand(template, t.forwardFilter)
		if err != nil {
			t.job.Log.Warn("bad forward_path value syntax: %s: %v", template, err)
			continue
		}
		if m.undefined || path == "" {
			continue
		}
		_ = cred.As(id, func() error {
			info, err = os.Lstat(path)
			return nil
		})
		if err != nil {
			continue
		}
		if m.extension || !t.propagate[string(dotFwd)] {
			s.unmatched = ""
		}
		return path, info
	}
	return "", nil
}

// openForward opens the file; with one that cannot be trusted mail goes to the
// mailbox.
func (t *task) openForward(path string, info os.FileInfo, id cred.Identity) (f *os.File) {
	problem := ""
	if !info.Mode().IsRegular() {
		problem = "is not a regular file"
	} else if uid := uidOf(info); uid != 0 && uid != id.UID {
		problem = "has bad owner uid " + strconv.Itoa(uid)
	} else {
		problem = notForLists(info)
	}
	if problem != "" {
		t.job.Log.Warn("file %s %s", path, problem)
		return nil
	}
	var err error
	_ = cred.As(id, func() error {
		f, _, err = openRegular(path)
		return nil
	})
	if err != nil {
		t.job.Log.Warn("cannot open file %s: %s", path, text(err))
		return nil
	}
	return f
}

// isDirectory says why path is none that we can use.
func isDirectory(path string) error {
	_, err := os.Stat(strings.TrimRight(path, "/") + "/.")
	return err
}
