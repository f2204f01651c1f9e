package macro

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Level is a compatibility level MAJOR.MINOR.PATCH (spec config.md 1.8).
type Level struct{ Major, Minor, Patch int }

// Limits on the parts of a level.
const (
	maxMajor = 1<<43 - 1
	maxMinor = 1023 // and of the patch
)

// ParseLevel parses MAJOR[.MINOR[.PATCH]]; minor and patch are at most 1023.
// As in the original each number may have blanks and a sign in front.
func ParseLevel(s string) (Level, error) {
	bad := &Error{Text: `malformed compatibility level syntax: "` + s + `"`}
	parts := strings.Split(s, ".")
	if len(parts) > 3 {
		return Level{}, bad
	}
	var n [3]int
	for i, p := range parts {
		limit := maxMinor
		if i == 0 {
			limit = maxMajor
		}
		p = trimLeft(p)
		v, err := strconv.Atoi(p)
		if err != nil || v < 0 || v > limit {
			return Level{}, bad
		}
		n[i] = v
	}
	return Level{n[0], n[1], n[2]}, nil
}

// Compare returns -1, 0 or 1, part by part.
func (l Level) Compare(o Level) int {
	return cmp.Or(cmp.Compare(l.Major, o.Major), cmp.Compare(l.Minor, o.Minor), cmp.Compare(l.Patch, o.Patch))
}

// Less reports whether l is below major.minor.
func (l Level) Less(major, minor int) bool { return l.Compare(Level{major, minor, 0}) < 0 }

// String returns the printed form; levels below 3 have no minor.
func (l Level) String() string {
	switch {
	case l.Major < 3 && l.Minor == 0 && l.Patch == 0:
		return strconv.Itoa(l.Major)
	case l.Patch == 0:
		return fmt.Sprintf("%d.%d", l.Major, l.Minor)
	}
	return fmt.Sprintf("%d.%d.%d", l.Major, l.Minor, l.Patch)
}
