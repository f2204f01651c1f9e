package table

import "strings"

// Flags are the option bits of a table, with the values used in the proxymap
// protocol (config.md 3.2, ipc.md 2.14).
type Flags uint32

// The flag bits.
const (
	DupWarn      Flags = 1 << 0  // warn about a duplicate key, keep the first value
	DupIgnore    Flags = 1 << 1  // keep the first value silently
	Try0Null     Flags = 1 << 2  // keys may be stored without a trailing null byte
	Try1Null     Flags = 1 << 3  // keys may be stored with a trailing null byte
	Fixed        Flags = 1 << 4  // keys are looked up literally; partial keys make sense
	Pattern      Flags = 1 << 5  // only complete keys make sense
	Lock         Flags = 1 << 6  // lock the file around each access
	DupReplace   Flags = 1 << 7  // the last of several values stays
	SyncUpdate   Flags = 1 << 8  // flush after each change
	Debug        Flags = 1 << 9  // log each access
	NoRegsub     Flags = 1 << 11 // $number substitution is not allowed
	NoProxy      Flags = 1 << 12 // open proxy:X as X
	NoUnauth     Flags = 1 << 13 // refuse unauthenticated sources
	FoldFix      Flags = 1 << 14 // fold the key when the table is Fixed
	FoldMul      Flags = 1 << 15 // fold the key when the table is a Pattern
	OpenLock     Flags = 1 << 16 // hold an exclusive lock for the life of the table
	BulkUpdate   Flags = 1 << 17 // many updates follow
	MultiWriter  Flags = 1 << 18 // several writers at a time are safe
	UTF8Request  Flags = 1 << 19 // UTF-8 mode wanted
	UTF8Active   Flags = 1 << 20 // UTF-8 mode is on
	SrcRHSIsFile Flags = 1 << 21 // values in the source name files
	Paranoid           = NoRegsub | NoProxy | NoUnauth
	ImplMask           = Fixed | Pattern | MultiWriter // what a table reports of itself
	RequestMask        = FoldFix | FoldMul | Lock | DupReplace | DupWarn | DupIgnore | SyncUpdate | Paranoid | UTF8Request
	InstanceMask       = ^(ImplMask | RequestMask) & (1<<22 - 1) // what selects an instance
	knownMask    Flags = (1<<22 - 1) &^ (1 << 10)
)

// flagNames is in bit order; bit 10 has no meaning.
var flagNames = [...]string{
	"warn_dup", "ignore_dup", "try0null", "try1null", "fixed", "pattern", "lock", "replace",
	"sync_update", "debug", "", "no_regsub", "no_proxy", "no_unauth", "fold_fix", "fold_mul",
	"open_lock", "bulk_update", "multi_writer", "utf8_request", "utf8_active", "src_rhs_is_file",
}

// String gives the set names joined by "|" in bit order, as in log lines.
func (f Flags) String() string {
	var names []string
	for i, name := range flagNames {
		if name != "" && f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}
