package postfix

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/cred"
)

// record is a line of postfix-files: what an installed file should be (spec
// §4.6).
type record struct {
	path         string
	kind         string // d or f; h and l are skipped
	owner, group string // "" is not set
	mode         fs.FileMode
	flags        string
}

// spoolRecords are the directories that a working mail system needs, for an
// installation without a postfix-files of its own.
const spoolRecords = `
$queue_directory:d:root:-:755:uc
$data_directory:d:$mail_owner:-:700:uc
$queue_directory/active:d:$mail_owner:-:700:ucr
$queue_directory/bounce:d:$mail_owner:-:700:ucr
$queue_directory/corrupt:d:$mail_owner:-:700:ucr
$queue_directory/defer:d:$mail_owner:-:700:ucr
$queue_directory/deferred:d:$mail_owner:-:700:ucr
$queue_directory/flush:d:$mail_owner:-:700:ucr
$queue_directory/hold:d:$mail_owner:-:700:ucr
$queue_directory/incoming:d:$mail_owner:-:700:ucr
$queue_directory/private:d:$mail_owner:-:700:uc
$queue_directory/maildrop:d:$mail_owner:$setgid_group:730:uc
$queue_directory/public:d:$mail_owner:$setgid_group:710:uc
$queue_directory/pid:d:root:-:755:uc
$queue_directory/saved:d:$mail_owner:-:700:ucr
$queue_directory/trace:d:$mail_owner:-:700:ucr
`

// records reads postfix-files and postfix-files.d.
func (t *tool) records() ([]record, error) {
	main := filepath.Join(t.dirs.meta, "postfix-files")
	text, err := os.ReadFile(main)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t.parseRecords("built-in", spoolRecords)
	case err != nil:
		return nil, err
	}
	all, err := t.parseRecords(main, string(text))
	if err != nil {
		return nil, err
	}
	more, _ := filepath.Glob(main + ".d/*")
	sort.Strings(more)
	for _, name := range more {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		records, err := t.parseRecords(name, string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, records...)
	}
	return all, nil
}

func (t *tool) parseRecords(file, text string) ([]record, error) {
	var out []record
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if !strings.HasPrefix(line, "$") {
			continue
		}
		fields := strings.Split(line, ":")
		if len(fields) > 1 && fields[1] != "d" && fields[1] != "f" {
			continue
		}
		if len(fields) < 5 {
			return nil, fmt.Errorf("%s: line %d: too few fields", file, n)
		}
		for i := range fields {
			expanded, err := t.config.Expand(fields[i])
			if err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", file, n, err)
			}
			fields[i] = strings.Trim(expanded, " ")
			if fields[i] == "-" {
				fields[i] = ""
			}
		}
		r := record{path: fields[0], kind: fields[1], owner: fields[2], group: fields[3]}
		if r.path == "no" || strings.HasPrefix(r.path, "no/") {
			continue
		}
		if fields[4] != "" {
			mode, err := strconv.ParseUint(fields[4], 8, 32)
			if err != nil {
				return nil, fmt.Errorf("%s: line %d: bad mode: %s", file, n, fields[4])
			}
			r.mode = fs.FileMode(mode)
		}
		if len(fields) > 5 {
			r.flags = fields[5]
		}
		if t.secondary() && !t.privateOfInstance(r.path) {
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

// secondary tells whether this is another instance than the default one.
func (t *tool) secondary() bool { return t.explicit && t.dirs.config != "/etc/postfix" && t.listed() }

// listed tells whether the default instance knows of this one.
func (t *tool) listed() bool {
	if t.defaultInstances == nil {
		t.defaultInstances = defaultInstances()
	}
	for _, dir := range t.defaultInstances {
		if dir == t.dirs.config {
			return true
		}
	}
	return false
}

// defaultInstances reads the list of instances from the default instance.
func defaultInstances() []string {
	settings, err := conf.ReadSettings("/etc/postfix/main.cf", func(string, ...any) {})
	if err != nil {
		return []string{}
	}
	return append([]string{}, conf.Fields(settings["multi_instance_directories"])...)
}

func (t *tool) privateOfInstance(path string) bool {
	for _, dir := range []string{t.dirs.config, t.dirs.queue, t.dirs.data} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// createMissing makes the directories that are not there.
func (t *tool) createMissing() error {
	records, err := t.records()
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.kind != "d" || !strings.Contains(r.flags, "c") {
			continue
		}
		if _, err := os.Stat(r.path); err == nil {
			continue
		}
		if err := os.Mkdir(r.path, 0o700); err != nil {
			return err
		}
		if err := t.apply(r, r.path); err != nil {
			return err
		}
	}
	return nil
}

// setPermissions gives every listed file its owner and mode.
func (t *tool) setPermissions(upgrade bool) error {
	records, err := t.records()
	if err != nil {
		return err
	}
	for _, r := range records {
		if upgrade && !strings.Contains(r.flags, "u") || strings.Contains(r.flags, "o") {
			continue
		}
		if _, err := os.Stat(r.path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := t.apply(r, r.path); err != nil {
			return err
		}
		if !strings.Contains(r.flags, "r") {
			continue
		}
		if err := t.applyBelow(r); err != nil {
			return err
		}
	}
	return nil
}

// applyBelow gives all that is in a directory its owner. The directory may be
// another user's, who can put symbolic links in our way meanwhile: an os.Root
// does not leave it.
func (t *tool) applyBelow(r record) error {
	root, err := os.OpenRoot(r.path)
	if err != nil {
		return err
	}
	defer root.Close()
	uid, gid, err := ids(r)
	if err != nil {
		return err
	}
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		if !t.rootless {
			if err := root.Lchown(path, uid, gid); err != nil {
				return err
			}
		}
		if !d.IsDir() || r.mode == 0 {
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		return root.Chmod(path, r.mode.Perm()|st.Mode()&(fs.ModeSetuid|fs.ModeSetgid))
	})
}

// apply sets owner, group and mode; without root only the mode. A directory
// keeps its set-user-id and set-group-id bits, as it does with chmod(1): Debian
// has one on public.
func (t *tool) apply(r record, path string) error {
	if !t.rootless {
		uid, gid, err := ids(r)
		if err != nil {
			return err
		}
		if err := os.Lchown(path, uid, gid); err != nil {
			return err
		}
	}
	if r.mode == 0 {
		return nil
	}
	mode := uint32(r.mode)
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		mode |= st.Mode & (syscall.S_ISUID | syscall.S_ISGID)
	}
	return syscall.Chmod(path, mode)
}

func ids(r record) (uid, gid int, err error) {
	uid, gid = -1, -1
	if r.owner != "" {
		id, err := cred.Lookup(r.owner)
		if err != nil {
			return 0, 0, err
		}
		uid = id.UID
	}
	if r.group != "" {
		if gid, err = cred.LookupGroup(r.group); err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, nil
}

// postInstall does what is asked of the original's post-install script.
func (t *tool) postInstall(args []string) int {
	fail := func(format string, a ...any) int {
		fmt.Fprintf(t.env.Stderr, "post-install: Error: "+format+"\n", a...)
		return 1
	}
	create, set, upgrade := false, false, false
	rest, err := t.assign(args)
	if err != nil {
		return fail("%v", err)
	}
	for _, arg := range rest {
		switch {
		case arg == "create-missing":
			create = true
		case strings.HasPrefix(arg, "set-perm"):
			create, set = true, true
		case strings.HasPrefix(arg, "upgrade-perm"):
			create, upgrade = true, true
		case strings.HasPrefix(arg, "upgrade-conf"):
			if code := t.upgradeConfiguration(); code != 0 {
				return code
			}
			create = true
		case arg == "upgrade-package", arg == "upgrade-source", strings.HasPrefix(arg, "first-install"):
			if code := t.upgradeConfiguration(); code != 0 {
				return code
			}
			create, set = true, true
		default:
			return fail("%s: unknown action", arg)
		}
	}
	if !create {
		return fail("no action given: create-missing, set-permissions, upgrade-permissions or upgrade-configuration")
	}
	err = t.createMissing()
	if err == nil && (set || upgrade) {
		err = t.setPermissions(upgrade && !set)
	}
	if err != nil {
		return fail("%v", err)
	}
	return 0
}
