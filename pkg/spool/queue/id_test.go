package queue

import (
	"strings"
	"testing"
	"time"
)

// The examples of spec queue.md §1.3, 1.4.
func TestIDs(t *testing.T) {
	for _, c := range []struct {
		id   string
		long bool
		when time.Time
		ino  uint64
		hash string
	}{
		{"9222F9BC208", false, time.Unix(1795328752, 598575_000), 0x9BC208, "9222F9BC208"},
		{"4jXKB24Sk0z1TxC5", true, time.Unix(1795329434, 629304_000), 10209491, "99A38"},
	} {
		if got := NewID(c.when, c.ino, c.long); got != c.id {
			t.Errorf("NewID: %s, want %s", got, c.id)
		}
		id, err := ParseID(c.id)
		if err != nil || id.Long != c.long || id.Inode != c.ino || id.Usec != int64(c.when.Nanosecond()/1000) {
			t.Errorf("%s: %+v %v", c.id, id, err)
		}
		if c.long && id.Seconds != c.when.Unix() {
			t.Error(id.Seconds)
		}
		if got := hashString(c.id); got != c.hash {
			t.Errorf("hash string %s, want %s", got, c.hash)
		}
	}
	for _, bad := range []string{"", "12345", "1234", "12345XYZ", "ABC-DEF", "4jXKB24Sk0z", "4aXKB24Sk0z1TxC5", strings.Repeat("1", 256)} {
		if id, err := ParseID(bad); err == nil {
			t.Errorf("%q: %+v", bad, id)
		}
	}
	if got := NewID(time.Unix(0, 0), 1, true); got != "0000000000z1" {
		t.Error(got)
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		depth     int
		queue, id string
		want      string
	}{
		{1, Deferred, "9222F9BC208", "deferred/9/9222F9BC208"},
		{1, Deferred, "4jXKB24Sk0z1TxC5", "deferred/9/4jXKB24Sk0z1TxC5"},
		{2, Deferred, "9222F9BC208", "deferred/9/2/9222F9BC208"},
		{3, Deferred, "9", "deferred/9/_/_/9"},
		{1, Incoming, "9222F9BC208", "incoming/9222F9BC208"},
		{1, "DEFER", "9222F9BC208", "DEFER/9/9222F9BC208"},
		{2, Defer, "4aXKB2aaaaz1TxC5", "defer/0/0/4aXKB2aaaaz1TxC5"},
		{1, Incoming, "../x", ""},
		{1, "../etc", "ABCDEF", ""},
		{1, Incoming, "", ""},
	} {
		s := New("", Options{HashNames: []string{"deferred", "defer"}, HashDepth: c.depth})
		if got := s.Path(c.queue, c.id); got != c.want {
			t.Errorf("%s %s depth %d: %q, want %q", c.queue, c.id, c.depth, got, c.want)
		}
	}
	if got := New("/q", Options{}).Path(Hold, "ABCDEF"); got != "/q/hold/ABCDEF" {
		t.Error(got)
	}
}

func TestValid(t *testing.T) {
	for id, want := range map[string]bool{"A": true, "relay_test": true, "a.b": false, "123.45": false, "x#FIX": false, "ä": false, strings.Repeat("a", 255): true} {
		if ValidID(id) != want {
			t.Errorf("ValidID(%q)", id)
		}
	}
	if ValidName("a_b") || !ValidName("deferred") || ValidName(strings.Repeat("a", 101)) {
		t.Error("ValidName")
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("9222F9BC208")
	f.Add("4jXKB24Sk0z1TxC5")
	f.Add("zzzzzzzzzzzzzzzzz")
	f.Fuzz(func(t *testing.T, name string) {
		id, err := ParseID(name)
		if ValidID(name) {
			s := New("", Options{HashNames: []string{Deferred}, HashDepth: 2})
			if parts := strings.Split(s.Path(Deferred, name), "/"); len(parts) != 4 || parts[3] != name || len(parts[1]) != 1 {
				t.Fatalf("%q: path %q", name, parts)
			}
		}
		if err != nil {
			return
		}
		if !ValidID(name) {
			t.Fatalf("%q is not legal but has parts", name)
		}
		if !id.Long || id.Usec > 999_999 {
			return
		}
		again, err := ParseID(NewID(time.Unix(id.Seconds, id.Usec*1000), id.Inode, true))
		if id.Seconds < 1<<60 && (err != nil || again != id) {
			t.Fatalf("%q: %+v, again %+v %v", name, id, again, err)
		}
	})
}
