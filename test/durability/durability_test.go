package durability

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"posthaste/test/world"
)

var tagIn = regexp.MustCompile(`<(\w+)@durability\.test>`)

// evidence counts the messages below directories by their tags, without those
// in tmp, which may be parts of one.
func evidence(dirs ...string) map[string]int {
	found := map[string]int{}
	for _, dir := range dirs {
		filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && e.Name() == "tmp" {
				return fs.SkipDir
			}
			if err != nil || !e.Type().IsRegular() {
				return nil
			}
			if data, err := os.ReadFile(path); err == nil {
				if m := tagIn.FindSubmatch(data); m != nil {
					found[string(m[1])]++
				}
			}
			return nil
		})
	}
	return found
}

// roads lead through every delivery agent: local, smtp (to this system's second
// port, where its name is an alias), virtual, pipe, and error with a bounce to a
// local sender.
var roads = []road{
	to("alice@mail.example.com"),
	to("x@smtp.test"),
	to("x@virtual.test"),
	to("x@pipe.test"),
	{sender: "bob@mail.example.com", rcpt: "x@error.test", submitted: true}, // smtpd would refuse it
}

var roadSettings = []string{
	"relay_domains = smtp.test, pipe.test, error.test",
	"transport_maps = inline:{{smtp.test = smtp:[127.0.0.1]:2525}, {pipe.test = store:}, {error.test = error:5.1.1 nobody here}}",
	"virtual_mailbox_domains = virtual.test", "virtual_mailbox_base = /home/virtual", "virtual_mailbox_maps = inline:{x@virtual.test=Maildir/}",
	"virtual_uid_maps = static:2001", "virtual_gid_maps = static:2001",
	"smtp_tls_security_level = none", "initial_destination_concurrency = 20",
}

const roadServices = `cat >/usr/local/store <<'X'
#!/bin/sh
cat >/home/pipe/tmp/$$ && mv /home/pipe/tmp/$$ /home/pipe/$(date +%s%N).$$
X
chmod 755 /usr/local/store; mkdir -p /home/virtual /home/pipe/tmp; chown -R alice:alice /home/virtual /home/pipe
cat >>/etc/postfix/master.cf <<'X'
127.0.0.1:2525 inet n - y - - smtpd -o cleanup_service_name=here
here unix n - y - 0 cleanup -o virtual_alias_maps=static:alice@mail.example.com
store unix - n n - - pipe user=alice argv=/usr/local/store
X`

// TestKillStorm passes at least 1,000 messages while daemons, each in its turn and
// master among them, are killed with -9 again and again. None that was promised
// may be lost.
func TestKillStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: takes a minute")
	}
	w := world.Test(t, world.Options{Main: append([]string{
		"home_mailbox = Maildir/", "service_throttle_time = 1s", "transport_retry_time = 1s", "queue_run_delay = 1s",
		"minimal_backoff_time = 1s", "maximal_backoff_time = 2s", "qmgr_daemon_timeout = 10s", "in_flow_delay = 0",
		"ipc_timeout = 10s", "smtpd_tls_security_level = none",
	}, roadSettings...)})
	if r := w.Sh(roadServices); r.Code != 0 {
		t.Fatal(r.Err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	messages := storm(t)
	l := newLedger()
	stop, finished := make(chan struct{}), make(chan struct{})
	go func() {
		sendAll(w, l, "storm", roads, 100*messages, 10, stop)
		close(finished)
	}()
	kills, end := map[string]int{}, time.Now().Add(max(150*time.Second, time.Duration(messages)*100*time.Millisecond))
	for l.count() < messages || len(spared(kills)) > 0 {
		if time.Now().After(end) {
			t.Errorf("only %d of %d messages accepted within the time", l.count(), messages)
			break
		}
		time.Sleep(time.Duration(10+rand.IntN(60)) * time.Millisecond)
		killOne(w, kills)
	}
	close(stop)
	<-finished
	revive(w)
	home := w.Path("/home")
	var got map[string]int
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if got = evidence(home); len(l.lost(got)) == 0 {
			break
		}
		w.Run("", "postqueue", "-f")
	}
	if lost := l.lost(got); len(lost) > 0 {
		queue := w.Run("", "mailq")
		t.Errorf("%d of %d promised messages are not in a mailbox, %d of them not in the queue either\n%.2000s",
			len(lost), l.count(), len(l.lost(evidence(home, w.Path("/var/spool/postfix")))), queue.Out)
	}
	duplicates := 0
	for _, n := range got {
		duplicates += n - 1
	}
	fmt.Printf("= kill storm: %d messages accepted, %d delivered, %d duplicates, %d attempts repeated by clients, killed %v\n",
		l.count(), len(got), duplicates, l.retries, kills)
	if left := spared(kills); len(left) > 0 {
		t.Errorf("the storm did not hit %v", left)
	}
}

// spared are the programs on a road that the storm has not hit.
func spared(kills map[string]int) []string {
	programs := []string{"master", "smtpd", "cleanup", "trivial-rewrite", "qmgr", "local", "smtp", "virtual", "pipe", "error", "bounce", "pickup", "proxymap"}
	return slices.DeleteFunc(programs, func(name string) bool { return kills[name] > 0 })
}

// storm is the number of messages of the kill storm: DURABILITY_MESSAGES, or
// what takes the suite a few seconds.
func storm(t *testing.T) int {
	text, set := os.LookupEnv("DURABILITY_MESSAGES")
	if !set {
		return 1000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("DURABILITY_MESSAGES=%s is not a number of messages", text)
	}
	return n
}

// killOne kills a process of the program that was killed least often so far,
// and starts the system again if that was master.
func killOne(w *world.World, kills map[string]int) {
	r := w.Sh(`for p in /proc/[0-9]*; do case $(readlink $p/exe) in /usr/lib/postfix/*) echo ${p#/proc/} $(tr '\0' ' ' <$p/cmdline | cut -d' ' -f1);; esac; done 2>/dev/null`)
	least, victim := "", ""
	for _, line := range strings.Split(strings.TrimSpace(r.Out), "\n") {
		pid, path, ok := strings.Cut(line, " ")
		if name := filepath.Base(path); ok && (least == "" || kills[name] < kills[least]) {
			least, victim = name, pid
		}
	}
	if least == "" {
		revive(w)
		return
	}
	kills[least]++
	w.Run("", "kill", "-9", victim)
	if least == "master" {
		revive(w)
	}
}

func revive(w *world.World) {
	for range 20 {
		if w.Run("", "postfix", "status").Code == 0 || w.Run("", "postfix", "start").Code == 0 {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// Requests of the ext4 ioctl that ends a mounted file system the way a power
// failure does: nothing more reaches the disk, not even the journal.
const (
	extShutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
	noLogFlush    = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
	powerCuts     = 6
	cutsImageSize = "96M"
)

// TestPowerCut lets mail pass over a file system of its own on a loop device,
// with the queue and the mailboxes on it, and ends that file system at a
// random instant. After recovery from the journal everything promised must be
// there.
func TestPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: takes a minute")
	}
	total := 0
	for range powerCuts {
		total += powerCut(t)
	}
	fmt.Printf("= power cuts: %d cuts, %d promised messages, all found\n", powerCuts, total)
	if total < 20*powerCuts {
		t.Errorf("only %d messages were accepted before the cuts: the test proves nothing", total)
	}
}

func powerCut(t *testing.T) int {
	w := world.Test(t, world.Options{Main: []string{"home_mailbox = Maildir/", "defer_transports = smtp", "in_flow_delay = 0", "smtpd_tls_security_level = none"}})
	defer w.Close()
	disk := filepath.Join(w.Dir, "disk")
	loop, detach, err := attach(disk)
	if err != nil {
		t.Skip("SKIP: no loop device here: ", err)
	}
	defer detach()
	r := w.Sh(`set -e; mkdir -p /tmp/disk; mknod "$1" b 7 "${1#/dev/loop}"; mount "$1" /tmp/disk
		cp -a /var/spool/postfix /tmp/disk/spool; cp -a /home /tmp/disk/home; sync
		mount --bind /tmp/disk/spool /var/spool/postfix; mount --bind /tmp/disk/home /home`, loop)
	if r.Code != 0 {
		t.Fatalf("mount: %s", r.Err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	stop := make(chan struct{})
	done := make(chan struct{}, 3)
	for i, rcpt := range []string{"alice@mail.example.com", "x@deferred.test"} {
		go func() {
			sendAll(w, l, fmt.Sprintf("cut%d", i), []road{to(rcpt)}, 100000, 3, stop)
			done <- struct{}{}
		}()
	}
	go func() {
		submit(w, l, stop)
		done <- struct{}{}
	}()
	time.Sleep(time.Duration(400+rand.IntN(1200)) * time.Millisecond)
	l.close()
	if err := cutPower(w.Path("/tmp/disk")); err != nil {
		t.Fatal(err)
	}
	close(stop)
	// What waits for better times on a dead disk would wait for ever.
	for waiting := 3; waiting > 0; {
		w.Sh(`for p in /proc/[0-9]*; do case $(readlink $p/exe) in /usr/lib/postfix/*|/usr/sbin/*) kill -9 ${p#/proc/};; esac; done 2>/dev/null`)
		select {
		case <-done:
			waiting--
		case <-time.After(200 * time.Millisecond):
		}
	}
	// A killed process lets go of its files when the kernel gets round to it.
	if r := w.Sh(`patient() { for i in 1 2 3 4 5 6 7 8 9; do umount "$1" 2>/dev/null && return; sleep 1; done; umount "$1"; }
		patient /var/spool/postfix && patient /home && patient /tmp/disk && mount "$1" /tmp/disk`, loop); r.Code != 0 {
		t.Fatalf("mount again after the cut: %s", r.Err)
	}
	if lost := l.lost(evidence(w.Path("/tmp/disk/spool"), w.Path("/tmp/disk/home"))); len(lost) > 0 {
		t.Errorf("%d of %d promised messages are gone after a power cut, such as %s", len(lost), l.count(), lost[0])
	}
	return l.count()
}

// attach makes a file an ext4 file system on a loop device.
func attach(file string) (loop string, detach func(), err error) {
	out, err := exec.Command("/bin/sh", "-c", `truncate -s "$2" "$1" && mkfs.ext4 -q "$1" && losetup --find --show "$1"`, "sh", file, cutsImageSize).CombinedOutput()
	loop = strings.TrimSpace(string(out))
	if err != nil {
		return "", nil, fmt.Errorf("%v: %s", err, loop)
	}
	return loop, func() { exec.Command("losetup", "-d", loop).Run() }, nil
}

// submit uses sendmail; its exit status is the promise.
func submit(w *world.World, l *ledger, stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		tag := fmt.Sprintf("submit%05d", i)
		r := world.Do(w.As("bob", "sendmail", "alice"), "Message-ID: <"+tag+"@durability.test>\nSubject: x\n\nbody\n")
		if r.Code == 0 {
			l.promise(tag)
		}
	}
}

func cutPower(mountpoint string) error {
	f, err := os.Open(mountpoint)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), extShutdown, noLogFlush)
}
