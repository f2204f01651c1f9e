package milter

import (
	"strings"
	"testing"

	gomilter "github.com/d--j/go-milter"

	"posthaste/test/world"
)

// changer is a filter of another make that changes everything it may.
type changer struct{ gomilter.NoOpMilter }

func (changer) EndOfMessage(m gomilter.Modifier) (*gomilter.Response, error) {
	for _, err := range []error{
		m.AddHeader("X-Scanned", "by go-milter\n in two lines"), m.ChangeHeader(1, "Subject", "[ok] hello"), m.ChangeHeader(1, "X", ""),
		m.InsertHeader(1, "X-Top", "top"), m.AddRecipient("<new@sink.test>", "NOTIFY=NEVER"), m.DeleteRecipient("<u2@sink.test>"),
		m.ChangeFrom("<other@example.test>", "RET=HDRS"), m.Progress(), m.ReplaceBody(strings.NewReader(strings.Repeat("a line of the new body\r\n", 8000))),
	} {
		if err != nil {
			return nil, err
		}
	}
	return gomilter.RespContinue, nil
}

// TestGoMilter has an independent filter in front of both suites.
func TestGoMilter(t *testing.T) {
	t.Parallel()
	run := func(s world.Suite) outcome {
		l := newLab(t, world.Options{Suite: s, Main: []string{"smtpd_milters = inet:127.0.0.1:7003"}}, true)
		ln, err := l.Listen("tcp", "127.0.0.1:7003")
		if err != nil {
			t.Fatal(err)
		}
		server := gomilter.NewServer(gomilter.WithMilter(func() gomilter.Milter { return changer{} }), gomilter.WithActions(gomilter.AllClientSupportedActionMasks&^gomilter.OptSetMacros))
		go server.Serve(ln)
		t.Cleanup(func() { server.Close() })
		m := mail{}
		fill(&m)
		return l.run(t, m)
	}
	want, got := run(world.Debian), run(world.Ours)
	if !strings.Contains(want.File, "Subject: [ok] hello") {
		t.Fatalf("Debian's suite did not change the message: %s\n%s", want.Replies, want.File)
	}
	if d := compare(want, got); d != "" {
		t.Error(d)
	}
}
