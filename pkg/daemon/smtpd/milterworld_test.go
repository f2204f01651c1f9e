package smtpd

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"posthaste/test/world"
)

// milterCase is a conversation with a server that uses scripted filters.
type milterCase struct {
	name    string
	filters []map[string]string
	options []string // of the smtpd service; %1, %2 are the filters' addresses
	talk    []string
}

var mailTalk = []string{"EHLO client.test", "MAIL FROM:<a@example.com>", "RCPT TO:<u1@sink.test>", "DATA", "Subject: test1\n\nhello world\n.", "QUIT"}

type answers = map[string]string

func one(s answers) []answers { return []answers{s} }

// milterPort is the port of a case's server in the machine.
const milterPort = 2600

// runMilterCases plays all cases against a machine and gives what was seen in
// each.
func runMilterCases(t *testing.T, o world.Options, cases []milterCase) []string {
	t.Helper()
	o.Main = append(o.Main, "default_transport = discard:", "mynetworks = 127.0.0.0/8", "compatibility_level = 3.6", "smtpd_peername_lookup = no",
		"myhostname = mx.example.test", "mydestination = mx.example.test", "smtpd_forbid_unauth_pipelining = no", "smtpd_forbid_bare_newline = no",
		"smtpd_authorized_xclient_hosts = 127.0.0.0/8", "smtpd_error_sleep_time = 0")
	w := world.Test(t, o)
	master, err := os.OpenFile(w.Path("/etc/postfix/master.cf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	filters := make([][]*scriptedMilter, len(cases))
	for i, c := range cases {
		var list []string
		for j, s := range c.filters {
			addr := fmt.Sprintf("127.0.0.1:%d", 3000+10*i+j)
			l, err := w.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			m := &scriptedMilter{l: l, script: s}
			go m.serve()
			defer m.close()
			filters[i] = append(filters[i], m)
			list = append(list, "inet:"+addr)
		}
		fmt.Fprintf(master, "%d inet n - n - - smtpd\n", milterPort+i)
		fmt.Fprintf(master, "  -o { smtpd_milters = %s }\n", strings.Join(list, ", "))
		for _, option := range c.options {
			for j, addr := range list {
				option = strings.ReplaceAll(option, fmt.Sprintf("%%%d", j+1), addr)
			}
			fmt.Fprintf(master, "  -o { %s }\n", option)
		}
	}
	master.Close()
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	var out []string
	for i, c := range cases {
		before := len(w.Syslog())
		conn, err := w.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", milterPort+i))
		if err != nil {
			t.Fatal(err)
		}
		replies := milterTalk(conn, c.talk)
		for end := time.Now().Add(5 * time.Second); !strings.Contains(w.Syslog()[before:], "disconnect from") && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(30 * time.Millisecond)
		var b strings.Builder
		fmt.Fprintf(&b, "%s", replies)
		for j, m := range filters[i] {
			m.mu.Lock()
			for _, line := range m.seen {
				fmt.Fprintf(&b, "filter %d: %s\n", j+1, line)
			}
			m.mu.Unlock()
		}
		for line := range strings.Lines(w.Syslog()[before:]) {
			if at := strings.Index(line, "postfix/"); at >= 0 && (strings.Contains(line, "smtpd[") || strings.Contains(line, "cleanup[")) {
				b.WriteString(line[at:])
			}
		}
		out = append(out, cleanMilter(b.String()))
	}
	return out
}

var milterCleaners = []struct {
	rx *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`((?:[a-z]i|i)\\x00)[0-9A-F]{9,13}\\x00`), `${1}QID\x00`},
	{regexp.MustCompile(`\b[0-9A-F]{9,13}\b`), "QID"},
	{regexp.MustCompile(`postfix/(\d+/)?`), ""},
	{regexp.MustCompile(`\[\d+\]: `), ": "},
	{regexp.MustCompile(`(C "\[?[a-z0-9.]+\]?\\x00)4.*127.0.0.1`), "${1}4PORT127.0.0.1"},
	{regexp.MustCompile(`(client_port}\\x00)\d+`), "${1}PORT"},
	{regexp.MustCompile(`\d{14}\.QID`), "STAMP.QID"},
	{regexp.MustCompile(`v\\x00(Postfix|Posthaste) [^\\]*`), `v\x00VERSION`},
	{regexp.MustCompile(`(warning: process )/\S+ pid \d+`), "${1}PROGRAM"},
	{regexp.MustCompile(`\w\w\w, +\d+ \w\w\w \d\d\d\d \d\d:\d\d:\d\d`), "DATE"},
}

func cleanMilter(s string) string {
	for _, c := range milterCleaners {
		s = c.rx.ReplaceAllString(s, c.to)
	}
	return s
}

// milterTalk plays the client and gives the dialogue. "=" sends the rest as it is and
// expects no reply, "!close" hangs up.
func milterTalk(conn net.Conn, lines []string) string {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	in := bufio.NewReader(conn)
	var b strings.Builder
	read := func() bool {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				fmt.Fprintf(&b, "S: (end)\n")
				return false
			}
			fmt.Fprintf(&b, "S: %s\n", strings.TrimRight(line, "\r\n"))
			if len(line) < 4 || line[3] != '-' {
				return true
			}
		}
	}
	if !read() {
		return b.String()
	}
	for _, line := range lines {
		if line == "!close" {
			break
		}
		text, silent := strings.CutPrefix(line, "=")
		fmt.Fprintf(&b, "C: %.60q\n", text)
		fmt.Fprintf(conn, "%s\r\n", strings.ReplaceAll(text, "\n", "\r\n"))
		if !silent && !read() {
			break
		}
	}
	return b.String()
}

func TestMiltersLikeDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: starts two mail systems")
	}
	cases := milterCases
	if only := os.Getenv("MILTER_CASE"); only != "" {
		cases = nil
		for _, c := range milterCases {
			if strings.Contains(c.name, only) {
				cases = append(cases, c)
			}
		}
	}
	var got, want []string
	if file := os.Getenv("MILTER_WANT"); file != "" { // remembered, while debugging
		data, err := os.ReadFile(file)
		if err == nil {
			want = strings.Split(string(data), "\x01")
		}
	}
	if want == nil {
		want = runMilterCases(t, world.Options{Suite: world.Debian}, cases)
		if file := os.Getenv("MILTER_WANT"); file != "" {
			os.WriteFile(file, []byte(strings.Join(want, "\x01")), 0o644)
		}
	}
	if os.Getenv("MILTER_SHOW") != "" {
		for i, c := range cases {
			t.Logf("%s\n%s", c.name, want[i])
		}
		return
	}
	got = runMilterCases(t, world.Options{Suite: world.Debian, Swap: []string{"smtpd"}}, cases)
	for i, c := range cases {
		if got[i] != want[i] {
			t.Errorf("%s: ours:\n%s\nDebian's:\n%s", c.name, got[i], want[i])
		}
	}
}
