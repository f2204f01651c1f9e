// Package tools_test compares the commands for many instances and for load
// with Debian's: postmulti, smtp-source, smtp-sink, qmqp-source, qmqp-sink,
// rmail and fsstone.
package tools_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
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
	stamp = regexp.MustCompile(`(?m)^\w{3} [ \d]\d [\d:]{8} `)
	pids  = regexp.MustCompile(`\[\d+\]|PID: \d+`)
	// what -v says, and Debian's scripts say by postconf
	chatter  = regexp.MustCompile(`(?m)^.*(dict_\w+|mac_parse|name_mask|inet_addr_\w+|match_string|match_list_match): .*\n|^.*warning: .*: overriding earlier entry: .*\n|^postconf: warning: open .*master.cf: No such file or directory\n|^.*fatal: cannot execute /usr/sbin/postsuper: No such.*\n|^.*error: mkdir .*: no such file.*\n|^mkdir: cannot create directory .*\n|^/\S*postfix-script: \d+: (cd: can't cd to |postconf: not found).*\n`)
	spoken   = strings.NewReplacer("/usr/sbin/postconf:", "postconf:", "/usr/lib/postfix/sbin/postfix-script: 413:", "postfix-script:")
	untimely = regexp.MustCompile(`/(qmgr|master|pickup)\[|waiting for the`) // come when they come
)

// session runs the steps in a machine and returns what is to be seen of each;
// after those with "postmulti -e" or "! " in front also what the shell says about state.
func session(t *testing.T, w *world.World, steps []string, state string) []string {
	var out []string
	logged := 0
	for _, step := range steps {
		// Debian's postconf waits for a main.cf that was just changed.
		w.Sh(`touch -d '9 seconds ago' /etc/postfix*/main.cf /etc/more/*/main.cf 2>/dev/null`)
		if shell, ok := strings.CutPrefix(step, "# "); ok {
			if r := w.Run("", "timeout", "-k1", "20", "sh", "-c", shell); r.Code != 0 {
				t.Errorf("%s: %s", step, r.Err)
			}
			out = append(out, "")
			continue
		}
		command, watched := strings.CutPrefix(step, "! ")
		r := w.Run("", "timeout", "-k1", "20", "sh", "-c", command)
		time.Sleep(100 * time.Millisecond) // for the log's way
		log := w.Syslog()
		fresh := log[logged:]
		logged = len(log)
		var lines []string
		for line := range strings.Lines(stamp.ReplaceAllString(fresh, "")) {
			if !untimely.MatchString(line) && !chatter.MatchString(line) {
				lines = append(lines, pids.ReplaceAllString(line, ""))
			}
		}
		r.Err = chatter.ReplaceAllString(spoken.Replace(r.Err), "")
		seen := fmt.Sprintf("+ %s\n%s%s[%d]\n%s", step, pids.ReplaceAllString(stamp.ReplaceAllString(r.Out, ""), ""), r.Err, r.Code, strings.Join(lines, ""))
		if watched || strings.Contains(step, "postmulti -e ") {
			seen += w.Sh(state).Out
		}
		out = append(out, seen)
	}
	return out
}

// difference is a without the lines, but the first, that b has as well; all of
// a if there are no other.
func difference(a, b string) string {
	all := strings.Split(b, "\n")
	var out []string
	for n, line := range strings.Split(a, "\n") {
		if n == 0 || !slices.Contains(all, line) {
			out = append(out, line)
		}
	}
	if len(out) == 1 {
		return a // the order or the number of lines is another
	}
	return strings.Join(out, "\n")
}

// Both suites, and each with the other's postmulti (Debian's needs its script),
// do the same. The machines work at the same time, as most of that is waiting.
func TestPostmulti(t *testing.T) {
	t.Parallel()
	swap := []string{"/usr/sbin/postmulti", "postmulti-script"}
	machines := []world.Options{
		{Suite: world.Debian, Memory: true},
		{Suite: world.Ours, Memory: true},
		{Suite: world.Debian, Memory: true, Swap: swap[:1]},
		{Suite: world.Ours, Memory: true, Swap: swap},
	}
	if testing.Short() {
		machines = machines[:2]
	}
	var worlds []*world.World
	for _, o := range machines {
		worlds = append(worlds, world.Test(t, o))
	}
	got := make([][]string, len(worlds))
	inParallel(len(worlds), func(n int) { got[n] = session(t, worlds[n], steps, state) })
	for m := 1; m < len(worlds); m++ {
		for n := range steps {
			if want := got[0][n]; got[m][n] != want {
				t.Errorf("%v with %q of the other:\n%s\n--- instead of\n%s", machines[m].Suite, machines[m].Swap, difference(got[m][n], want), difference(want, got[m][n]))
			}
		}
	}
}
