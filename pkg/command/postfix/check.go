package postfix

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf/mastercf"
	"posthaste/pkg/sys/cred"
)

// checkFatal makes missing directories and looks for what would keep the mail
// system from working (spec §4.4).
func (t *tool) checkFatal() int {
	if err := t.createMissing(); err != nil {
		t.script.Error("%v", err)
		t.script.Fatal("unable to create missing queue directories")
	}
	masterCF := filepath.Join(t.dirs.config, "master.cf")
	if _, err := os.Stat(masterCF); err != nil {
		t.script.Fatal("no %s file found", masterCF)
	}
	entries, err := mastercf.Parse(masterCF, t.config)
	if err != nil {
		t.script.Fatal("%v", err)
	}
	if t.config.String("maillog_file") != "" && !hasPostlog(entries, t.config.String("postlog_service_name")) {
		t.script.Fatal("missing 'postlog' service in master.cf - run 'postfix upgrade-configuration'")
	}
	if t.exec(t.dirs.command+"/postsuper") != 0 {
		return 1
	}
	return 0
}

func hasPostlog(entries []mastercf.Entry, name string) bool {
	for _, e := range entries {
		if e.Type == "unix-dgram" && e.Name == name {
			return true
		}
	}
	return false
}

// checkWarn looks for what is not as it should be, and only warns.
func (t *tool) checkWarn() int {
	root, owner, group := t.accounts()
	conf, data := t.dirs.config+"/.", t.dirs.data+"/."
	queue := []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "public", "saved", "trace"}
	trees := []string{conf}
	if !t.secondary() {
		trees = append(trees, t.programTrees()...)
	}

	spool := []string{t.dirs.queue + "/.", t.dirs.queue + "/pid"}
	for _, p := range spool {
		t.owned(p, root, "root")
	}
	for _, p := range spool {
		t.writable(p, false)
	}
	t.walk(trees, func(p string) { t.owned(p, root, "root") })
	t.walk(trees, func(p string) { t.writable(p, true) })
	t.walk(trees, t.leaves)
	t.walk([]string{data}, func(p string) { t.owned(p, owner, t.dirs.owner) })
	t.walk([]string{data}, func(p string) { t.writable(p, false) })
	for _, q := range queue {
		t.walk([]string{t.dirs.queue + "/" + q}, func(p string) {
			if mode, ok := modeOf(p); ok && mode&(fs.ModeSocket|fs.ModeNamedPipe) == 0 {
				t.owned(p, owner, t.dirs.owner)
			}
		})
	}
	t.owned(t.dirs.queue+"/maildrop", owner, t.dirs.owner)
	t.setgidPrograms(group)
	t.chroot(root)
	t.walk([]string{"corrupt"}, func(p string) {
		if mode, ok := modeOf(p); ok && mode.IsRegular() {
			t.script.Warn("damaged message: %s", p)
		}
	})
	t.sendmails()
	return 0
}

// accounts are the owners that files should have; -1 is anyone.
func (t *tool) accounts() (root, owner, group int) {
	if t.rootless {
		return -1, os.Geteuid(), -1
	}
	owner, group = -1, -1
	if id, err := cred.Lookup(t.dirs.owner); err == nil {
		owner = id.UID
	}
	if gid, err := cred.LookupGroup(t.dirs.setgid); err == nil {
		group = gid
	}
	return 0, owner, group
}

// programTrees are the directories of programs and libraries, each once.
func (t *tool) programTrees() []string {
	var trees []string
	seen := map[string]bool{t.dirs.config: true, "no": true}
	for _, dir := range []string{t.dirs.meta, t.dirs.shlib, t.dirs.daemon} {
		if _, err := os.Stat(dir); err != nil || seen[dir] {
			continue
		}
		seen[dir] = true
		trees = append(trees, dir+"/.")
	}
	return trees
}

// walk calls f for each file in trees, with names that begin as the tree is
// written.
func (t *tool) walk(trees []string, f func(path string)) {
	for _, tree := range trees {
		_ = filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				if path != tree {
					path = strings.Replace(path, filepath.Clean(tree), tree, 1)
				}
				f(path)
			}
			return nil
		})
	}
}

func modeOf(path string) (fs.FileMode, bool) {
	st, err := os.Lstat(path)
	if err != nil {
		return 0, false
	}
	return st.Mode(), true
}

func (t *tool) owned(path string, uid int, name string) {
	var st unix.Stat_t
	if uid >= 0 && unix.Lstat(path, &st) == nil && int(st.Uid) != uid {
		t.script.Warn("not owned by %s: %s", name, path)
	}
}

// writable warns about what others may write. The mode of a symbolic link is
// that of its target if they are followed, and of a dangling one its own.
func (t *tool) writable(path string, follow bool) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if !follow {
			return
		}
		_ = unix.Stat(path, &st)
	}
	if err == nil && st.Mode&0o022 != 0 {
		t.script.Warn("group or other writable: %s", path)
	}
}

// leaves warns about a symbolic link to another directory.
func (t *tool) leaves(path string) {
	target, err := os.Readlink(path)
	if err == nil && strings.Contains(target, "/") && filepath.Base(path) != "makedefs.out" {
		t.script.Warn("symlink leaves directory: %s", path)
	}
}

// setgidPrograms checks what the submission of mail by users needs.
func (t *tool) setgidPrograms(group int) {
	programs := []string{t.dirs.command + "/postqueue", t.dirs.command + "/postdrop"}
	if t.secondary() || t.rootless {
		programs = nil
	}
	for _, p := range append(programs, t.dirs.queue+"/public", t.dirs.queue+"/maildrop") {
		var st unix.Stat_t
		if group >= 0 && unix.Stat(p, &st) == nil && int(st.Gid) != group {
			t.script.Warn("not owned by group %s: %s", t.dirs.setgid, p)
		}
	}
	for _, p := range programs {
		var st unix.Stat_t
		if unix.Stat(p, &st) == nil && st.Mode&0o2111 != 0o2111 {
			t.script.Warn("not set-gid or not owner+group+world executable: %s", p)
		}
	}
}

// chroot compares the files in the jail with those outside.
func (t *tool) chroot(root int) {
	for _, tree := range []string{"bin", "etc", "lib", "sbin", "usr"} {
		if _, err := os.Stat(tree); err != nil {
			continue
		}
		t.walk([]string{tree}, func(p string) { t.owned(t.dirs.queue+"/"+p, root, "root") })
		t.walk([]string{tree}, func(p string) {
			st, err := os.Stat(p)
			if err != nil || !st.Mode().IsRegular() {
				return
			}
			if same, err := sameContent(p, "/"+p); err == nil && !same {
				t.script.Warn("%s/%s and /%s differ", t.dirs.queue, p, p)
			}
		})
	}
}

func (t *tool) sendmails() {
	const here, there = "/usr/sbin/sendmail", "/usr/lib/sendmail"
	if t.secondary() || t.rootless {
		return
	}
	if same, err := sameContent(here, there); err == nil && !same {
		t.script.Warn("%s and %s differ", there, here)
		t.script.Warn("Replace one by a symbolic link to the other")
	}
}

// sameContent compares two regular files.
func sameContent(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	sa, err := fa.Stat()
	if err != nil {
		return false, err
	}
	sb, err := fb.Stat()
	if err != nil {
		return false, err
	}
	if !sa.Mode().IsRegular() || !sb.Mode().IsRegular() {
		return false, errors.New("not a regular file")
	}
	if os.SameFile(sa, sb) {
		return true, nil
	}
	if sa.Size() != sb.Size() {
		return false, nil
	}
	ba, bb := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		na, ea := io.ReadFull(fa, ba)
		nb, eb := io.ReadFull(fb, bb)
		if !bytes.Equal(ba[:na], bb[:nb]) {
			return false, nil
		}
		if ea != nil || eb != nil {
			return true, nil
		}
	}
}
