package verify

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/attr"
	protocol "posthaste/pkg/ipc/verify"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table"
)

// bench is a daemon with a clock and a list of the probes that it sent.
type bench struct {
	*daemon
	log    *maillog.Buffer
	clock  time.Time
	mu     sync.Mutex
	probes []string
}

func newBench(s store) *bench {
	logger, log := maillog.Capture()
	b := &bench{log: log, clock: time.Unix(1_700_000_000, 0)}
	b.daemon = &daemon{log: logger, store: s, posting: make(chan struct{}, 3), now: func() time.Time { return b.clock },
		lifetimes: lifetimes{positiveExpire: 100 * time.Second, positiveRefresh: 50 * time.Second, negativeExpire: 40 * time.Second, negativeRefresh: 20 * time.Second},
		probe: func(_ context.Context, addr string) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.probes = append(b.probes, addr)
			return nil
		}}
	return b
}

func memory() *memoryStore { return &memoryStore{values: map[string]string{}} }

type noTurns struct{ net.Conn }

func (noTurns) Taken()     {}
func (noTurns) Available() {}

// talk sends requests, "|" for NUL, over one connection; a reply ends in "||".
func (b *bench) talk(t *testing.T, requests ...string) []string {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() {
		err := b.serve(t.Context(), server, noTurns{server})
		server.Close()
		done <- err
	}()
	in := attr.NewReader(client, attr.Null, "verify")
	if err := attr.Expect(in, protocol.Protocol); err != nil {
		t.Fatal(err)
	}
	var replies []string
	for _, r := range requests {
		io.WriteString(client, strings.ReplaceAll(r, "|", "\x00"))
		client.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		list, err := in.List()
		if err != nil {
			replies = append(replies, "none")
			continue
		}
		var text []string
		for _, a := range list {
			text = append(text, a.Value)
		}
		replies = append(replies, strings.Join(text, "|"))
	}
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.posts.Wait()
	return replies
}

func (b *bench) sent() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.probes
	b.probes = nil
	return p
}

const todo = "0|3|" + inProgress

// The conversation was held with Debian's daemon, too.
func TestConversation(t *testing.T) {
	b := newBench(memory())
	for _, step := range []struct {
		request, reply, probe string
		after                 time.Duration
	}{
		{"request|query|address|a@b.test||", todo, "a@b.test", 0},
		{"request|query|address|a@b.test||", todo, "", 0},
		{"request|update|address|a@b.test|recipient_status|2|reason|550 no||", "0", "", 0},
		{"request|query|address|a@b.test||", "0|2|550 no", "", 0},
		{"request|update|address|ok@b.test|recipient_status|0|reason|250 ok||", "0", "", 0},
		{"request|update|address|ok@b.test|recipient_status|2|reason|550 later||", "0", "", 0},
		{"request|query|address|ok@b.test||", "0|0|250 ok", "", 0},
		{"request|update|address|de@b.test|recipient_status|1|reason|450 defer\x07\xe9||", "0", "", 0},
		{"request|query|address|de@b.test||", "0|1|450 defer??", "", 0},
		{"request|update|address|t@b.test|recipient_status|3|reason|todo||", "4294967294", "", 0},
		{"request|update|address|t@b.test|recipient_status|4294967295|reason|todo||", "4294967294", "", 0},
		{"request|query|address|[::1]x:y@[IPv6:::1]||", todo, "[::1]x:y@[IPv6:::1]", 0},
		{"request|frob|address|x||", "4294967294", "", 0},
		{"request|query|addr|x||", "none", "", 0},
		{"request|query|address|de@b.test||", "0|1|450 defer??", "de@b.test", 30 * time.Second}, // refreshed
		{"request|query|address|de@b.test||", "0|1|450 defer??", "", 0},
		{"request|query|address|a@b.test||", todo, "a@b.test", 20 * time.Second},            // expired
		{"request|query|address|de@b.test||", todo, "", 0},                                  // expired, but probed
		{"request|query|address|ok@b.test||", "0|0|250 ok", "ok@b.test", 10 * time.Second},  // refreshed
		{"request|update|address|ok@b.test|recipient_status|2|reason|550 no||", "0", "", 0}, // no news until it expires
		{"request|query|address|ok@b.test||", "0|0|250 ok", "", 0},
		{"request|query|address|ok@b.test||", todo, "", 50 * time.Second},
		{"request|query|address|ok@b.test||", todo, "ok@b.test", probeTTL}, // the probe was lost
	} {
		b.clock = b.clock.Add(step.after)
		got := b.talk(t, step.request)[0]
		probes := strings.Join(b.sent(), " ")
		if got != step.reply || probes != step.probe {
			t.Errorf("%q: reply %q, want %q; probes %q, want %q", step.request, got, step.reply, probes, step.probe)
		}
	}
	want := []string{"warning: bad recipient status 3 for recipient t@b.test", "warning: bad recipient status -1 for recipient t@b.test",
		`warning: unrecognized request: "frob", ignored`, "warning: missing attribute address in input from verify socket"}
	if got := b.log.Lines(); !slices.Equal(got, want) {
		t.Errorf("log %q", got)
	}
}

// A probe that finds no place is sent when it is asked for again.
func TestPostingLimit(t *testing.T) {
	b := newBench(memory())
	for range cap(b.posting) {
		b.posting <- struct{}{}
	}
	if got := b.talk(t, "request|query|address|a@b.test||")[0]; got != todo || len(b.sent()) != 0 {
		t.Error(got)
	}
	<-b.posting
	if got := b.talk(t, "request|query|address|a@b.test||")[0]; got != todo || len(b.sent()) != 1 {
		t.Error(got)
	}
}

type brokenStore struct{ *memoryStore }

func (brokenStore) get(context.Context, string) (string, bool, error) {
	return "", false, errors.New("table lookup error")
}

func TestBrokenCache(t *testing.T) {
	b := newBench(brokenStore{memory()})
	got := b.talk(t, "request|query|address|a@b.test||", "request|update|address|a@b.test|recipient_status|2|reason|x||")
	if !slices.Equal(got, []string{"4294967295", "4294967295"}) || len(b.sent()) > 0 {
		t.Error(got)
	}
}

func TestCleanup(t *testing.T) {
	file, err := table.OpenMode(table.Env{Config: conf.FromMap(nil), Strict: true}, "btree:"+filepath.Join(t.TempDir(), "cache"), table.ReadWriteCreate, openFlags)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, s := range []store{memory(), tableStore{file}} {
		b := newBench(s)
		ctx := t.Context()
		now := b.clock.Unix()
		for key, e := range map[string]entry{
			"fresh":   {protocol.Deliverable, 0, now - 10, "x"},
			"old":     {protocol.Deliverable, 0, now - 101, "x"},
			"probed":  {protocol.Deliverable, now - 10, now - 101, "x"},
			"bad":     {protocol.Undeliverable, 0, now - 41, "x"},
			"badnew":  {protocol.Undeliverable, 0, now - 39, "x"},
			"waiting": {protocol.Probing, now - 999, 0, "x"},
			"lost":    {protocol.Probing, now - 1001, 0, "x"},
		} {
			s.put(ctx, key, e.String())
		}
		s.put(ctx, "junk", "1:2")
		if !b.cleanNow(ctx) {
			t.Error("not done")
		}
		if got := b.log.Lines(); len(got) != 1 || !strings.HasSuffix(got[0], " full cleanup: retained=4 dropped=4 entries") {
			t.Errorf("%q", got)
		}
		for key, want := range map[string]bool{"fresh": true, "old": false, "probed": true, "bad": false, "badnew": true, "waiting": true, "lost": false, "junk": false, lastCleanup: true} {
			if _, found, _ := s.get(ctx, key); found != want {
				t.Errorf("%s: %s: %v", s.name(), key, found)
			}
		}
		if d := b.cleanupDue(ctx, time.Hour); d != time.Hour {
			t.Error("next cleanup in", d)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := memory()
	for i := range maxInMemory {
		s.values[strconv.Itoa(i)] = "x"
	}
	s.put(t.Context(), "new", "y")
	if _, found, _ := s.get(t.Context(), "new"); !found || len(s.values) != maxInMemory {
		t.Error(found, len(s.values))
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, s := range []string{"0:0:1795329534:ok.test", "3:1:0:Address verification in progress", "2:0:0:x", "1:2", "-1:2:3:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if e, ok := parseEntry(value); ok {
			if again, ok := parseEntry(e.String()); !ok || again != e {
				t.Errorf("%q: %v, %v", value, e, again)
			}
		}
	})
}
