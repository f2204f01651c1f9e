// Package tools_test compares the commands for many instances and for load
// with Debian's: postmulti, smtp-source, smtp-sink, qmqp-source, qmqp-sink,
// rmail and fsstone.
package tools_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/test/world"
)

// steps are commands whose output, exit status, log and traces on disk are the
// same in both suites. A "#" in front is for the shell and not compared.
var steps = []string{
	`# cp /usr/share/postfix/main.cf.dist /etc/postfix/main.cf.proto; cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf.proto`,
	`# echo 'alternate_config_directories = /etc/postfix-a, /etc/foo' >>/etc/postfix/main.cf`,
	`postmulti`,
	`postmulti -l`,
	`postmulti -Z`,
	`postmulti -e create -I postfix-a`,
	`postmulti -x sh -c 'echo $MAIL_CONFIG $MAIL_LOGTAG $PATH $command_directory $config_directory $queue_directory $multi_instance_enable'`,
	`postmulti -e init`,
	`postmulti -e create`,
	`postmulti -e create -I postfix-a -G grp1`,
	`postmulti -e create -I postfix-b -G grp1 -a config_directory=/etc/more/b`,
	`postmulti -e create -I postfix-c -g grp1 queue_directory=/var/spool/postfix-a`,
	`postmulti -e create -I postfix-c -i postfix-a data_directory=/var/lib/pc`,
	`postmulti -e create -I postfix-d -g nosuch`,
	`postmulti -e create -I postfix-d foo=bar`,
	`postmulti -l -R`,
	`postmulti -i a -l`,
	`postmulti -g grp1 -x sh -c 'echo $multi_instance_name $multi_instance_group; exit 5'`,
	`postmulti -g nosuch -p status`,
	`postmulti -e enable -i postfix-a`,
	`postmulti -l`,
	`postmulti -p start`,
	`postmulti -p status`,
	`postfix reload`,
	`postmulti -e destroy -i postfix-a`,
	`postmulti -e disable -i a`,
	`postmulti -e deport -i a`,
	`postfix -c /etc/postfix-a stop`,
	`postmulti -p stop`,
	`postmulti -e assign -i postfix-a -I postfix-x -G -`,
	`postmulti -e assign -i postfix-x -I postfix-b`,
	`postmulti -e assign -i c -G g9`,
	`postmulti -e assign -i c -I -`,
	`# rm -rf /var/spool/postfix-a/p*/* /var/lib/postfix-a/*; touch /var/spool/postfix-a/deferred/x /etc/postfix-a/access`,
	`postmulti -e destroy -i x`,
	`postmulti -e deport -i b`,
	`postmulti -e import -I postfix-b config_directory=/etc/more/b`,
	`postmulti -e import -I postfix-nosuch`,
	`postmulti -e destroy -i b`,
	`postmulti -e destroy -i -`,
	`postmulti -l`,
}

// state shows the instances' files. Lines that were appended to main.cf are in
// no order.
const state = `for f in /etc/postfix/main.cf /etc/postfix-*/main.cf /etc/more/*/main.cf; do [ -f $f ] && { echo "--- $f"; grep -v '^#' $f | sort; }; done
for f in /etc/postfix-*/master.cf /etc/more/*/master.cf; do [ -f $f ] && { echo "--- $f"; md5sum <$f; }; done
find /etc/postfix-* /etc/more /var/spool/postfix-* /var/lib/postfix-* /var/lib/pc -printf '%p %m %u:%g %y\n' 2>/dev/null | grep -v '\.lock \|/private/\|/public/\|/pid/\|\.tmp ' | sort`

var (
	stamp    = regexp.MustCompile(`(?m)^\w{3} [ \d]\d [\d:]{8} `)
	pids     = regexp.MustCompile(`\[\d+\]|PID: \d+`)
	untimely = regexp.MustCompile(`/(qmgr|master|pickup)\[|waiting for the`) // come when they come
)

// session runs the steps in one suite and returns what is to be seen.
func session(t *testing.T, o world.Options) []string {
	w := world.Test(t, o)
	var out []string
	seen := 0
	for _, step := range steps {
		// Debian's postconf waits for a main.cf that was just changed.
		w.Sh(`touch -d '9 seconds ago' /etc/postfix*/main.cf /etc/more/*/main.cf 2>/dev/null`)
		if shell, ok := strings.CutPrefix(step, "# "); ok {
			if r := w.Sh(shell); r.Code != 0 {
				t.Fatalf("%s: %s", step, r.Err)
			}
			continue
		}
		r := w.Sh(step)
		time.Sleep(100 * time.Millisecond) // for the log's way
		log := w.Syslog()
		fresh := log[seen:]
		seen = len(log)
		var lines []string
		for line := range strings.Lines(stamp.ReplaceAllString(fresh, "")) {
			if !untimely.MatchString(line) {
				lines = append(lines, pids.ReplaceAllString(line, ""))
			}
		}
		out = append(out, fmt.Sprintf("+ %s\n%s%s[%d]\n%s", step, r.Out, strings.ReplaceAll(r.Err, "/usr/sbin/postconf:", "postconf:"), r.Code, strings.Join(lines, "")))
		if strings.Contains(step, " -e ") {
			out = append(out, "state after "+step+"\n"+w.Sh(state).Out)
		}
	}
	return out
}

// compare runs the steps in two machines at once.
func compare(t *testing.T, a, b world.Options) {
	t.Helper()
	var got [2][]string
	var wait sync.WaitGroup
	for n, o := range []world.Options{a, b} {
		wait.Add(1)
		go func() { defer wait.Done(); got[n] = session(t, o) }()
	}
	wait.Wait()
	if len(got[0]) != len(got[1]) {
		t.Fatalf("%d and %d results", len(got[0]), len(got[1]))
	}
	for n := range got[0] {
		if got[0][n] != got[1][n] {
			t.Errorf("%s\n--- instead of\n%s", difference(got[0][n], got[1][n]), difference(got[1][n], got[0][n]))
		}
	}
}

// difference is a without the lines, but the first, that b has as well.
func difference(a, b string) string {
	all := strings.Split(b, "\n")
	var out []string
	for n, line := range strings.Split(a, "\n") {
		if n == 0 || !slices.Contains(all, line) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func TestPostmulti(t *testing.T) {
	t.Parallel()
	compare(t, world.Options{Suite: world.Ours, Memory: true}, world.Options{Suite: world.Debian, Memory: true})
}

// Our postmulti in Debian's suite.
func TestPostmultiInDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: slow")
	}
	t.Parallel()
	compare(t, world.Options{Suite: world.Debian, Swap: []string{"/usr/sbin/postmulti"}, Memory: true}, world.Options{Suite: world.Debian, Memory: true})
}
