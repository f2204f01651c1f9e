package pickup

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/record"
	"posthaste/pkg/sys/maillog"
)

// fakeCleanup takes messages and answers as it is told.
type fakeCleanup struct {
	result cleanup.Result
	dead   bool
	flags  []cleanup.Flags
	got    []string // the records of each complete message, as text
}

func (f *fakeCleanup) open(context.Context) (*cleanup.Session, error) {
	if f.dead {
		return nil, fmt.Errorf("connect: refused")
	}
	client, server := net.Pipe()
	go f.serve(server)
	return cleanup.NewSession(dial.NewConn(client, 5*time.Second, "cleanup"))
}

func (f *fakeCleanup) serve(conn net.Conn) {
	defer conn.Close()
	cleanup.Announce(conn, "NEWID1")
	in := bufio.NewReader(conn)
	flags, err := cleanup.ReadFlags(attr.NewReader(in, attr.Null, "client"))
	if err != nil {
		return
	}
	r := record.NewReader(in)
	var b strings.Builder
	for {
		t, data, err := r.Next()
		if err != nil {
			return
		}
		fmt.Fprintf(&b, "%c%s|", t, data)
		if t == record.TypeEnd {
			f.flags, f.got = append(f.flags, flags), append(f.got, b.String())
			cleanup.Reply(conn, f.result)
			return
		}
	}
}

type bench struct {
	*pickup
	fake  *fakeCleanup
	lines *maillog.Buffer
	dir   string
}

func newBench(t *testing.T, settings map[string]string) *bench {
	t.Helper()
	all := map[string]string{"myhostname": "mail.example.com"}
	for k, v := range settings {
		all[k] = v
	}
	c := conf.FromMap(all)
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/maildrop", 0o700); err != nil {
		t.Fatal(err)
	}
	log, lines := maillog.Capture()
	b := &bench{fake: &fakeCleanup{}, lines: lines, dir: dir}
	b.pickup = newPickup(c, log, queue.Open(dir, c).WithLog(log), os.Getuid()+1)
	b.open = b.fake.open
	return b
}

// drop puts a file of records, "Tdata|Sdata|...", into the maildrop.
func (b *bench) drop(t *testing.T, id, records string) string {
	t.Helper()
	var data []byte
	for r := range strings.SplitSeq(strings.TrimSuffix(records, "|"), "|") {
		data = record.Append(data, record.Type(r[0]), []byte(r[1:]))
	}
	path := b.dir + "/maildrop/" + id
	if err := os.WriteFile(path, data, 0o744); err != nil {
		t.Fatal(err)
	}
	return path
}

const stored = "T1795330234 433092|Arewrite_context=local|Fme|Salice@x.test|Lfilter:bad|Rbob@y.test|M|NSubject: hi|N|Nbody|X|Rcc@y.test|Anotify_flags=1|Aevil=1|>redirect|E|"

func gone(path string) bool { _, err := os.Lstat(path); return os.IsNotExist(err) }

var date = regexp.MustCompile(`id NEWID1; [^|]*`)

func TestHandOver(t *testing.T) {
	b := newBench(t, map[string]string{"content_filter": "spam:x"})
	path := b.drop(t, "AAAAAA1", stored)
	b.scan(t.Context())
	want := fmt.Sprintf("Lspam:x|T1795330234 433092|Arewrite_context=local|Fme|Salice@x.test|Rbob@y.test|M|NReceived: by mail.example.com (Postfix, from userid %d)|N\tid NEWID1; DATE|NSubject: hi|N|Nbody|X|Rcc@y.test|Anotify_flags=1|E|", os.Getuid())
	if len(b.fake.got) != 1 || date.ReplaceAllString(b.fake.got[0], "id NEWID1; DATE") != want {
		t.Errorf("got  %q\nwant %q", b.fake.got, want)
	}
	if b.fake.flags[0] != 627 {
		t.Errorf("flags %d, want 627 (ipc.md §2.1)", b.fake.flags[0])
	}
	if !gone(path) {
		t.Error("the file is still there")
	}
	if want := fmt.Sprintf("NEWID1: uid=%d from=<alice@x.test>", os.Getuid()); !slices.Contains(b.lines.Lines(), want) {
		t.Errorf("log %q", b.lines.Lines())
	}
}

func TestRequeued(t *testing.T) {
	b := newBench(t, nil)
	b.owner = os.Getuid()
	path := b.drop(t, "AAAAAA2", stored)
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	b.scan(t.Context())
	if len(b.fake.flags) != 1 || b.fake.flags[0] != 627-64-512 {
		t.Errorf("flags %v: requeued mail has met the Milters already", b.fake.flags)
	}
	if log := strings.Join(b.lines.Lines(), "\n"); !strings.HasSuffix(log, "from=<alice@x.test> orig_id=AAAAAA2") {
		t.Errorf("log %q", log)
	}
}

func TestLeadingWhiteSpace(t *testing.T) {
	b := newBench(t, nil)
	b.drop(t, "AAAAAA3", "Sa|Rb|M|N folded|X|E|")
	b.scan(t.Context())
	if len(b.fake.got) != 1 || !strings.Contains(b.fake.got[0], "|N|N folded|") || !regexp.MustCompile(`^T\d+\|Sa\|`).MatchString(b.fake.got[0]) {
		t.Errorf("%q", b.fake.got)
	}
}

// What happens to the file for each outcome of the spec's table.
func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name, records string
		result        cleanup.Result
		dead, gone    bool
		log           string
	}{
		{"accepted", stored, cleanup.Result{}, false, true, ""},
		{"protocol error", stored, cleanup.Result{Status: cleanup.StatusBad}, false, true, "warning: maildrop/AAAAAA9: error writing NEWID1: internal protocol error"},
		{"no recipient", stored, cleanup.Result{Status: cleanup.StatusRcpt}, false, true, "no recipients specified"},
		{"queue full", stored, cleanup.Result{Status: cleanup.StatusWrite}, false, false, "error writing NEWID1: queue file write error"},
		{"deferred with a reason", stored, cleanup.Result{Status: cleanup.StatusDefer, Reason: "4.7.1 later"}, false, false, ""},
		{"no cleanup", stored, cleanup.Result{}, true, false, "refused"},
		{"no sender", "T1|Rx|M|X|E|", cleanup.Result{}, false, true, "no envelope sender"},
		{"cut off", "T1|Sx|Ry|M|Nabc|", cleanup.Result{}, false, true, "unexpected or malformed record type -1"},
		{"wrong order", "T1|Sx|Nabc|M|X|E|", cleanup.Result{}, false, true, "unexpected or malformed record type 78"},
	} {
		b := newBench(t, nil)
		b.fake.result, b.fake.dead = c.result, c.dead
		path := b.drop(t, "AAAAAA9", c.records)
		b.scan(t.Context())
		if gone(path) != c.gone {
			t.Errorf("%s: file gone: %v, want %v", c.name, gone(path), c.gone)
		}
		if log := strings.ReplaceAll(strings.Join(b.lines.Lines(), "\n"), b.dir+"/", ""); !strings.Contains(log, c.log) {
			t.Errorf("%s: log %q lacks %q", c.name, log, c.log)
		}
	}
}

// Files that no postdrop wrote.
func TestStrangeFiles(t *testing.T) {
	b := newBench(t, nil)
	path := b.drop(t, "BBBBBB1", stored)
	if err := os.Link(path, b.dir+"/other"); err != nil {
		t.Fatal(err)
	}
	unready := b.drop(t, "BBBBBB2", stored)
	os.Chmod(unready, 0o600)
	os.Mkdir(b.dir+"/maildrop/BBBBBB3", 0o755)
	if err := os.WriteFile(b.dir+"/maildrop/BBBBBB4", []byte("R\xff\xff\xff\xff\xff\xffjunk"), 0o744); err != nil {
		t.Fatal(err)
	}
	b.scan(t.Context())
	if !gone(path) || gone(b.dir+"/other") {
		t.Error("a file with two links must be dropped, its other name left alone")
	}
	if gone(unready) {
		t.Error("an unfinished file was removed")
	}
	if !gone(b.dir + "/maildrop/BBBBBB4") {
		t.Error("a malformed file stays for ever")
	}
	if len(b.fake.got) != 0 {
		t.Errorf("handed over: %q", b.fake.got)
	}
}
