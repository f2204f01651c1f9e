package scheduler

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/spool/queue"
	"posthaste/test/world"
)

const greeting = "protocol\x00" + deliver.Protocol + "\x00\x00"

// reply is a final reply of an agent, in bytes: status, reason, overall status.
func reply(code, reason, status string) string {
	return "status\x00" + code + "\x00diag_type\x00\x00diag_text\x00\x00mta_type\x00\x00mta_mname\x00\x00action\x00delayed\x00reason\x00" + reason + "\x00status\x00" + status + "\x00\x00"
}

// agents are what transports say: at first, and after the request. Four cases are not
// here because ours is stricter: an agent that closes without a greeting or greets
// with another attribute is no agent (3.7.11 sends the request nevertheless, and finds
// out then), a reply that breaks off is no reply (3.7.11 uses the half it has), and one
// that lacks attributes is complained about at its end.
var agents = []struct{ name, greeting, reply string }{
	{"oldprotocol", "protocol\x00other_protocol\x00\x00", ""},
	{"garbage", "\x01\x02\x03\n\n", ""},
	{"greets", greeting, ""},
	{"words", greeting, reply("", "", "seven")},
	{"badcode", greeting, reply("9.9", "bad code", "-1")},
	{"badclass", greeting, reply("3.1.1", "bad class", "-1")},
	{"noreason", greeting, reply("4.2.1", "", "-1")},
	{"success", greeting, reply("2.0.0", "strange", "-1")},
	{"permanent", greeting, reply("5.7.1", "go away", "-1")},
	{"contrary", greeting, reply("4.2.2", "done nevertheless", "0")},
	{"positive", greeting, reply("", "", "1")},
	{"reasononly", greeting, reply("", "who knows", "-1")},
	{"plain", greeting, reply("", "", "-1")},
}

// recite plays an agent.
func (m *machine) recite(name, greeting, reply string) {
	path := m.Path("/var/spool/postfix/private/" + name)
	l, err := net.Listen("unix", path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Close() })
	os.Chmod(path, 0o666)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(c, greeting)
			if greeting != "" {
				if _, err := deliver.ReadRequest(attr.NewReader(c, attr.Null, name)); err == nil {
					io.WriteString(c, reply)
				}
			}
			c.Close()
		}
	}()
}

// TestBadAgents compares what is made of agents that break the protocol or report
// strange things: twice a message for each, the second shows whether the transport
// or the destination is avoided, and why.
func TestBadAgents(t *testing.T) {
	t.Parallel()
	ours, debian, ok := both(t, func(t *testing.T, suite world.Suite) (said []string) {
		var routes []string
		for _, a := range agents {
			routes = append(routes, fmt.Sprintf("{ .%s = %s: }", a.name, a.name))
		}
		m := newMachine(t, with(suite, "initial_destination_concurrency = 1", "transport_maps = inline:{ "+strings.Join(routes, ", ")+" }"))
		m.start()
		defer m.Stop()
		for _, a := range agents {
			m.recite(a.name, a.greeting, a.reply)
			for range 2 {
				before := m.CountLog("(queue active)")
				mark := len(m.Syslog())
				m.put(queue.Incoming, letter{sender: "a@here.test", rcpts: []string{"u@site." + a.name}, created: time.Now()})
				m.trigger("I")
				m.wait(20*time.Second, a.name, func() bool {
					return m.CountLog("(queue active)") > before && m.files(queue.Active)+m.files(queue.Incoming) == 0
				})
				said = append(said, "-- "+a.name)
				for line := range strings.Lines(m.quiet()[mark:]) {
					if f := ofProgram.FindStringSubmatch(line); f != nil {
						said = append(said, f[1]+": "+delays.ReplaceAllString(queueID.ReplaceAllString(f[2], "ID"), "delays"))
					}
				}
			}
		}
		return said
	})
	if a, b := strings.Join(ours, "\n"), strings.Join(debian, "\n"); ok && a != b {
		t.Errorf("ours\n%s\n\nDebian's\n%s", a, b)
	}
	t.Logf("%d lines", len(ours))
}
