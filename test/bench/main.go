// Command bench measures Posthaste and Debian's postfix side by side, in one
// run, on machines of their own (package world), with Debian's smtp-source
// and smtp-sink as neutral ends. It prints a table; what counts is the ratio,
// because both columns saw the same machine at nearly the same time.
//
//	go run ./test/bench [-n messages] [-rounds n] [-only name]
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"posthaste/test/world"
)

// measure is one row of the table.
type measure struct {
	name, unit string
	more       bool // more is better
	run        func(w *world.World, n int) (float64, error)
	ours       bool // Debian's is not measured
}

var measures = []measure{
	{"relay, 20 sessions, 5 kB", "messages/s", true, relay(20), false},
	{"relay, 1 session, 5 kB", "messages/s", true, relay(1), false},
	{"local Maildir delivery, 20 sessions", "messages/s", true, maildir, false},
	{"PSS per idle SMTP session, 500 sessions", "kB", false, sessions, false},
	{"PSS of the idle system", "MB", false, idle, false},
	{"postfix start to accepting listener", "ms", false, start, false},
	{"PSS per idle SMTP session, 10,000 on one smtpd (at most 60)", "kB", false, manyIdle, true},
	{"postconf myhostname, 50 runs (at most 1.5 times Debian's)", "ms", false, postconf, false},
	{"RCPT while 20 sessions wait 5 s for a DNSBL", "ms", false, slowDNSBL, false},
}

var settings = []string{
	"home_mailbox = Maildir/",
	"relayhost = [127.0.0.1]:2600",
	"smtp_tls_security_level = none",
	"smtpd_tls_security_level = none",
	"default_process_limit = 700",
	"smtpd_client_connection_count_limit = 0",
	"smtpd_client_connection_rate_limit = 0",
	"initial_destination_concurrency = 20",
	"local_destination_concurrency_limit = 20",
	"alias_maps = hash:/etc/aliases",
	"disable_dns_lookups = yes",
	"in_flow_delay = 0",
}

var (
	showCPU bool
	only    string // measure only rows whose name contains this
	suite   string // measure only this suite
	dir     string // where the machines' files are
)

func main() {
	n := flag.Int("n", 2000, "messages per throughput measurement")
	rounds := flag.Int("rounds", 3, "rounds; the median counts")
	flag.StringVar(&only, "only", "", "measure only rows whose name contains this")
	flag.StringVar(&suite, "suite", "", "measure only this suite: debian or ours")
	flag.StringVar(&dir, "dir", "", "directory for the machines' files, to choose the file system; without it they are on an ext4 of their own, in a file")
	flag.BoolVar(&showCPU, "cpu", false, "tell what a message costs each program, on standard error")
	flag.Parse()
	if err := onDisk(func() error { return bench(*n, *rounds) }); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// onDisk calls f when dir is set.
func onDisk(f func() error) error {
	if dir != "" {
		return f()
	}
	made, release, err := journal()
	if err != nil {
		return err
	}
	defer release()
	dir = made
	return f()
}

func bench(n, rounds int) error {
	fmt.Printf("%d messages a throughput row, median of %d alternating rounds\n\n", n, rounds)
	fmt.Println("| measurement | unit | Debian 3.7.11 | Posthaste | Posthaste is |")
	fmt.Println("|---|---|---:|---:|---|")
	for _, m := range measures {
		if !strings.Contains(m.name, only) {
			continue
		}
		var got [2][]float64
		for range rounds {
			for _, s := range []world.Suite{world.Debian, world.Ours} {
				if m.ours && s == world.Debian || suite != "" && suite != s.String() {
					continue
				}
				v, err := once(s, m, n)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", s, m.name, err)
				}
				got[s] = append(got[s], v)
			}
		}
		fmt.Println(row(m, got))
	}
	return queueRows(only)
}

// row is a line of the table.
func row(m measure, got [2][]float64) string {
	var cell [2]string
	for s, v := range got {
		cell[s] = "-"
		if len(v) > 0 {
			cell[s] = fmt.Sprintf("%.4g", median(v))
		}
	}
	last := ""
	if len(got[world.Debian]) > 0 && len(got[world.Ours]) > 0 {
		last = " " + verdict(m, median(got[world.Debian]), median(got[world.Ours]))
	}
	return fmt.Sprintf("| %s | %s | %s | %s |%s |", m.name, m.unit, cell[world.Debian], cell[world.Ours], last)
}

func verdict(m measure, debian, ours float64) string {
	if m.more {
		return fmt.Sprintf("%.2f times as fast", ours/debian)
	}
	return fmt.Sprintf("%.2f of Debian's", ours/debian)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// once makes a machine for one measurement.
func once(s world.Suite, m measure, n int) (float64, error) {
	w, release, err := machine(s)
	if err != nil {
		return 0, err
	}
	defer release()
	if err := loadTools(w); err != nil {
		return 0, err
	}
	if err := w.Start(); err != nil {
		return 0, err
	}
	v, err := m.run(w, n)
	if err != nil {
		return 0, fmt.Errorf("%w\nlast log lines:\n%s", err, tail(w.Syslog(), 10))
	}
	return v, nil
}

// machine makes a machine in dir, with the settings and more.
func machine(s world.Suite, more ...string) (*world.World, func(), error) {
	own, err := os.MkdirTemp(dir, "machine")
	if err != nil {
		return nil, nil, err
	}
	w, err := world.New(world.Options{Suite: s, Dir: own, Main: slices.Concat(settings, more)})
	if err != nil {
		os.RemoveAll(own)
		return nil, nil, err
	}
	return w, func() { w.Close(); os.RemoveAll(own) }, nil
}

// loadTools puts Debian's load generators and their libraries under
// /opt-like paths of the machine, whatever suite it runs.
func loadTools(w *world.World) error {
	r := w.Sh(`mkdir -p /usr/lib/postfix /usr/local/load; cp "$1"/usr/sbin/smtp-source "$1"/usr/sbin/smtp-sink /usr/local/load/ &&
		for f in "$1"/usr/lib/postfix/*.so*; do [ -e /usr/lib/postfix/"${f##*/}" ] || cp -a "$f" /usr/lib/postfix/; done`, world.Inside(world.Debian))
	if r.Code != 0 {
		return fmt.Errorf("load tools: %s", r.Err)
	}
	return nil
}

// load sends n messages and waits until the log has as many deliveries.
func load(w *world.World, sessions, n int, rcpt string) (float64, error) {
	before := used(w)
	begin := time.Now()
	source := w.Command("/usr/local/load/smtp-source", "-s", strconv.Itoa(sessions), "-m", strconv.Itoa(n), "-l", "5120",
		"-f", "from@example.com", "-t", rcpt, "127.0.0.1:25")
	if r := world.Do(source, ""); r.Code != 0 {
		return 0, fmt.Errorf("smtp-source: exit %d %s%s", r.Code, r.Out, r.Err)
	}
	sent := w.LogCounter("status=sent")
	for limit := begin.Add(90 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if sent() >= n {
			took := time.Since(begin)
			if showCPU && n > 1 {
				report(w.Options.Suite, before, used(w), n)
			}
			return float64(n) / took.Seconds(), nil
		}
		if time.Now().After(limit) {
			return 0, fmt.Errorf("%d of %d messages delivered in time", w.CountLog("status=sent"), n)
		}
	}
}

func relay(sessions int) func(*world.World, int) (float64, error) {
	return func(w *world.World, n int) (float64, error) {
		sink := w.Command("/usr/local/load/smtp-sink", "-u", "nobody", "127.0.0.1:2600", "200")
		if err := sink.Start(); err != nil {
			return 0, err
		}
		defer func() { sink.Process.Kill(); sink.Wait() }()
		if err := accepting(w, "127.0.0.1:2600"); err != nil {
			return 0, err
		}
		if err := warm(w, "someone@sink.test"); err != nil {
			return 0, err
		}
		return load(w, sessions, n+1, "someone@sink.test")
	}
}

func accepting(w *world.World, address string) error {
	for range 100 {
		if c, err := w.Dial("tcp", address); err == nil {
			return c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("nothing listens on %s", address)
}

func maildir(w *world.World, n int) (float64, error) {
	if err := warm(w, "alice@mail.example.com"); err != nil {
		return 0, err
	}
	return load(w, 20, n+1, "alice@mail.example.com")
}

// warm passes one message, so that the daemons of both suites are running.
func warm(w *world.World, rcpt string) error {
	_, err := load(w, 1, 1, rcpt)
	return err
}

// sessions opens many SMTP sessions and tells what each costs.
func sessions(w *world.World, _ int) (float64, error) {
	const count = 500
	first, err := greet(w)
	if err != nil {
		return 0, err
	}
	defer first.Close()
	time.Sleep(500 * time.Millisecond)
	before, err := pss(w)
	if err != nil {
		return 0, err
	}
	for range count {
		c, err := greet(w)
		if err != nil {
			return 0, err
		}
		defer c.Close()
	}
	time.Sleep(2 * time.Second)
	after, err := pss(w)
	return (after - before) / count, err
}

// greet opens a session and says EHLO.
func greet(w *world.World) (net.Conn, error) {
	c, err := w.Dial("tcp", "127.0.0.1:25")
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "220 ") {
		return nil, fmt.Errorf("greeting %q: %v", line, err)
	}
	fmt.Fprintf(c, "EHLO client.test\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(line, "250 ") {
			return c, nil
		}
	}
}

func idle(w *world.World, _ int) (float64, error) {
	c, err := greet(w)
	if err != nil {
		return 0, err
	}
	c.Close()
	if err := warm(w, "alice@mail.example.com"); err != nil {
		return 0, err
	}
	time.Sleep(2 * time.Second)
	kB, err := pss(w)
	return kB / 1024, err
}

// pss is the proportional set size of all daemons, in kB.
func pss(w *world.World) (float64, error) {
	r := w.Sh(`for p in /proc/[0-9]*; do case $(readlink $p/exe) in /usr/lib/postfix/*) cat $p/smaps_rollup;; esac; done 2>/dev/null | awk '/^Pss:/{s+=$2} END{print s}'`)
	return strconv.ParseFloat(strings.TrimSpace(r.Out), 64)
}

// start measures from `postfix start` to the first accepted connection, again
// and again on one machine.
func start(w *world.World, _ int) (float64, error) {
	if err := w.Stop(); err != nil {
		return 0, err
	}
	var took []float64
	for range 5 {
		begin := time.Now()
		if err := w.Start(); err != nil {
			return 0, err
		}
		c, err := w.Dial("tcp", "127.0.0.1:25")
		if err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(begin).Microseconds())/1000)
		c.Close()
		if err := w.Stop(); err != nil {
			return 0, err
		}
	}
	return median(took), nil
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
