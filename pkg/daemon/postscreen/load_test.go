package postscreen

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"posthaste/test/world"
)

const (
	crowd        = 2000      // clients at a time
	maxPerClient = 40 * 1024 // bytes of memory that one may cost, of which the goal is half
)

// pss is the proportional set size of a process of the machine, in bytes.
func pss(t *testing.T, w *world.World, pid string) int {
	t.Helper()
	r := w.Sh(`cat /proc/$1/smaps_rollup`, pid)
	m := regexp.MustCompile(`(?m)^Pss: +(\d+) kB`).FindStringSubmatch(r.Out)
	if m == nil {
		t.Fatal(r)
	}
	n, _ := strconv.Atoi(m[1])
	return n * 1024
}

// Two thousand clients are in the dummy engine at a time, each with a transaction
// under way, and all are answered.
func TestCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: short")
	}
	rows := []*row{{name: "load", port: 20001, settings: []string{"postscreen_pipelining_enable = yes", "postscreen_greet_banner =", "postscreen_pre_queue_limit = 4000",
		"postscreen_client_connection_count_limit = 0", "postscreen_cache_map ="}}}
	w := screens(t, world.Options{Suite: world.Ours}, rows)
	first := dialScreen(t, w, "127.5.0.1", 20001)
	first.expect("", "220 ")
	line, err := w.WaitLog(5*time.Second, "load/postscreen[", "CONNECT from [127.5.0.1]")
	if err != nil {
		t.Fatal(err)
	}
	pid := regexp.MustCompile(`load/postscreen\[(\d+)\]`).FindStringSubmatch(line)[1]
	// The process that logs under the pid that master knows has the sessions.
	before := pss(t, w, pid)
	began := time.Now()
	conns := make([]*bufio.ReadWriter, crowd)
	closers := make([]io.Closer, crowd)
	defer func() {
		for _, c := range closers {
			if c != nil {
				c.Close()
			}
		}
	}()
	var wg sync.WaitGroup
	var failed sync.Map
	dialogue := func(i int, lines ...string) {
		c := conns[i]
		for _, line := range lines {
			if line != "" {
				c.WriteString(line + "\r\n")
				c.Flush()
			}
			for {
				got, err := c.ReadString('\n')
				if err != nil {
					failed.Store(i, fmt.Sprintf("%q: %v", line, err))
					return
				}
				if got[3] != '-' {
					break
				}
			}
		}
	}
	places := make(chan struct{}, 100)
	for i := range conns {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			c, err := w.DialFrom(fmt.Sprintf("127.5.%d.%d", 1+i/200, 1+i%200), "tcp", "127.0.0.1:20001")
			if err != nil {
				failed.Store(i, err)
				return
			}
			c.SetDeadline(time.Now().Add(60 * time.Second))
			closers[i] = c
			conns[i] = bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
			dialogue(i, "", "EHLO x.test", "MAIL FROM:<a@b.test>", "RCPT TO:<u@inbox.test>")
		})
	}
	wg.Wait()
	opened := time.Since(began)
	during := pss(t, w, pid)
	for i := range conns {
		if conns[i] != nil {
			wg.Go(func() { dialogue(i, "QUIT") })
		}
	}
	wg.Wait()
	n := 0
	failed.Range(func(i, why any) bool {
		if n++; n < 5 {
			t.Errorf("client %v: %v", i, why)
		}
		return true
	})
	each := (during - before) / crowd
	t.Logf("%d clients in %v, PSS %d kB idle, %d kB with them: %d bytes a session", crowd, opened.Round(time.Millisecond), before/1024, during/1024, each)
	if n > 0 || each > maxPerClient {
		t.Errorf("%d failed; %d bytes a session", n, each)
	}
	for end := time.Now().Add(10 * time.Second); w.CountLog("PASS NEW") < crowd && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	if got := w.CountLog("PASS NEW"); got != crowd {
		t.Errorf("%d of %d have passed", got, crowd)
	}
	w.Stop()
}
