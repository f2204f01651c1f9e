package interchange

import (
	"slices"
	"strings"

	"posthaste/test/world"
)

// daemons are the programs that Debian's package has in its daemon directory.
var daemons = []string{"anvil", "bounce", "cleanup", "discard", "dnsblog", "error", "flush", "lmtp", "local", "master", "nqmgr", "oqmgr", "pickup", "pipe",
	"postlogd", "postscreen", "proxymap", "qmgr", "qmqpd", "scache", "showq", "smtp", "smtpd", "spawn", "tlsmgr", "tlsproxy", "trivial-rewrite", "verify", "virtual"}

// carriers are the daemons that all mail passes: their cells have all kinds
// in a short run, too.
var carriers = []string{"master", "smtpd", "cleanup", "qmgr"}

// companions are programs that come along when one of Debian's is put into
// our suite: ours keep connections and TLS sessions in the process, so ours
// would not serve them as the battery wants to see it.
var companions = map[string][]string{"smtp": {"scache"}}

// A cell is one machine of the battery.
type cell struct {
	suite  world.Suite
	swap   []string // from the other suite
	daemon string   // whose cell it is; empty for a suite without exchanges
	chroot string   // "y" as in Debian's stock master.cf, or "n"
	edit   string   // a sed script for master.cf
	main   []string
	note   string
}

// short says whether the cell has a kind in a short run.
func (c cell) short(k kind) bool {
	if c.daemon == "" || slices.Contains(carriers, c.daemon) {
		return true
	}
	uses := strings.Fields(k.uses)
	return slices.Contains(uses, c.daemon) || c.daemon == "postlogd" && slices.Contains(uses, "pickup")
}

// kinds are those of the cell.
func (c cell) kinds(full bool) []kind {
	if full {
		return kinds
	}
	var list []kind
	for _, k := range kinds {
		if c.short(k) {
			list = append(list, k)
		}
	}
	return list
}

func (c cell) name() string {
	words := []string{c.suite.String()}
	if len(c.swap) > 0 {
		words = append(words, "with", strings.Join(c.swap, "+"))
	}
	if c.note != "" {
		words = append(words, c.note)
	}
	if c.chroot == "n" {
		words = append(words, "no chroot")
	}
	return strings.Join(words, " ")
}

// variants are what a daemon's cells need beyond the exchange.
var variants = map[string]struct {
	edit string
	main []string
}{
	"nqmgr":    {edit: `s/^(qmgr .*)qmgr$/\1nqmgr/`},
	"oqmgr":    {edit: `s/^(qmgr .*)qmgr$/\1oqmgr/`},
	"postlogd": {main: []string{"maillog_file = " + maillog}},
}

// cells are all cells with one setting of the chroot column. A suite's whole
// run without exchanges comes first.
func cells(chroot string) (list []cell) {
	list = append(list, cell{suite: world.Debian, chroot: chroot}, cell{suite: world.Ours, chroot: chroot})
	for _, d := range daemons {
		v := variants[d]
		for _, suite := range []world.Suite{world.Debian, world.Ours} {
			c := cell{suite: suite, swap: []string{d}, daemon: d, chroot: chroot, edit: v.edit, main: v.main}
			if suite == world.Ours {
				c.swap = append(c.swap, companions[d]...)
			}
			list = append(list, c)
		}
	}
	// Debian's smtp is the only one that asks scache.
	list = append(list, cell{suite: world.Ours, swap: []string{"smtp"}, daemon: "scache", chroot: chroot, note: "asks our scache"})
	// Sockets for triggers were FIFOs once, and master.cf may still say so.
	fifo := `s/^(pickup|qmgr)( +)unix/\1\2fifo/`
	list = append(list, cell{suite: world.Debian, swap: []string{"pickup", "qmgr"}, daemon: "pickup", chroot: chroot, edit: fifo, note: "by FIFO"},
		cell{suite: world.Ours, swap: []string{"pickup", "qmgr"}, daemon: "pickup", chroot: chroot, edit: fifo, note: "by FIFO"},
		cell{suite: world.Debian, swap: []string{"master"}, daemon: "pickup", chroot: chroot, edit: fifo, note: "by FIFO"})
	return list
}
