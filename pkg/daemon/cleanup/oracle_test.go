package cleanup

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRecordGoldens plays every case to Debian's cleanup and writes the golden
// files. It runs only on request, inside a mount namespace with Debian's
// postfix in place, and takes four minutes:
//
//	go test -c -o /tmp/cleanup.test && cd pkg/daemon/cleanup &&
//	POSTHASTE_ORACLE=$PWD/testdata/golden unshare -m -n bash world-demo.sh /tmp/cleanup.test -test.run RecordGoldens
func TestRecordGoldens(t *testing.T) {
	dir := os.Getenv("POSTHASTE_ORACLE")
	if dir == "" {
		t.Skip("POSTHASTE_ORACLE is not set: golden files are recorded from Debian's cleanup only on request")
	}
	const spool = "/var/spool/postfix"
	startOracle(t, allCases())
	os.MkdirAll(dir, 0755)
	for i, c := range allCases() {
		mark := logSize()
		conn, err := net.Dial("unix", fmt.Sprintf("%s/public/c%d", spool, i))
		if err != nil {
			t.Fatal(err)
		}
		id, r := c.play(t, conn)
		conn.Close()
		time.Sleep(150 * time.Millisecond)
		data, where := findFile(spool, id)
		out := render(t, id, r, data, where, oracleLog(mark, id))
		if err := os.WriteFile(filepath.Join(dir, c.name+".txt"), []byte(out), 0644); err != nil {
			t.Fatal(err)
		}
	}
}

const oracleLogFile = "/var/log/mail.log"

func logSize() int64 {
	info, err := os.Stat(oracleLogFile)
	if err != nil {
		return 0
	}
	return info.Size()
}

var logLineRx = regexp.MustCompile(`postfix/cleanup\[\d+\]: (.*)`)

func oracleLog(from int64, id string) []string {
	data, _ := os.ReadFile(oracleLogFile)
	var lines []string
	for _, line := range strings.Split(string(data[min(from, int64(len(data))):]), "\n") {
		if m := logLineRx.FindStringSubmatch(line); m != nil && !boring(m[1], id) {
			lines = append(lines, m[1])
		}
	}
	return lines
}

var otherIDRx = regexp.MustCompile(`^[0-9A-F]{6,}: `)

// boring picks the lines that say nothing about the message: those of other
// messages (bounces), of the test world, and of stdio noticing twice that a
// file is too big.
func boring(line, id string) bool {
	for _, part := range []string{"main.cf, line", "public/qmgr", "file system clock", "resetting file time", "mail_stream_cleanup", "unexpected EOF in data"} {
		if strings.Contains(line, part) {
			return true
		}
	}
	return otherIDRx.MatchString(line) && !strings.HasPrefix(line, id)
}

// startOracle configures and starts Debian's postfix with one cleanup service
// for each case and without a queue manager.
func startOracle(t *testing.T, cases []goldenCase) {
	var master strings.Builder
	master.WriteString(`cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite -o remote_header_rewrite_domain=domain.invalid
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
`)
	mapDir := t.TempDir()
	for i, c := range cases {
		fmt.Fprintf(&master, "c%d unix n - n - 0 cleanup\n", i)
		opt := func(k, v string) { fmt.Fprintf(&master, "  -o { %s = %s }\n", k, v) }
		for k, v := range c.conf {
			opt(k, v)
		}
		for k, v := range c.maps {
			path := filepath.Join(mapDir, fmt.Sprintf("%d-%s", i, k))
			var rules []string
			failing := false
			for line := range strings.SplitSeq(strings.TrimSpace(v), "\n") {
				rules = append(rules, strings.TrimSpace(line))
				failing = failing || strings.Contains(line, "!error")
			}
			os.WriteFile(path, []byte(strings.Join(rules, "\n")+"\n"), 0644)
			if failing {
				opt(k, "fail:fake")
			} else {
				opt(k, "texthash:"+path)
			}
		}
		for k, v := range c.checks {
			path := filepath.Join(mapDir, fmt.Sprintf("%d-%s", i, k))
			os.WriteFile(path, []byte(strings.Join(v, "\n")+"\n"), 0644)
			opt(k, "regexp:"+path)
		}
	}
	main, _ := os.ReadFile("/etc/postfix/main.cf")
	text := string(main) + "\n"
	for k, v := range baseConf {
		text += k + " = " + v + "\n"
	}
	os.WriteFile("/etc/postfix/main.cf", []byte(text), 0644)
	os.WriteFile("/etc/postfix/master.cf", []byte(master.String()), 0644)
	if out, err := exec.Command("postfix", "start").CombinedOutput(); err != nil {
		t.Fatalf("postfix start: %v %s", err, out)
	}
	t.Cleanup(func() { exec.Command("postfix", "stop").Run() })
	time.Sleep(time.Second)
}
