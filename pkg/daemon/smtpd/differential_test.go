package smtpd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/test/world"
)

// Ports of the differential corpus: one smtpd row for each session, and one
// for its helper.
const (
	sessionPorts = 3000
	helperPorts  = 6000
)

// slow is how long a session may take without being named.
const slow = 4 * time.Second

// playedAtOnce bounds how many sessions run beside each other on a machine.
const playedAtOnce = 8

// TestDifferential plays every session of the corpus on two machines, one
// with Debian's postfix and one with ours, in the same run: replies, log lines
// and what helper servers were sent must be the same, byte for byte, after
// masking what differs by nature (queue ids, ports, dates). SMTPD_ONLY selects
// sessions by a part of their name.
func TestDifferential(t *testing.T) {
	if testing.Short() {
		t.Skip("two machines are too much for -short")
	}
	corpus := differentialCorpus(t, os.Getenv("SMTPD_ONLY"))
	var got [2][]string
	var wg sync.WaitGroup
	machines := [2]*world.World{}
	for _, suite := range []world.Suite{world.Debian, world.Ours} {
		machines[suite] = world.Test(t, world.Options{Suite: suite})
	}
	for suite, w := range machines {
		wg.Add(1)
		go func() {
			defer wg.Done()
			got[suite] = playAll(t, w, corpus)
		}()
	}
	wg.Wait()
	same := 0
	for i, s := range corpus {
		if got[world.Ours] == nil || got[world.Debian] == nil {
			t.Fatal("the sessions could not be played")
		}
		if os.Getenv("SMTPD_SHOW") != "" {
			t.Logf("%s/%s\n%s", s.group, s.name, got[world.Debian][i])
		}
		if ours, debian := got[world.Ours][i], got[world.Debian][i]; ours != debian {
			t.Errorf("%s/%s: Debian's smtpd (want) and ours (got) differ:%s", s.group, s.name, difference(debian, ours))
			continue
		}
		same++
	}
	fmt.Printf("= smtpd: %d of %d sessions the same as Debian's, replies and log\n", same, len(corpus))
}

func differentialCorpus(t testing.TB, only string) []script {
	files, err := filepath.Glob("testdata/sessions/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var corpus []script
	for _, f := range append([]string{"testdata/corpus.txt"}, files...) {
		for _, s := range readScripts(t, f) {
			if strings.Contains(s.group+"/"+s.name, only) {
				corpus = append(corpus, s)
			}
		}
	}
	return corpus
}

// playAll starts a suite with a row for each session and plays them; the
// result has a text for each.
func playAll(t *testing.T, w *world.World, corpus []script) []string {
	pc, err := w.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Error(err)
		return nil
	}
	defer pc.Close()
	answerZone(t, pc)
	os.WriteFile(w.Path("/etc/hosts"), []byte("127.0.0.1 localhost\n"), 0o644)
	settings := []string{"defer_transports = smtp,relay,local,virtual", "max_idle = 3s"}
	for _, p := range baseConfig {
		settings = append(settings, p[0]+" = "+p[1])
	}
	if err := w.Set(settings...); err != nil {
		t.Error(err)
		return nil
	}
	helpers, ok := prepare(t, w, corpus)
	if !ok {
		return nil
	}
	if err := w.Start(); err != nil {
		t.Error(err)
		return nil
	}
	defer w.Stop()
	talks := make([]string, len(corpus))
	slots := make(chan struct{}, playedAtOnce)
	var wg sync.WaitGroup
	for i, s := range corpus {
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			conn, err := w.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", sessionPorts+i))
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
				return
			}
			begin := time.Now()
			talks[i] = play(t, s, conn)
			if took := time.Since(begin); took > slow {
				t.Logf("%s: %s/%s took %v", w.Options.Suite, s.group, s.name, took)
			}
			if helpers[i] != nil {
				talks[i] += helpers[i].transcript()
			}
		}()
	}
	wg.Wait()
	logs := sessionLogs(w, len(corpus))
	for i := range talks {
		talks[i] = maskMore(maskTalk(talks[i])) + maskMore(logs[i])
	}
	return talks
}

// prepare writes the tables and master.cf rows and starts the helpers.
func prepare(t *testing.T, w *world.World, corpus []script) ([]*helper, bool) {
	helpers := make([]*helper, len(corpus))
	var rows strings.Builder
	for i, s := range corpus {
		here := strings.NewReplacer("@HELPER@", fmt.Sprintf("127.0.0.1:%d", helperPorts+i), "@SOCKET@", fmt.Sprintf("private/h%d", i))
		fmt.Fprintf(&rows, "127.0.0.1:%d inet n - n - - smtpd -o syslog_name=s%d\n", sessionPorts+i, i)
		for _, o := range s.options {
			fmt.Fprintf(&rows, "  -o {%s = %s}\n", o[0], here.Replace(o[1]))
		}
		for _, f := range s.files {
			if err := appendTo(w.Path("/etc/postfix/"+f[0]), f[1]+"\n"); err != nil {
				t.Error(err)
				return nil, false
			}
		}
		for _, m := range s.maps {
			if r := w.Run("", "postmap", m); r.Code != 0 {
				t.Errorf("%s: postmap %s: %s", s.name, m, r.Err)
			}
		}
		if len(s.helper) == 0 {
			continue
		}
		listen := func() (net.Listener, error) {
			return w.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", helperPorts+i))
		}
		for _, o := range s.options {
			if strings.Contains(o[1], "@SOCKET@") {
				listen = func() (net.Listener, error) {
					path := w.Path(fmt.Sprintf("/var/spool/postfix/private/h%d", i))
					l, err := net.Listen("unix", path)
					os.Chmod(path, 0o666)
					return l, err
				}
			}
		}
		l, err := listen()
		if err != nil {
			t.Error(err)
			return nil, false
		}
		t.Cleanup(func() { l.Close() })
		helpers[i] = newHelper(s.helper)
		go helpers[i].serve(l)
	}
	if err := appendTo(w.Path("/etc/postfix/master.cf"), rows.String()); err != nil {
		t.Error(err)
		return nil, false
	}
	return helpers, true
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// sessionLogs waits until all sessions have ended and sorts the log by session.
func sessionLogs(w *world.World, sessions int) []string {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if w.CountLog("disconnect from ") >= sessions {
			break
		}
	}
	time.Sleep(100 * time.Millisecond)
	logs := make([]string, sessions)
	for line := range strings.Lines(w.Syslog()) {
		m := logLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil || unimportant(m[2]) {
			continue
		}
		var i int
		fmt.Sscan(m[1], &i)
		if i < sessions {
			logs[i] += "L: " + mask(m[2]) + "\n"
		}
	}
	return logs
}

var (
	logLine  = regexp.MustCompile(` s(\d+)/smtpd\[\d+\]: (.*)`)
	variable = []struct {
		pattern *regexp.Regexp
		mask    string
	}{
		{regexp.MustCompile(`PORT=[1-9]\d{3,4}\b`), "PORT=N"},
		{regexp.MustCompile(`127\.0\.0\.1\]:\d+`), "127.0.0.1]:PORT"},
		{regexp.MustCompile(`127\.0\.0\.1:[36]\d{3}\b`), "127.0.0.1:PORT"},
		{regexp.MustCompile(`private/h\d+`), "private/hN"},
		{regexp.MustCompile(`; (Mon|Tue|Wed|Thu|Fri|Sat|Sun), .*\(UTC\)`), "; DATE"},
		{regexp.MustCompile(`\\t(Mon|Tue|Wed|Thu|Fri|Sat|Sun), .*\(UTC\)`), "\tDATE"},
		{regexp.MustCompile(`[A-Z][a-z][a-z] \d\d \d\d:\d\d:\d\d`), "TIME"},
		{regexp.MustCompile(`\b[0-9A-F]{9,12}: `), "QUEUEID: "},
	}
)

// maskMore hides what differs from machine to machine.
func maskMore(text string) string {
	for _, v := range variable {
		text = v.pattern.ReplaceAllString(text, v.mask)
	}
	return text
}
