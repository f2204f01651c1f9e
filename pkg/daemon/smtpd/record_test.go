package smtpd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"posthaste/pkg/wire/dns"
)

// TestRecord plays the corpus against Debian's smtpd and writes the golden
// files. It runs inside a mount and network namespace in which Debian's
// postfix is installed:
//
//	go test -c -o /tmp/smtpd.test ./pkg/daemon/smtpd
//	unshare -m -n bash /work/api/world-demo.sh env SMTPD_RECORD=$PWD/pkg/daemon/smtpd/testdata/golden /tmp/smtpd.test -test.run TestRecord
func TestRecord(t *testing.T) {
	golden := os.Getenv("SMTPD_RECORD")
	if golden == "" {
		t.Skip("records the golden files from Debian's smtpd; needs its namespace (SMTPD_RECORD)")
	}
	if err := os.Chdir(filepath.Dir(filepath.Dir(golden))); err != nil {
		t.Fatal(err)
	}
	corpus := readCorpus(t)
	serveZone(t)
	run := func(name string, args ...string) {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	var args []string
	for _, p := range baseConfig {
		args = append(args, p[0]+"="+p[1])
	}
	run("postconf", append([]string{"-e", "defer_transports=smtp,relay,local,virtual", "maillog_file=/var/log/mail.log"}, args...)...)
	master, err := os.OpenFile("/etc/postfix/master.cf", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range corpus {
		fmt.Fprintf(master, "127.0.0.1:%d inet n - n - - smtpd -o syslog_name=s%d\n", 3000+i, i)
		for _, o := range s.options {
			fmt.Fprintf(master, "  -o {%s = %s}\n", o[0], o[1])
		}
	}
	master.Close()
	run("postfix", "start")
	defer exec.Command("postfix", "stop").Run()
	time.Sleep(time.Second)
	talks := make([]string, len(corpus))
	for i, s := range corpus {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", 3000+i))
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		talks[i] = play(t, s, conn)
	}
	time.Sleep(2 * time.Second)
	log, err := os.ReadFile("/var/log/mail.log")
	if err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(golden, 0o755)
	for i, s := range corpus {
		text := maskTalk(talks[i])
		marker := fmt.Sprintf(" s%d/smtpd[", i)
		for _, line := range strings.Split(string(log), "\n") {
			_, rest, ok := strings.Cut(line, marker)
			if !ok {
				continue
			}
			_, rest, _ = strings.Cut(rest, "]: ")
			if !unimportant(rest) {
				text += "L: " + mask(rest) + "\n"
			}
		}
		if err := os.WriteFile(filepath.Join(golden, s.name+".txt"), []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
	for _, line := range strings.Split(string(log), "\n") {
		if strings.Contains(line, "fatal") || strings.Contains(line, "throttling") {
			t.Log(line)
		}
	}
}

func maskTalk(talk string) string {
	lines := strings.Split(talk, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "S: ") {
			lines[i] = mask(l)
		}
	}
	return strings.Join(lines, "\n")
}

// serveZone answers DNS queries on 127.0.0.1:53 from corpusZone.
func serveZone(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	answerZone(t, pc)
	os.WriteFile("/etc/resolv.conf", []byte("nameserver 127.0.0.1\n"), 0o644)
	os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644)
}

// answerZone answers DNS queries from corpusZone until the socket is closed.
func answerZone(t *testing.T, pc net.PacketConn) {
	fake := corpusZone()
	handler := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
		qtype := dns.Type(q.Question[0].Qtype)
		if fake.Fail[name] == dns.Temporary {
			m.Rcode = mdns.RcodeServerFailure
		} else if records, ok := fake.Records[name]; !ok {
			m.Rcode = mdns.RcodeNameError
		} else {
			for _, r := range records {
				if r.Type != qtype {
					continue
				}
				data := r.Host + "."
				if r.Host == "" {
					data = "."
				}
				switch r.Type {
				case dns.MX:
					data = fmt.Sprintf("%d %s", r.Pref, data)
				case dns.A, dns.AAAA:
					data = r.Addr.String()
				}
				rr, err := mdns.NewRR(fmt.Sprintf("%s. 60 IN %s %s", name, r.Type, data))
				if err != nil {
					t.Error(err)
					continue
				}
				m.Answer = append(m.Answer, rr)
			}
		}
		w.WriteMsg(m)
	})
	go (&mdns.Server{PacketConn: pc, Handler: handler}).ActivateAndServe()
}
