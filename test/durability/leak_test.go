package durability

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/test/world"
)

// TestNoLeaks sends mail of all fates, and clients that go away in the middle
// of it, through one set of processes. What they hold afterwards must be what
// they held before: one process serves everything for days.
func TestNoLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: takes half a minute")
	}
	w := world.Test(t, world.Options{Main: []string{
		"home_mailbox = Maildir/", "defer_transports = smtp", "in_flow_delay = 0", "smtpd_tls_security_level = none",
		"smtpd_client_connection_count_limit = 0", "notify_classes = resource, software, protocol", "anvil_rate_time_unit = 3s",
		"smtpd_hard_error_limit = 1000", "ipc_idle = 1s",
	}})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	round := func(n int) {
		var wait sync.WaitGroup
		for c := range 10 {
			wait.Go(func() {
				for i := range n {
					tag := fmt.Sprintf("leak%dx%dx%d", n, c, i)
					switch c {
					case 0, 1:
						hangUp(w, i)
					case 2:
						deliver(w, tag, to("nobody@mail.example.com"))
					case 3:
						deliver(w, tag, to("x@deferred.test"))
					default:
						deliver(w, tag, to("alice@mail.example.com"))
					}
				}
			})
		}
		wait.Wait()
		if !settle(w) {
			t.Fatal("mail is still in the queue")
		}
		time.Sleep(5 * time.Second) // ipc_idle, anvil, QUIT
	}
	round(5)
	before := held(w)
	round(60)
	after := held(w)
	for process, b := range before {
		a, same := after[process]
		if !same {
			continue // it has left: nothing of it can be held
		}
		if a.files > b.files+3 {
			t.Errorf("%s: %d open files, %d before", process, a.files, b.files)
		}
		if a.stacks > 64 { // the runtime keeps those that once waited for a disk at the same time
			t.Errorf("%s: %d threads, %d before", process, a.stacks, b.stacks)
		}
	}
	if r := w.Sh(`find /var/spool/postfix/incoming /var/spool/postfix/active /var/spool/postfix/bounce /var/spool/postfix/trace -type f`); r.Out != "" {
		t.Errorf("left behind:\n%s", r.Out)
	}
	for _, line := range crashed.FindAllString(w.Syslog(), 10) {
		t.Errorf("log: %s", line)
	}
	fmt.Printf("= leaks: open files before %v, after %v\n", before, after)
}

// hangUp is a client that goes away at the n-th step of a session.
func hangUp(w *world.World, n int) {
	s, err := open(w)
	if err != nil {
		return
	}
	defer s.conn.Close()
	for i, step := range []struct{ code, line string }{
		{"250", "EHLO client.test"}, {"250", "MAIL FROM:<a@sender.test>"}, {"250", "RCPT TO:<alice@mail.example.com>"}, {"354", "DATA"},
	} {
		if i == n%7 || s.say(step.code, "%s", step.line) != nil {
			return
		}
	}
	io.WriteString(s.conn, "Subject: never complete\r\n\r\n"+strings.Repeat("abc\r\n", 5000*(n%3)))
	if n%7 == 6 { // not even the reply is waited for
		io.WriteString(s.conn, "\r\n.\r\n")
	}
}

// holding is what a process holds.
type holding struct{ files, stacks int }

func held(w *world.World) map[string]holding {
	r := w.Sh(`for p in /proc/[0-9]*; do case $(readlink $p/exe) in /usr/lib/postfix/*) echo $(tr '\0' ' ' <$p/cmdline | cut -d' ' -f1)[${p#/proc/}] $(ls $p/fd | wc -l) $(ls $p/task | wc -l);; esac; done 2>/dev/null`)
	all := map[string]holding{}
	for line := range strings.Lines(r.Out) {
		if f := strings.Fields(line); len(f) == 3 {
			files, _ := strconv.Atoi(f[1])
			stacks, _ := strconv.Atoi(f[2])
			all[f[0]] = holding{files, stacks}
		}
	}
	return all
}
