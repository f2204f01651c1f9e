package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"posthaste/test/world"
)

// queued is how many deferred messages the queue commands are measured on.
const queued = 10000

// queueCommands are typed one after the other at a full queue; how long the
// command itself takes is measured, what the mail system does afterwards is
// waited for.
var queueCommands = []struct{ name, script string }{
	{"postqueue -p", "postqueue -p | tail -1"},
	{"qshape deferred", "qshape deferred | head -2"},
	{"postsuper -h ALL", "postsuper -h ALL"},
	{"postsuper -H ALL", "postsuper -H ALL"},
	{"postsuper -r ALL", "postsuper -r ALL"},
	{"postsuper -d ALL", "postsuper -d ALL"},
}

// queueRows prints a row for each queue command.
func queueRows(only string) error {
	const row = "queue of 10,000: "
	if !strings.Contains(row, only) && !strings.HasPrefix(only, "queue") {
		return nil
	}
	var took [2][]time.Duration
	for _, s := range []world.Suite{world.Debian, world.Ours} {
		var err error
		if took[s], err = fullQueue(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	for i, c := range queueCommands {
		debian, ours := took[world.Debian][i].Seconds()*1000, took[world.Ours][i].Seconds()*1000
		fmt.Printf("| %s%s | ms | %.4g | %.4g | %.2f of Debian's |\n", row, c.name, debian, ours, ours/debian)
	}
	return nil
}

func fullQueue(s world.Suite) ([]time.Duration, error) {
	w, release, err := machine(s, "defer_transports = smtp", "minimal_backoff_time = 1h", "maximal_backoff_time = 2h", "queue_run_delay = 1h")
	if err != nil {
		return nil, err
	}
	defer release()
	if err := loadTools(w); err != nil {
		return nil, err
	}
	if err := w.Start(); err != nil {
		return nil, err
	}
	r := w.Run("", "/usr/local/load/smtp-source", "-s", "20", "-m", strconv.Itoa(queued), "-l", "1024", "-f", "from@example.com", "-t", "someone@sink.test", "127.0.0.1:25")
	if r.Code != 0 {
		return nil, fmt.Errorf("smtp-source: %s%s", r.Out, r.Err)
	}
	var took []time.Duration
	where := "deferred"
	for _, c := range queueCommands {
		if err := settle(w, where); err != nil {
			return nil, fmt.Errorf("before %s: %w", c.name, err)
		}
		begin := time.Now()
		if r := w.Sh(c.script); r.Code != 0 {
			return nil, fmt.Errorf("%s: %s%s", c.name, r.Out, r.Err)
		}
		took = append(took, time.Since(begin))
		if where = "deferred"; c.name == "postsuper -h ALL" {
			where = "hold"
		}
	}
	return took, nil
}

// settle waits until all messages are in one queue. Those that came back by
// postsuper -H are due at once and pass through active.
func settle(w *world.World, queue string) error {
	for limit := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		n := 0
		_ = filepath.WalkDir(w.Path("/var/spool/postfix/"+queue), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				n++
			}
			return nil
		})
		if n == queued {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%d messages in %s", n, queue)
		}
	}
}
