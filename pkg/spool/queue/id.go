package queue

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ErrID is returned for a name that cannot be a queue file's or a queue's.
var ErrID = errors.New("bad queue name or queue id")

const (
	maxIDLength   = 255
	maxNameLength = 100
	longSeparator = 'z'
	longMinPrefix = 10 // six digits of seconds, four of microseconds
	shortUsec     = 5  // hex digits of microseconds in a short id
	base52        = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
)

// ValidID reports whether name can be that of a queue file: 1 to 255 ASCII
// letters, digits and underscores (which only flush files have).
func ValidID(name string) bool { return valid(name, maxIDLength, true) }

// ValidName reports whether name can be that of a queue: 1 to 100 ASCII
// letters and digits.
func ValidName(name string) bool { return valid(name, maxNameLength, false) }

func valid(name string, limit int, underscore bool) bool {
	if name == "" || len(name) > limit {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || underscore && c == '_') {
			return false
		}
	}
	return true
}

// ID is a queue id taken apart (spec queue.md §1.4).
type ID struct {
	Long    bool
	Seconds int64  // since the epoch; long ids only
	Usec    int64  // microseconds of the second in which the file was created
	Inode   uint64 // of the file
}

// NewID is the queue id of a file with that inode number, created at t.
func NewID(t time.Time, inode uint64, long bool) string {
	usec := t.Nanosecond() / 1000
	if !long {
		return fmt.Sprintf("%05X%X", usec, inode)
	}
	seconds := encode(uint64(t.Unix()), 52, 6)
	return seconds + encode(uint64(usec), 52, 4) + string(longSeparator) + encode(inode, 51, 1)
}

// IsLong reports whether a name has the form of a long queue id. Every name
// is put to this test, those of log files included.
func IsLong(name string) bool { return strings.LastIndexByte(name, longSeparator) >= longMinPrefix }

// ParseID takes a queue id apart. A name that holds no inode number is ErrID.
func ParseID(name string) (ID, error) {
	if !ValidID(name) {
		return ID{}, ErrID
	}
	if !IsLong(name) {
		return parseShort(name)
	}
	z := strings.LastIndexByte(name, longSeparator)
	seconds, err1 := decode(name[:z-4], 52)
	usec, err2 := decode(name[z-4:z], 52)
	inode, err3 := decode(name[z+1:], 51)
	if err1 != nil || err2 != nil || err3 != nil || seconds > math.MaxInt64 {
		return ID{}, ErrID
	}
	return ID{Long: true, Seconds: int64(seconds), Usec: int64(usec), Inode: inode}, nil
}

func parseShort(name string) (ID, error) {
	if len(name) <= shortUsec {
		return ID{}, ErrID
	}
	usec, err1 := strconv.ParseUint(name[:shortUsec], 16, 32)
	inode, err2 := strconv.ParseUint(name[shortUsec:], 16, 64)
	if err1 != nil || err2 != nil {
		return ID{}, ErrID
	}
	return ID{Usec: int64(usec), Inode: inode}, nil
}

// hashString is what the hash directories of a name are taken from.
func hashString(name string) string {
	if !IsLong(name) {
		return name
	}
	z := strings.LastIndexByte(name, longSeparator)
	usec, err := decode(name[z-4:z], 52)
	if err != nil {
		usec = 0
	}
	return fmt.Sprintf("%05X", usec)
}

func encode(n uint64, base uint64, width int) string {
	var digits [16]byte
	i := len(digits)
	for n > 0 {
		i--
		digits[i] = base52[n%base]
		n /= base
	}
	for len(digits)-i < width {
		i--
		digits[i] = '0'
	}
	return string(digits[i:])
}

func decode(text string, base uint64) (uint64, error) {
	if text == "" {
		return 0, ErrID
	}
	var n uint64
	for i := 0; i < len(text); i++ {
		d := strings.IndexByte(base52[:base], text[i])
		if d < 0 || n > (math.MaxUint64-uint64(d))/base {
			return 0, ErrID
		}
		n = n*base + uint64(d)
	}
	return n, nil
}
