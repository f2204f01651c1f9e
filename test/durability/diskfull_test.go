package durability

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/test/world"
)

// crashed finds log records of a daemon that ended otherwise than it should.
var crashed = regexp.MustCompile(`(?m)^.*(?:panic:|killed by signal|exit status|bad command startup).*$|^.* postfix/(?:smtpd|cleanup|qmgr|pickup|bounce|defer|trace|local|error|retry|flush|showq|master)\[.* fatal:.*$`)

// refusals are the replies that clients got instead of a promise.
type refusals struct {
	mu sync.Mutex
	n  map[string]int
}

var replyCode = regexp.MustCompile(`^got "(\d\d\d)`)

func (r *refusals) note(err error) {
	key := err.Error()
	if m := replyCode.FindStringSubmatch(key); m != nil {
		key = m[1]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n[key]++
}

// TestDiskFull fills the file system of the queue and the mailboxes while mail
// passes, nearly (smtpd refuses in time) and then to the last block (cleanup,
// bounce and local run into it). Clients are told to try again, nothing
// crashes, and when there is room again all that was promised arrives.
func TestDiskFull(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: takes a minute")
	}
	w := world.Test(t, world.Options{Main: []string{
		"home_mailbox = Maildir/", "defer_transports = smtp", "in_flow_delay = 0", "smtpd_tls_security_level = none",
		"minimal_backoff_time = 1s", "maximal_backoff_time = 2s", "queue_run_delay = 2s", "message_size_limit = 0",
		"local_destination_concurrency_limit = 20",
	}})
	mountDisk(t, w)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	l, refused := newLedger(), &refusals{n: map[string]int{}}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i, rcpt := range []string{"alice@mail.example.com", "x@deferred.test", "nobody@mail.example.com", "bob@mail.example.com"} {
		clients.Go(func() { keepSending(w, l, refused, fmt.Sprintf("full%d", i), rcpt, stop) })
	}
	clients.Go(func() { submit(w, l, stop) })

	time.Sleep(2 * time.Second)
	before := l.count()
	// To the last block, and now and then room for a little more, so that
	// each program runs into the wall at each of its steps.
	for range 60 {
		w.Sh(`cd /tmp/disk; dd if=/dev/zero of=filler.$RANDOM$RANDOM bs=4k status=none 2>/dev/null; :`)
		time.Sleep(150 * time.Millisecond)
		w.Sh(`cd /tmp/disk; f=$(ls -S filler.* | head -1); truncate -s -$((RANDOM % 8 * 4096)) $f`)
		time.Sleep(100 * time.Millisecond)
	}
	during := l.count() - before
	w.Sh(`rm -f /tmp/disk/filler.*`)
	time.Sleep(3 * time.Second)
	close(stop)
	clients.Wait()
	after := l.count() - before - during

	settled := settle(w)
	home, spool := w.Path("/tmp/disk/home"), w.Path("/tmp/disk/spool")
	if lost := l.lost(evidence(home, spool)); len(lost) > 0 {
		t.Errorf("%d of %d promised messages are gone, such as %s", len(lost), l.count(), lost[0])
	}
	if !settled {
		t.Errorf("mail for mailboxes is still in the queue:\n%.3000s", w.Run("", "mailq").Out)
	}
	if stranded := waitEmpty(w, "active"); stranded != "" {
		t.Errorf("forgotten in the active queue:\n%.1000s", stranded)
	}
	for _, line := range crashed.FindAllString(w.Syslog(), 10) {
		t.Errorf("log: %s", line)
	}
	fmt.Printf("= disk full: %d messages accepted before, %d while full, %d after; refusals %v\n", before, during, after, refused.n)
	for reply, n := range refused.n {
		if reply != "452" && reply != "451" {
			t.Errorf("%d attempts ended with %s", n, reply)
		}
	}
	if before < 20 || after < 20 || refused.n["452"]+refused.n["451"] == 0 {
		t.Error("the test proves nothing")
	}
}

// mountDisk puts the queue and the homes of a machine on a small file system
// of their own at /tmp/disk.
func mountDisk(t *testing.T, w *world.World) (loop string) {
	t.Helper()
	loop, detach, err := attach(filepath.Join(w.Dir, "disk"))
	if err != nil {
		t.Skip("SKIP: no loop device here: ", err)
	}
	t.Cleanup(detach)
	r := w.Sh(`set -e; mkdir -p /tmp/disk; mknod "$1" b 7 "${1#/dev/loop}"; mount "$1" /tmp/disk
		cp -a /var/spool/postfix /tmp/disk/spool; cp -a /home /tmp/disk/home; sync
		mount --bind /tmp/disk/spool /var/spool/postfix; mount --bind /tmp/disk/home /home`, loop)
	if r.Code != 0 {
		t.Fatalf("mount: %s", r.Err)
	}
	return loop
}

// keepSending delivers one message after the other, each once.
func keepSending(w *world.World, l *ledger, refused *refusals, prefix, rcpt string, stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		tag := fmt.Sprintf("%s%05d", prefix, i)
		if err := deliver(w, tag, to(rcpt)); err != nil {
			refused.note(err)
			time.Sleep(20 * time.Millisecond)
			continue
		}
		l.promise(tag)
	}
}

// settle flushes the queue until nothing is on its way to a mailbox.
func settle(w *world.World) bool {
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		w.Run("", "postqueue", "-f")
		w.Sh(`postqueue -p >/dev/null; sleep 0.5`)
		if !strings.Contains(w.Run("", "postqueue", "-j").Out, "@mail.example.com") {
			return true
		}
	}
	return false
}

// waitEmpty waits until a queue has no files, and lists those that stay.
func waitEmpty(w *world.World, queue string) (files string) {
	for range 40 {
		if files = w.Sh(`find /var/spool/postfix/"$1" -type f`, queue).Out; files == "" {
			return ""
		}
		time.Sleep(500 * time.Millisecond)
	}
	return files
}

// TestReloadStorm reloads the mail system again and again while 1,000 messages
// pass: nobody may notice.
func TestReloadStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: takes half a minute")
	}
	w := world.Test(t, world.Options{Main: []string{
		"home_mailbox = Maildir/", "in_flow_delay = 0", "smtpd_tls_security_level = none", "smtpd_client_connection_count_limit = 0",
	}})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	const messages, clients = 1000, 10
	l, failed := newLedger(), &refusals{n: map[string]int{}}
	next := make(chan int)
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			for i := range next {
				tag := fmt.Sprintf("reload%05d", i)
				err := deliver(w, tag, to("alice@mail.example.com"))
				for ; err != nil; err = deliver(w, tag, to("alice@mail.example.com")) {
					failed.note(err)
					time.Sleep(50 * time.Millisecond)
				}
				l.promise(tag)
			}
		})
	}
	reloading, reloads := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-reloading:
				reloads <- n
				return
			case <-time.After(100 * time.Millisecond):
				if r := w.Run("", "postfix", "reload"); r.Code != 0 {
					failed.note(fmt.Errorf("postfix reload: %s", r.Err))
				}
			}
		}
	}()
	for i := range messages {
		next <- i
		time.Sleep(5 * time.Millisecond)
	}
	close(next)
	wait.Wait()
	close(reloading)
	n := <-reloads
	home := w.Path("/home/alice/Maildir/new")
	var got map[string]int
	start := time.Now()
	for time.Since(start) < 45*time.Second {
		if got = evidence(home); len(l.lost(got)) == 0 {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	waited := time.Since(start)
	if lost := l.lost(got); len(lost) > 0 {
		t.Errorf("%d of %d messages have not arrived, such as %s\n%.2000s", len(lost), l.count(), lost[0], w.Run("", "mailq").Out)
	}
	twice := 0
	for _, n := range got {
		twice += n - 1
	}
	for reply, n := range failed.n {
		t.Errorf("%d attempts failed: %s", n, reply)
	}
	if twice > 0 {
		t.Errorf("%d messages were delivered twice", twice)
	}
	for _, line := range crashed.FindAllString(w.Syslog(), 10) {
		t.Errorf("log: %s", line)
	}
	fmt.Printf("= reload storm: %d reloads, %d messages, the last one in the mailbox after %v\n", n, len(got), waited.Round(time.Millisecond))
	if n < 10 {
		t.Errorf("only %d reloads", n)
	}
}
