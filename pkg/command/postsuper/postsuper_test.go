package postsuper

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/spool/queue"
	"posthaste/pkg/spool/spooltest"
	"posthaste/pkg/sys/maillog"
)

// world is a spool with one of everything.
type world struct {
	t   *testing.T
	dir string
	ids map[string]string
	log *maillog.Buffer
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: spooltest.Empty(t), ids: map[string]string{}}
	w.add("ok", "deferred/1/12345{i}", 0700)
	w.log1("ok", "defer/1", "trace", "bounce")
	w.add("flat", "deferred/ABCDE{i}", 0700)
	w.add("held", "hold/CCCCC{i}", 0700)
	w.add("unfinished", "hold/CCCCD{i}", 0600)
	w.add("busy", "active/BBBBB{i}", 0700)
	w.add("dropped", "maildrop/EEEEE{i}", 0744)
	return w
}

// add writes a file whose name has {i} for its inode number.
func (w *world) add(label, path string, mode fs.FileMode) string {
	w.t.Helper()
	full := filepath.Join(w.dir, path)
	os.MkdirAll(filepath.Dir(full), 0700)
	tmp := filepath.Join(filepath.Dir(full), ".tmp")
	if err := os.WriteFile(tmp, []byte(label), mode); err != nil {
		w.t.Fatal(err)
	}
	os.Chmod(tmp, mode)
	info, _ := os.Stat(tmp)
	full = strings.ReplaceAll(full, "{i}", fmt.Sprintf("%X", inode(info)))
	os.Rename(tmp, full)
	w.ids[label] = filepath.Base(full)
	return full
}

func (w *world) log1(label string, queues ...string) {
	for _, q := range queues {
		os.MkdirAll(filepath.Join(w.dir, q), 0700)
		os.WriteFile(filepath.Join(w.dir, q, w.ids[label]), []byte(label+"-log"), 0600)
	}
}

// where finds a file by its content.
func (w *world) where(label string) string {
	found := "nowhere"
	filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if data, _ := os.ReadFile(path); string(data) == label {
				found = strings.TrimPrefix(path, w.dir+"/")
			}
		}
		return nil
	})
	return found
}

// run runs the command as it is after it has become mail_owner.
func (w *world) run(o queue.Options, stdin string, args ...string) (*tool, error) {
	w.t.Helper()
	for i := range args {
		if id, ok := w.ids[args[i]]; ok {
			args[i] = id
		}
	}
	req, err := parse(append([]string{"postsuper"}, args...), command.Env{Stderr: &bytes.Buffer{}})
	if err != nil {
		w.t.Fatal(err)
	}
	log, buffer := maillog.Capture()
	w.log = buffer
	if o.HashNames == nil {
		o.HashNames, o.HashDepth = []string{"deferred", "defer"}, 1
	}
	o.Log = log
	t := &tool{req: req, spool: queue.New(w.dir, o), hashed: o.HashNames, depth: o.HashDepth, in: strings.NewReader(stdin), log: log, now: time.Now}
	return t, t.run()
}

func (w *world) want(label, path string) {
	w.t.Helper()
	for name, id := range w.ids {
		path = strings.ReplaceAll(path, "{"+name+"}", id)
	}
	if got := w.where(label); got != path {
		w.t.Errorf("%s is %s, want %s", label, got, path)
	}
}

func (w *world) wantLog(lines ...string) {
	w.t.Helper()
	for i := range lines {
		for name, id := range w.ids {
			lines[i] = strings.ReplaceAll(lines[i], "{"+name+"}", id)
		}
		lines[i] = strings.ReplaceAll(lines[i], "DIR", w.dir)
	}
	if got := w.log.Lines(); !slices.Equal(got, lines) {
		w.t.Errorf("log\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

func TestDelete(t *testing.T) {
	w := newWorld(t)
	if _, err := w.run(queue.Options{}, "", "-d", "ok", "-d", "ABCDEF", "-d", "a-b", "-d", "unfinished"); err != nil {
		t.Fatal(err)
	}
	w.want("ok", "nowhere")
	w.want("ok-log", "nowhere")
	w.want("unfinished", "hold/{unfinished}")
	w.wantLog("{ok}: removed", "warning: invalid mail queue id: a-b", "Deleted: 1 message")
}

func TestStdin(t *testing.T) {
	w := newWorld(t)
	in := w.ids["ok"] + "\n" + w.ids["flat"] + "\nNONE12\n\n" + w.ids["busy"]
	w.add("flat", "deferred/A/ABCDE{i}", 0700)
	if _, err := w.run(queue.Options{}, in, "-h", "-"); err != nil {
		t.Fatal(err)
	}
	w.want("ok", "hold/{ok}")
	w.want("busy", "hold/{busy}")
	w.want("ok-log", "trace/{ok}")
	w.wantLog("{ok}: placed on hold", "warning: invalid mail queue id: ", "{busy}: placed on hold", "Placed on hold: 2 messages")
}

func TestRequeueReleaseExpire(t *testing.T) {
	w := newWorld(t)
	old := time.Now().Add(-time.Hour)
	os.Chtimes(filepath.Join(w.dir, w.where("ok")), old, old)
	if _, err := w.run(queue.Options{}, "", "-r", "ok", "-f", "held", "-e", "busy", "-e", "dropped", "-r", "dropped"); err != nil {
		t.Fatal(err)
	}
	w.want("ok", "maildrop/{ok}")
	w.want("held", "deferred/C/{held}")
	info, _ := os.Stat(filepath.Join(w.dir, w.where("ok")))
	if time.Since(info.ModTime()) > time.Minute {
		t.Error("time of a requeued message was not set")
	}
	for _, label := range []string{"held", "busy"} {
		if info, _ := os.Stat(filepath.Join(w.dir, w.where(label))); info.Mode() != 0710 {
			t.Error(label, info.Mode())
		}
	}
	w.wantLog("{ok}: requeued", "{held}: expired", "{held}: released from hold", "{busy}: expired",
		"Requeued: 1 message", "Force-expired: 2 messages", "Released from hold: 1 message")
}

func TestAll(t *testing.T) {
	for _, c := range []struct {
		args []string
		want map[string]string
		last string
	}{
		{[]string{"-d", "ALL"}, map[string]string{"ok": "nowhere", "flat": "nowhere", "held": "nowhere", "dropped": "nowhere", "unfinished": "nowhere", "ok-log": "trace/{ok}"}, "Deleted: 5 messages"},
		{[]string{"-d", "ALL", "deferred"}, map[string]string{"ok": "nowhere", "held": "hold/{held}"}, "Deleted: 2 messages"},
		{[]string{"-r", "ALL"}, map[string]string{"ok": "maildrop/{ok}", "busy": "maildrop/{busy}", "unfinished": "maildrop/{unfinished}", "dropped": "maildrop/{dropped}"}, "Requeued: 5 messages"},
		{[]string{"-h", "ALL"}, map[string]string{"ok": "hold/{ok}", "dropped": "maildrop/{dropped}"}, "Placed on hold: 3 messages"},
		{[]string{"-H", "ALL"}, map[string]string{"held": "deferred/C/{held}"}, "Released from hold: 2 messages"},
		{[]string{"-e", "ALL"}, map[string]string{"ok": "deferred/1/{ok}"}, "Force-expired: 4 messages"},
	} {
		w := newWorld(t)
		if _, err := w.run(queue.Options{}, "", c.args...); err != nil {
			t.Fatal(err)
		}
		for label, path := range c.want {
			w.want(label, path)
		}
		w.wantLog(c.last)
	}
}

// The example of spec queue.md §5.4, and everything else that -s repairs.
func TestStructure(t *testing.T) {
	w := newWorld(t)
	mis := w.add("mis", "deferred/1/1234599999", 0700)
	info, _ := os.Stat(mis)
	number := fmt.Sprintf("%X", inode(info))
	w.log1("mis", "defer/1")
	w.add("deep", "deferred/7/7/77777{i}", 0700)
	w.add("hashed", "incoming/1/11111{i}", 0700)
	w.add("bogus", "hold/QQQQQQ", 0700)
	w.add("short", "hold/12345", 0700)
	os.Symlink("/etc/passwd", filepath.Join(w.dir, "hold/AAAAA1"))
	tool, err := w.run(queue.Options{}, "", "-s")
	if err != nil {
		t.Fatal(err)
	}
	w.want("flat", "deferred/A/{flat}")
	w.want("deep", "deferred/7/{deep}")
	w.want("hashed", "incoming/{hashed}")
	w.want("mis", "deferred/1/12345"+number)
	w.want("mis-log", "defer/1/12345"+number)
	for _, gone := range []string{"deferred/7/7", "incoming/1", "hold/AAAAA1"} {
		if _, err := os.Lstat(filepath.Join(w.dir, gone)); err == nil {
			t.Error(gone, "is still there")
		}
	}
	lines := strings.Join(w.log.Lines(), "\n")
	for _, want := range []string{"Renamed to match inode number: 1 message", "warning: QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS", "warning: bogus file name: " + w.dir + "/hold/QQQQQQ", "warning: bogus file name: " + w.dir + "/hold/12345"} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in\n%s", want, lines)
		}
	}
	if tool.count.renamed != 1 {
		t.Error(tool.count)
	}
	if _, err := w.run(queue.Options{}, "", "-s"); err != nil {
		t.Fatal(err)
	}
	if again := strings.Join(w.log.Lines(), "\n"); strings.Contains(again, "CHANGED") {
		t.Error("a second run finds more to do:", again)
	}
}

// Names were changed: the ids on the command line may mean other messages now.
func TestNamesChanged(t *testing.T) {
	w := newWorld(t)
	w.add("mis", "deferred/1/1234599999", 0700)
	tool, err := w.run(queue.Options{}, "", "-s", "-d", "ok")
	if err == nil || err.Error() != "CHECK YOUR QUEUE IDS AND RE-ISSUE THE COMMAND" {
		t.Error(err)
	}
	if tool.fail(err) != 1 {
		t.Error("exit status")
	}
	w.want("ok", "deferred/1/{ok}")
	lines := w.log.Lines()
	if !slices.Contains(lines, "error: QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS") || lines[len(lines)-1] != "warning: OPERATION INCOMPLETE -- RERUN COMMAND TO FIX THE QUEUE FIRST" {
		t.Error(lines)
	}
}

func TestLongIDs(t *testing.T) {
	for _, c := range []struct {
		long bool
		flag string
		want string // {n} short form, {l} long form of the inode number
	}{
		{true, "-s", "active/4jXKB24Sk0zTxC5"},
		{true, "-S", "active/4jXKB24Sk0z{l}"},
		{false, "-s", "active/99A38{n}"},
	} {
		w := newWorld(t)
		info, _ := os.Stat(w.add("long", "active/4jXKB24Sk0zTxC5", 0700))
		if _, err := w.run(queue.Options{LongIDs: c.long}, "", c.flag, "active"); err != nil {
			t.Fatal(err)
		}
		long := queue.NewID(time.Unix(0, 0), inode(info), true)
		w.want("long", strings.NewReplacer("{n}", fmt.Sprintf("%X", inode(info)), "{l}", long[strings.Index(long, "z")+1:]).Replace(c.want))
	}
}

func TestPurge(t *testing.T) {
	w := newWorld(t)
	old := time.Now().Add(-8 * 24 * time.Hour)
	for _, path := range []string{w.add("stale", "incoming/123.456", 0600), w.add("stalelog", "defer/123.456", 0600), w.add("done", "incoming/AAAAA{i}", 0700)} {
		os.Chtimes(path, old, old)
	}
	w.add("young", "incoming/124.456", 0600)
	if _, err := w.run(queue.Options{}, "", "-p"); err != nil {
		t.Fatal(err)
	}
	w.want("stale", "nowhere")
	w.want("young", "incoming/124.456")
	w.want("stalelog", "defer/123.456")
	w.want("done", "incoming/{done}")
}

func TestFaults(t *testing.T) {
	w := newWorld(t)
	fault := queue.FS{Rename: func(_, _ string) error { return &os.LinkError{Op: "rename", Err: syscall.EIO} }}
	_, err := w.run(queue.Options{FS: fault}, "", "-h", "ok")
	want := fmt.Sprintf("rename file %s/deferred/1/%s as %s/hold/%s: Input/output error", w.dir, w.ids["ok"], w.dir, w.ids["ok"])
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if _, err := w.run(queue.Options{}, "", "-s", "corrupt"); err == nil || err.Error() != "invalid directory name: corrupt" {
		t.Error(err)
	}
	if _, err := w.run(queue.Options{HashNames: []string{"maildrop"}, HashDepth: 1}, "", "-s"); err == nil || err.Error() != "maildrop queue must not be hashed" {
		t.Error(err)
	}
}

func TestSignal(t *testing.T) {
	log, buffer := maillog.Capture()
	status := make(chan int, 1)
	tool := &tool{log: log, exit: func(code int) { status <- code }}
	tool.count.misplaced = 1
	stop := tool.catchSignals()
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := <-status; got != int(syscall.SIGINT) {
		t.Error(got)
	}
	if lines := buffer.Lines(); len(lines) != 1 || lines[0] != "warning: OPERATION INCOMPLETE -- RERUN COMMAND TO FIX THE QUEUE FIRST" {
		t.Error(lines)
	}
}

func TestCommandLine(t *testing.T) {
	var errs bytes.Buffer
	env := command.Env{Stderr: &errs}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-z"}, usage}, {[]string{"-d"}, usage}, {[]string{"-c", "rel"}, "-c requires absolute pathname"},
	} {
		if _, err := parse(append([]string{"postsuper"}, c.args...), env); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v", c.args, err)
		}
	}
	req, err := parse([]string{"postsuper"}, env)
	if err != nil || !req.purge || !req.structure || req.redundant || len(req.queues) != 8 {
		t.Errorf("%+v %v", req, err)
	}
	if os.Getuid() != 0 {
		errs.Reset()
		if code := Run([]string{"postsuper"}, env); code != 1 || errs.String() != "postsuper: fatal: use of this command is reserved for the superuser\n" {
			t.Error(code, errs.String())
		}
	}
}

func inode(info os.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
