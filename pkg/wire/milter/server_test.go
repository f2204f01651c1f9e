package milter

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	gomilter "github.com/d--j/go-milter"
)

// judge is a filter of another make.
type judge struct {
	gomilter.NoOpMilter
	mu   *sync.Mutex
	seen *[]string
	body *strings.Builder
}

func (j judge) note(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	*j.seen = append(*j.seen, fmt.Sprintf(format, a...))
}

func (j judge) Connect(host, family string, port uint16, addr string, m gomilter.Modifier) (*gomilter.Response, error) {
	j.note("connect %s %s %d %s %s", host, family, port, addr, m.Get("j"))
	return gomilter.RespContinue, nil
}

func (j judge) Helo(name string, _ gomilter.Modifier) (*gomilter.Response, error) {
	j.note("helo %s", name)
	return gomilter.RespContinue, nil
}

func (j judge) MailFrom(from, args string, m gomilter.Modifier) (*gomilter.Response, error) {
	j.note("mail %s %s %s", from, args, m.Get("{mail_addr}"))
	return gomilter.RespContinue, nil
}

func (j judge) RcptTo(to, args string, _ gomilter.Modifier) (*gomilter.Response, error) {
	j.note("rcpt %s %s", to, args)
	if strings.HasPrefix(to, "bad") {
		return gomilter.RejectWithCodeAndReason(550, "5.7.9 not 100% welcome\nat all")
	}
	return gomilter.RespContinue, nil
}

func (j judge) Header(name, value string, _ gomilter.Modifier) (*gomilter.Response, error) {
	j.note("header %q %q", name, value)
	return gomilter.RespContinue, nil
}

func (j judge) BodyChunk(chunk []byte, _ gomilter.Modifier) (*gomilter.Response, error) {
	j.body.Write(chunk)
	return gomilter.RespContinue, nil
}

func (j judge) EndOfMessage(m gomilter.Modifier) (*gomilter.Response, error) {
	j.note("body of %d bytes, id %s", j.body.Len(), m.Get("i"))
	for _, err := range []error{m.AddHeader("X-New", "a\n b"), m.ChangeHeader(1, "Subject", "new"), m.ChangeHeader(2, "X-Old", ""), m.InsertHeader(0, "X-Top", "t"),
		m.AddRecipient("<c@example.com>", "NOTIFY=NEVER"), m.DeleteRecipient("<b@example.com>"), m.ChangeFrom("<d@example.com>", ""), m.Progress(),
		m.ReplaceBody(strings.NewReader("other body")), m.Quarantine("dubious")} {
		if err != nil {
			j.note("error: %v", err)
		}
	}
	return gomilter.RespContinue, nil
}

// TestServer talks to another implementation of the protocol.
func TestServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback network: ", err)
	}
	var mu sync.Mutex
	var seen []string
	var body strings.Builder
	server := gomilter.NewServer(gomilter.WithMilter(func() gomilter.Milter { return judge{mu: &mu, seen: &seen, body: &body} }),
		gomilter.WithActions(gomilter.AllClientSupportedActionMasks), gomilter.WithMacroRequest(gomilter.StageMail, []gomilter.MacroName{"{mail_addr}"}))
	go server.Serve(l)
	defer server.Close()
	f := mustNew(t, "inet:"+l.Addr().String(), testConfig(nil))
	f.Lookup = lookup(map[string]string{"j": "mx.example.test", "{mail_addr}": "a@example.com", "i": "QUEUEID"})
	results := []Result{f.Connect(t.Context(), "client.test", "192.0.2.1", "99", FamilyIPv4), f.Helo("client.test"), f.Mail("<a@example.com>", "SIZE=1"), f.Rcpt("<bad@example.com>"), f.Rcpt("<b@example.com>"), f.Data()}
	edits := &recorder{}
	results = append(results, f.Message(func(c *Content) error {
		c.Header("Subject", " old")
		c.EndOfHeaders()
		return c.Body(make([]byte, 100000))
	}, edits))
	f.Abort()
	results = append(results, f.Mail("<>"))
	f.Close()
	if got, want := fmt.Sprintf("%+v", results[:3]), "[{Verdict:0 Reply: Err:<nil>} {Verdict:0 Reply: Err:<nil>} {Verdict:0 Reply: Err:<nil>}]"; got != want {
		t.Error(got)
	}
	if want := (Result{Verdict: Reject, Reply: "550-5.7.9 not 100% welcome\r\n550 5.7.9 at all"}); results[3] != want {
		t.Errorf("%+v, want %+v", results[3], want)
	}
	if results[6] != (Result{Verdict: Hold}) {
		t.Errorf("end of message: %+v", results[6])
	}
	mu.Lock()
	got := strings.Join(seen, "\n") + "\n" + strings.Join(edits.got, "\n")
	mu.Unlock()
	want := `connect client.test tcp4 99 192.0.2.1 mx.example.test
helo client.test
mail a@example.com SIZE=1 a@example.com
rcpt bad@example.com 
rcpt b@example.com 
header "Subject" "old"
body of 100000 bytes, id QUEUEID
mail   a@example.com
add "X-New" " a\n b"
change 1 "Subject" " new"
delete 2 "X-Old"
insert 1 "X-Top" " t"
rcpt "<c@example.com>" "NOTIFY=NEVER"
norcpt "<b@example.com>"
from "<d@example.com>" ""
body "other body"
body ""`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
