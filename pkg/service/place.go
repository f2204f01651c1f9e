package service

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// inDirectory are the types of tables that are a file, to which the rule about
// its directory applies.
var inDirectory = []string{"hash", "btree", "dbm", "lmdb", "cdb", "sdbm", "dbz"}

// OwnTable is where a daemon may write a table ("type:path"): in data_directory
// unless the table's own directory belongs to mail_owner (spec config.md §4.2).
// Who can write there could have the daemon write to other files.
func (rt *Runtime) OwnTable(spec string) string {
	kind, name, ok := strings.Cut(spec, ":")
	if !ok || !slices.Contains(inDirectory, kind) {
		return spec
	}
	dir := filepath.Dir(name)
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil || !rt.Root || int(st.Uid) == rt.Owner.UID {
		return spec
	}
	data := rt.Config.String("data_directory")
	rt.Log.Warn("request to update table %s in non-postfix directory %s", spec, dir)
	rt.Log.Warn("redirecting the request to postfix-owned data_directory %s", data)
	return kind + ":" + filepath.Join(data, filepath.Base(name))
}
