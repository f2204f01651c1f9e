package tools_test

import (
	"bufio"
	"errors"
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

// The tools run in one machine, whose two suites lie side by side.
const (
	ours   = "/mnt/ours/usr"
	debian = "/mnt/debian/usr"
)

func tools(t *testing.T) *world.World {
	return world.Test(t, world.Options{Suite: world.Debian, Memory: true, Swap: []string{"/usr/sbin/qshape"}})
}

// transact starts a sink, runs a source, stops the sink and shows both.
// $1 and $2 are the suites' directories, $3 and $4 the command lines, $5 the
// port.
const transact = `exec 2>&1; d=/tmp/dump.$5; mkdir -p $d; cd $d; chmod 777 .
name() { echo "$1" | cut -d' ' -f1; }
args() { echo "$1" | cut -d' ' -f2-; }
run() { dir=$1; shift; n=$(name "$1"); a=$(args "$1"); shift; eval "exec $dir/sbin/$n $a $*"; }
(run $1 "$3" 127.0.0.1:$5 100) >/tmp/sink.$5 & p=$!
for i in 1 2 3 4 5 6 7 8 9; do (exec 3<>/dev/tcp/127.0.0.1/$5) 2>/dev/null && break; sleep .1; done
(run $2 "$4" 127.0.0.1:$5); echo "source [$?]"; sleep .2
kill $p 2>/dev/null; wait $p; cat /tmp/sink.$5; for f in *; do [ -f "$f" ] && cat -A $f; done`

var volatile = regexp.MustCompile(`\d\d:\d\d:\d\d|Message-Id: <[^@]*@|[0-9a-f]{8};|sess=\d+ quit=\d+|/mnt/(ours|debian)/usr/sbin/`)

// pairs are command lines of a sink and a source.
var pairs = [][2]string{
	{"smtp-sink -u postfix -D all -h sink.example", "smtp-source -c -m 3 -s 1 -r 2 -S hello -M client.example"},
	{"smtp-sink -u postfix -D all", "smtp-source -d -m 2 -l 300 -N -r 2 -f a@b -t c@d"},
	{"smtp-sink -u postfix -D all", "smtp-source -l 81"},
	{"smtp-sink -u postfix -D all", "smtp-source -l 161 -o"},
	{"smtp-sink -u postfix -D all", "smtp-source -l 1"},
	{"smtp-sink -u postfix -D all", "smtp-source -F /etc/passwd -f ''"},
	{"smtp-sink -u postfix -L -D all", "smtp-source -L -d -m 2 -r 3"},
	{"smtp-sink -u postfix -r mail", "smtp-source -A -c -m 2"},
	{"smtp-sink -u postfix -f rcpt", "smtp-source"},
	{"smtp-sink -u postfix -f .", "smtp-source -A -c -d -m 2"},
	{"smtp-sink -u postfix -Q data", "smtp-source"},
	{"smtp-sink -u postfix -q rcpt", "smtp-source -c"},
	{"smtp-sink -u postfix -q connect", "smtp-source"},
	{"smtp-sink -u postfix -f connect,helo", "smtp-source -A -c"},
	{"smtp-sink -u postfix -e", "smtp-source -L"},
	{"smtp-sink -u postfix -A 0", "smtp-source"},
	{"smtp-sink -u postfix -w 1 -W mail:1", "smtp-source -c"},
	{"qmqp-sink -c", "qmqp-source -c -m 3 -r 2 -M client.example"},
	{"qmqp-sink", "qmqp-source -l 20000 -s 2 -m 4"},
}

// Any sink works with any source, and what is to be seen is the same.
func TestSourcesAndSinks(t *testing.T) {
	t.Parallel()
	w := tools(t)
	sides := []struct{ name, sink, source string }{
		{"debian", debian, debian}, {"ours", ours, ours}, {"our sink", ours, debian}, {"our source", debian, ours},
	}
	shown := make([]string, len(pairs)*len(sides))
	inParallel(len(shown), func(n int) {
		p, s := pairs[n/len(sides)], sides[n%len(sides)]
		shown[n] = volatile.ReplaceAllString(w.Sh(transact, s.sink, s.source, p[0], p[1], fmt.Sprint(2600+n)).Out, "*")
	})
	for n, got := range shown {
		want := shown[n-n%len(sides)]
		if got != want {
			p := pairs[n/len(sides)]
			t.Errorf("%s | %s, %s:\n%s\n--- instead of\n%s", p[0], p[1], sides[n%len(sides)].name, clip(difference(got, want)), clip(difference(want, got)))
		}
	}
}

// inParallel calls f for 0 to n-1, a few at a time.
func inParallel(n int, f func(n int)) {
	var wait sync.WaitGroup
	places := make(chan struct{}, 6)
	for i := range n {
		places <- struct{}{}
		wait.Add(1)
		go func() {
			defer func() { <-places; wait.Done() }()
			f(i)
		}()
	}
	wait.Wait()
}

func clip(text string) string {
	if len(text) > 1500 {
		return text[:1500] + "..."
	}
	return text
}

// words are command lines that fail.
var words = []string{
	"smtp-source", "smtp-source -Z", "smtp-source -m x localhost", "smtp-source localhost:2", "smtp-source nosuch.invalid:25",
	"smtp-source unix:/nosuch", "smtp-source -l -1 localhost", "smtp-source -F /nosuch localhost", "smtp-source -R 1 -w 1 localhost",
	"smtp-sink", "smtp-sink :2525 x", "smtp-sink :2525 10", "smtp-sink -u nosuch :2525 10", "smtp-sink -f foo -u postfix :2525 10",
	"smtp-sink -W data:x -u postfix :2525 10", "smtp-sink -W data:1:100 -u postfix :2525 10", "smtp-sink -d a -D b -u postfix :2525 10",
	"smtp-sink -b 250 -u postfix :2525 10", "smtp-sink -R /nosuch -u postfix :2525 10", "smtp-sink -u postfix unix:/nosuch/x 10",
	"qmqp-source", "qmqp-source -Z", "qmqp-source localhost:2", "qmqp-source -m 0 localhost", "qmqp-sink", "qmqp-sink :x 10", "qmqp-sink -x 1 :2699 10",
}

func TestBadCommandLines(t *testing.T) {
	t.Parallel()
	w := tools(t)
	script := `mkdir -p /tmp/words; cd /tmp/words; rm -f *; for c in "$@"; do n=$((n+1)); (exec 2>&1; timeout 4 $DIR/sbin/$c; echo "$c [$?]") >$n </dev/null & done; wait; cat $(ls | sort -n)`
	ourWords := w.Sh("DIR="+ours+"; "+script, words...).Out
	want := w.Sh("DIR="+debian+"; "+script, words...).Out
	if got := strings.ReplaceAll(ourWords, "/mnt/ours", "/mnt/debian"); got != want {
		t.Errorf("%s\n--- instead of\n%s", difference(got, want), difference(want, got))
	}
}

// talk says the lines to a server and returns what is said on both sides. After
// each command it waits for an answer, and a moment for more of them.
func talk(c net.Conn, lines []string) string {
	var said strings.Builder
	r := bufio.NewReader(c)
	listen := func() (last string) {
		patience := 5 * time.Second
		for {
			_ = c.SetReadDeadline(time.Now().Add(patience))
			line, err := r.ReadString('\n')
			if said.WriteString(line); err == nil {
				last = line
				if len(line) > 3 && line[3] != '-' {
					patience = 30 * time.Millisecond
				}
				continue
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				said.WriteString("<end>\n")
			}
			return last
		}
	}
	last := listen()
	for _, line := range lines {
		fmt.Fprintf(&said, "C: %s\n", line)
		if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
			break
		}
		if !strings.HasPrefix(last, "354") || line == "." {
			last = listen()
		}
	}
	c.Close()
	return said.String()
}

// dial waits for a server to come up.
func dial(w *world.World, address string) (net.Conn, error) {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := w.Dial("tcp", address)
		if err == nil || time.Now().After(end) {
			return c, err
		}
	}
}

// sessions are what a client says to a sink with these options.
var sessions = []struct{ options, lines string }{
	{"", "noop|rset|vrfy x|help|foo|ehlo client|mail from:<a@b>|mail from:<a@b>|rcpt|data|hello|..|.|helo x|data|mail|rset|RCPT TO:<x>|XCLIENT A=1|AUTH PLAIN x|starttls|lhlo x|  mail x||.|quit"},
	{"-L", "helo x|ehlo x|lhlo x|mail from:<x>|rcpt to:<x>|rcpt to:<y>|data|.|.|quit"},
	{"-8aCEFNpc", "ehlo x|xclient a=b|xforward a=b|auth login|quit"},
	{"-e -a", "ehlo x|helo x|auth login|quit"},
	{"-P", "ehlo x|helo x|mail f|rcpt t|data|.|quit"},
	{"-r mail,rcpt -c", "ehlo x|mail f|rcpt t|data|.|quit"},
	{"-f .,quit", "ehlo x|mail f|rcpt t|data|x|.|mail f|quit|noop"},
	{"-f connect", "helo x|quit"},
	{"-r noop -f noop -q vrfy -Q vrfy", "noop|vrfy"},
	{"-r . -L -b '421 4.1.1 busy'", "lhlo x|mail f|rcpt t|rcpt t|data|.|quit"},
	{"-d one. -S 'From x\\n\\101\\t'", "helo a b|MAIL FROM: <x> SIZE=5|rcpt to:<x>  |RCPT TO :<y>|data|Subject: x||..dot|.|quit"},
	{"-d half.", "helo a|mail x|rcpt y|data|half"},
	{"-f . -d refused.", "helo a|mail x|rcpt y|data|x|.|quit"},
	{"-M 1 -c", "mail f|rcpt t|data|.|quit"},
	{"-n 1 -c", "quit"},
}

// A client sees the same of both sinks, and so does who reads the dump.
func TestSinkSessions(t *testing.T) {
	t.Parallel()
	w := tools(t)
	start := `d=/tmp/dump.$1; mkdir -p $d; cd $d; chmod 777 .; eval "exec $3/sbin/smtp-sink -u postfix $2 127.0.0.1:$1 10" >/tmp/sink.$1 2>&1 & echo $!`
	finish := `kill $2 2>/dev/null; cd /tmp/dump.$1; cat -A /tmp/sink.$1; for f in *; do [ -f "$f" ] && { echo "$f" | cut -d. -f1; cat -A $f; }; done`
	shown := make([]string, 2*len(sessions))
	inParallel(len(shown), func(n int) {
		s, dir := sessions[n/2], []string{debian, ours}[n%2]
		port := fmt.Sprint(2800 + n)
		pid := strings.TrimSpace(w.Sh(start, port, s.options, dir).Out)
		c, err := dial(w, "127.0.0.1:"+port)
		if err != nil {
			shown[n] = err.Error()
			return
		}
		said := talk(c, strings.Split(s.lines, "|"))
		time.Sleep(200 * time.Millisecond) // for the end of the session to be counted
		shown[n] = volatile.ReplaceAllString(said+w.Sh(finish, port, pid).Out, "*")
	})
	for n, s := range sessions {
		if want, got := shown[2*n], shown[2*n+1]; got != want || !strings.Contains(got, "C: ") {
			t.Errorf("smtp-sink %s:\n%s\n--- instead of\n%s", s.options, got, want)
		}
	}
}

// rmail and Debian's give sendmail the same arguments.
func TestRmail(t *testing.T) {
	t.Parallel()
	w := tools(t)
	fake := filepath.Join(w.Path("/usr/sbin"), "sendmail")
	if err := os.Remove(fake); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fake, []byte("#!/bin/sh\nfor i in \"$@\"; do echo \"arg: $i\"; done; cat -A; exit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ text, args string }{
		{"From joe  Sun Nov 22 12:00:00 2026 remote from hosta\nSubject: x\n\nbody\n", "alice"},
		{"From joe Sun remote from hosta\n>From joe Sun remote from hostb\nSubject: x\n\nbody\n", "alice bob"},
		{"From joe  Sun\nSubject: x\n", "alice"},
		{"From joe@example.com Sun\nSubject: x\n", "a,b (c)"},
		{"From a!b!joe  Sun remote from hosta\nSubject: x\n", "-D foo.com alice"},
		{"From a!b!joe  Sun\nSubject: x\n", "alice"},
		{"From joe remote from\nSubject: x\n", "alice"},
		{"Subject: x\n\nbody\n", "alice"}, {"", "alice"}, {"From \nSubject: x\n", "alice"}, {"From joe\n", "alice"}, {"x", "-Z"}, {"x", "-T"},
	} {
		var got [2]string
		for n, dir := range []string{ours, debian} {
			r := w.Run(x.text, append([]string{dir + "/sbin/rmail"}, strings.Fields(x.args)...)...)
			got[n] = fmt.Sprintf("%s%s[%d]", r.Out, strings.ReplaceAll(r.Err, dir+"/sbin/", ""), r.Code)
		}
		if got[0] != got[1] {
			t.Errorf("rmail %s of %q:\n%s\n--- instead of\n%s", x.args, x.text, got[0], got[1])
		}
	}
}

func TestFsstone(t *testing.T) {
	t.Parallel()
	w := tools(t)
	for _, args := range []string{"", "5 3", "-c 5 3", "-cr 5 3", "-r 5 3", "-s 10 2 2", "-s 0 1 1", "0 1", "-Z", "1 2 3"} {
		var got [2]string
		for n, dir := range []string{ours, debian} {
			r := w.Sh(`exec 2>&1; mkdir -p /tmp/fs; cd /tmp/fs; ` + dir + `/lib/postfix/sbin/fsstone ` + args + ` </dev/null | sed 's/[0-9.]*$//'; echo "${PIPESTATUS[0]}"; ls`)
			got[n] = strings.ReplaceAll(r.Out, dir, "")
		}
		if got[0] != got[1] {
			t.Errorf("fsstone %s:\n%s\n--- instead of\n%s", args, got[0], got[1])
		}
	}
}
