package bouncelog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/sys/maillog"
)

func newSpool(t *testing.T, o queue.Options) *queue.Spool {
	t.Helper()
	dir := t.TempDir()
	for _, q := range []string{queue.Bounce, queue.Defer, queue.Trace} {
		os.Mkdir(filepath.Join(dir, q), 0700)
	}
	o.HashNames, o.HashDepth = []string{"defer"}, 1
	return queue.New(dir, o)
}

var refused = Entry{
	Rcpt: `"a b"@defer.test`, Offset: 781, DSNOrigRcpt: `rfc822;"a b"@defer.test`,
	Status: dsn.Status{Code: "4.4.1", Action: "delayed", Reason: "connect to 127.0.0.1[127.0.0.1]:1: Connection refused"},
}

// The example of spec queue.md §3.1.
const refusedText = `
<"a b"@defer.test>: connect to 127.0.0.1[127.0.0.1]:1: Connection refused
recipient="a b"@defer.test
offset=781
dsn_orig_rcpt=rfc822;"a b"@defer.test
status=4.4.1
action=delayed
reason=connect to 127.0.0.1[127.0.0.1]:1: Connection refused

`

func TestAppendAndRead(t *testing.T) {
	s := newSpool(t, queue.Options{})
	full := Entry{Rcpt: "b@x.test", OrigRcpt: "a@x.test", Offset: 5, DSNOrigRcpt: "rfc822;a@x.test", Notify: 6,
		Status: dsn.Status{Code: "5.1.1", Action: "failed", Reason: "no", DiagType: "smtp", DiagText: "550 no", MTAType: "dns", MTAName: "mx.x.test"}}
	for _, e := range []Entry{refused, full} {
		if err := Append(s, queue.Defer, "9222F9BC208", e, Options{OldStyle: true}); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := os.ReadFile(s.Path(queue.Defer, "9222F9BC208"))
	want := refusedText + `
<b@x.test>: no
recipient=b@x.test
original_recipient=a@x.test
offset=5
dsn_orig_rcpt=rfc822;a@x.test
notify_flags=6
status=5.1.1
action=failed
diag_type=smtp
diag_text=550 no
mta_type=dns
mta_mname=mx.x.test
reason=no

`
	if string(text) != want {
		t.Errorf("got\n%s", text)
	}
	if info, _ := os.Stat(s.Path(queue.Defer, "9222F9BC208")); info.Mode() != 0600 {
		t.Error(info.Mode())
	}
	var got []Entry
	for e, err := range Read(s, queue.Defer, "9222F9BC208", nil) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if !reflect.DeepEqual(got, []Entry{refused, full}) {
		t.Errorf("got %+v", got)
	}
	for _, err := range Read(s, queue.Bounce, "9222F9BC208", nil) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if err := Remove(s, queue.Bounce, "9222F9BC208"); err != nil {
		t.Error(err)
	}
}

func TestReadOddities(t *testing.T) {
	log, buffer := maillog.Capture()
	r := NewReader(strings.NewReader("\n\n<>: old style\n\nnonsense\nfoo=bar\n-x\nreason=late\xff\n\nrecipient=\nstatus=x\n\n\n\n<a@b>: r1\nrecipient=c@d\nreason=r2"), "bounce/X", false)
	r.Log = log
	failed := dsn.Status{Code: "5.0.0", Action: "failed"}
	status := func(reason string) dsn.Status { s := failed; s.Reason = reason; return s }
	for i, want := range []Entry{
		{Rcpt: EmptyRcpt, Status: status("old style")},
		{Rcpt: UnknownRcpt, Status: status("late?")},
		{Rcpt: EmptyRcpt, Status: status(UnknownReason)},
		{Rcpt: "c@d", Status: status("r2")},
	} {
		if got, err := r.Next(); err != nil || got != want {
			t.Errorf("%d: %+v %v", i, got, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
	want := []string{
		"warning: bounce/X: malformed record: missing '=' after attribute name",
		"warning: bounce/X: unknown attribute name: foo, ignored",
		"warning: bounce/X: malformed record: -x...",
	}
	if !reflect.DeepEqual(buffer.Lines(), want) {
		t.Errorf("%q", buffer.Lines())
	}
}

// A failed append leaves the log as it was, and is not reported as done.
func TestAppendFaults(t *testing.T) {
	for name, fault := range map[string]queue.FS{
		"write":    {Write: func(f *os.File, b []byte) (int, error) { n, _ := f.Write(b[:10]); return n, syscall.ENOSPC }},
		"fsync":    {Sync: func(*os.File) error { return syscall.EIO }},
		"fsyncdir": {SyncDir: func(string, *os.File) error { return syscall.EIO }},
	} {
		s := newSpool(t, queue.Options{FS: fault})
		if err := Append(s, queue.Bounce, "ABCDEF", refused, Options{}); err == nil {
			t.Errorf("%s: a promise was made", name)
		}
		if info, _ := os.Stat(s.Path(queue.Bounce, "ABCDEF")); info.Size() != 0 {
			t.Errorf("%s: %d bytes left", name, info.Size())
		}
	}
}

func TestAppendWaitsForLock(t *testing.T) {
	s := newSpool(t, queue.Options{})
	f, err := s.OpenLog(queue.Bounce, "ABCDEF", os.O_WRONLY|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.Lock(f, true); err != nil {
		t.Fatal(err)
	}
	slept := 0
	o := Options{LockAttempts: 3, LockDelay: time.Second, Sleep: func(d time.Duration) {
		if slept++; d < 750*time.Millisecond || d > 1250*time.Millisecond {
			t.Error(d)
		}
	}}
	if err := Append(s, queue.Bounce, "ABCDEF", refused, o); !errors.Is(err, ErrBusy) || slept != 2 {
		t.Error(err, slept)
	}
	o.Sleep = func(time.Duration) { f.Close() }
	if err := Append(s, queue.Bounce, "ABCDEF", refused, o); err != nil {
		t.Error(err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(refusedText))
	f.Add([]byte("\n<>: x\n\nrecipient=\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in), "bounce/X", false)
		for {
			e, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.Rcpt == "" || strings.ContainsAny(e.Rcpt+e.Status.Reason, "\n\x00") {
				t.Fatalf("%+v", e)
			}
		}
	})
}
