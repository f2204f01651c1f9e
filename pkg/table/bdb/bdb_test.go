package bdb

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// samples gives n pairs with some long keys and values among them.
func samples(n int) []Pair {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	pairs := make([]Pair, n)
	for i := range pairs {
		key := fmt.Sprintf("user%d@example.com", i)
		value := strings.Repeat("v", r.IntN(40)) + fmt.Sprint(i)
		switch i % 97 {
		case 13:
			value = strings.Repeat("long value ", 100+r.IntN(3000))
		case 29:
			key = strings.Repeat("k", 1000+r.IntN(4000)) + key
		case 31:
			value = strings.Repeat("x", 1000+r.IntN(60))
		}
		pairs[i] = Pair{append([]byte(key), 0), append([]byte(value), 0)}
	}
	return pairs
}

func TestBuildAndRead(t *testing.T) {
	for _, kind := range []Kind{Hash, Btree} {
		for _, pageSize := range []int{512, 4096, 65536} {
			for _, n := range []int{0, 1, 2, 3, 50, 500, 5000} {
				t.Run(fmt.Sprint(kind, pageSize, n), func(t *testing.T) {
					pairs := samples(n)
					image, err := Build(kind, pairs, pageSize, [20]byte{})
					if err != nil {
						t.Fatal(err)
					}
					// For the comparison with the real library: BDB_OUT=dir go test.
					if dir := os.Getenv("BDB_OUT"); dir != "" {
						os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d-%d-%d.db", kind, pageSize, n)), image, 0o644)
					}
					check(t, image, kind, pairs)
				})
			}
		}
	}
}

func check(t *testing.T, image []byte, kind Kind, pairs []Pair) {
	t.Helper()
	db, err := Open(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	if db.Kind() != kind {
		t.Fatalf("kind %d", db.Kind())
	}
	for _, p := range pairs {
		v, found, err := db.Get(p.Key)
		if err != nil || !found || !bytes.Equal(v, p.Value) {
			t.Fatalf("Get(%.40q) = %.40q, %v, %v; want %.40q", p.Key, v, found, err, p.Value)
		}
		if _, found, err := db.Get(append(p.Key, 'x')); found || err != nil {
			t.Fatalf("found what is not there: %v", err)
		}
	}
	if _, found, _ := db.Get(nil); found {
		t.Fatal("found the empty key")
	}
	seen := make(map[string]string)
	var last []byte
	for p, err := range db.All() {
		if err != nil {
			t.Fatal(err)
		}
		if kind == Btree && last != nil && bytes.Compare(last, p.Key) >= 0 {
			t.Fatalf("%.40q before %.40q", last, p.Key)
		}
		last = p.Key
		seen[string(p.Key)] = string(p.Value)
	}
	if len(seen) != len(pairs) {
		t.Fatalf("walked %d pairs, want %d", len(seen), len(pairs))
	}
	for _, p := range pairs {
		if seen[string(p.Key)] != string(p.Value) {
			t.Fatalf("walk: wrong value of %.40q", p.Key)
		}
	}
}

// TestExample is the worked example of config.md 3.17.
func TestExample(t *testing.T) {
	pairs := []Pair{{[]byte("a\x00"), []byte("1\x00")}, {[]byte("bb\x00"), []byte("22\x00")}}
	image, err := Build(Hash, pairs, 4096, [20]byte{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   int
		want string
	}{
		{0, "\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x61\x15\x06\x00\x09\x00\x00\x00\x00\x10\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00"},
		{0x48, "\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x10\x00\x00\xd1\x8d\x68\x5e\x01\x00\x00\x00\x01\x00\x00\x00\x00"},
		{0x1000, "\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf8\x0f\x00\x0d\xfc\x0f\xf8\x0f"},
		{0x1ff8, "\x0122\x00\x01bb\x00"},
		{0x2ffa, "\x011\x00\x01a\x00"},
	} {
		if got := string(image[c.at : c.at+len(c.want)]); got != c.want {
			t.Errorf("at %#x: % x, want % x", c.at, got, c.want)
		}
	}
}

// TestGoldens reads files made by Debian's postmap.
func TestGoldens(t *testing.T) {
	for _, c := range []struct {
		file string
		kind Kind
		n    int
	}{{"small.hash.db", Hash, 300}, {"small.btree.db", Btree, 300}} {
		image, err := os.ReadFile(filepath.Join("testdata", c.file))
		if err != nil {
			t.Fatal(err)
		}
		check(t, image, c.kind, goldenPairs(c.n))
	}
}

// goldenPairs is the source of the files in testdata: see testdata/README.
func goldenPairs(n int) []Pair {
	var pairs []Pair
	for i := range n {
		value := fmt.Sprintf("value %d", i)
		if i%50 == 7 {
			value = strings.Repeat("0123456789", 300+i)
		}
		key := fmt.Sprintf("key%d", i)
		if i%100 == 9 {
			key = strings.Repeat("k", 2000) + key
		}
		pairs = append(pairs, Pair{append([]byte(key), 0), append([]byte(value), 0)})
	}
	return pairs
}

func TestWriteGoldenSource(t *testing.T) {
	path := os.Getenv("BDB_GOLDEN_SOURCE")
	if path == "" {
		t.Skip("BDB_GOLDEN_SOURCE is not set: nothing to write")
	}
	var b strings.Builder
	for _, p := range goldenPairs(300) {
		fmt.Fprintf(&b, "%s %s\n", p.Key[:len(p.Key)-1], p.Value[:len(p.Value)-1])
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestForeignFiles(t *testing.T) {
	for _, image := range [][]byte{nil, []byte("text"), make([]byte, 8192), bytes.Repeat([]byte{0xff}, 8192)} {
		if _, err := Open(bytes.NewReader(image)); err == nil {
			t.Errorf("opened %d bytes of something else", len(image))
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, kind := range []Kind{Hash, Btree} {
		for _, n := range []int{0, 3, 40} {
			image, err := Build(kind, samples(n), 512, [20]byte{1})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(image, []byte("user1@example.com\x00"))
		}
	}
	f.Fuzz(func(t *testing.T, image, key []byte) {
		db, err := Open(bytes.NewReader(image))
		if err != nil {
			return
		}
		db.Get(key)
		n := 0
		for range db.All() {
			if n++; n > 10000 {
				break
			}
		}
	})
}
