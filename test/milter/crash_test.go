package milter

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"posthaste/pkg/spool/record"
	"posthaste/test/world"
)

// TestKilledInEdits kills cleanup again and again while Milters change
// messages. What was acknowledged must be in the queue, changed as asked; what
// is in the queue must be whole, acknowledged or not.
func TestKilledInEdits(t *testing.T) {
	t.Parallel()
	l := newLab(t, world.Options{Suite: world.Ours, Main: []string{"notify_classes =", "service_throttle_time = 1s"}}, true)
	l.filters[0].play(script{replies: map[byte][]string{'E': {
		insHeader(0, "X-Top", "top"), addHeader("X-Added", "added"), chgHeader(1, "Subject", "changed"), addRcpt("new@sink.test"), delRcpt("u1@sink.test"),
		chgFrom("other@example.test", ""), replBody(strings.Repeat("a new line of the body\r\n", 2000)), replBody("last line of the body\r\n")}}})
	stop := time.Now().Add(6 * time.Second)
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	var senders sync.WaitGroup
	for n := range 4 {
		senders.Add(1)
		go func() {
			defer senders.Done()
			for i := 0; time.Now().Before(stop); i++ {
				m := mail{to: "u1@sink.test", text: fmt.Sprintf("Subject: original\nX-Number: %d-%d\n\n%s", n, i, strings.Repeat("old body\n", 100))}
				fill(&m)
				replies := l.smtp(t, m)
				if p := idRx.FindStringSubmatch(replies[len(replies)-1]); p != nil && p[1] != "" {
					mu.Lock()
					acknowledged[p[1]] = true
					mu.Unlock()
				}
			}
		}()
	}
	kills := 0
	for time.Now().Before(stop) {
		time.Sleep(120 * time.Millisecond)
		if l.Sh("pid=$(pgrep -P $(cat /var/spool/postfix/pid/master.pid) -x cleanup | head -1); [ -n \"$pid\" ] && kill -9 $pid").Code == 0 {
			kills++
		}
	}
	senders.Wait()
	time.Sleep(200 * time.Millisecond)
	whole := map[string]bool{}
	for path := range l.files("incoming") {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&0100 == 0 {
			continue // not a message: cleanup died before it was one
		}
		text, err := readLogical(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, want := range []string{"S other@example.test\n", "/ u1@sink.test\n", "R new@sink.test\n", "N X-Top: top\n", "N X-Added: added\n", "N Subject: changed\n", "N last line of the body\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: acknowledged %v, but no %q in\n%.2000s", path, acknowledged[info.Name()], want, text)
			}
		}
		if strings.Contains(text, "old body") || strings.Contains(text, "Subject: original") {
			t.Errorf("%s: has old text", path)
		}
		whole[info.Name()] = true
	}
	for id := range acknowledged {
		if !whole[id] {
			t.Errorf("%s was acknowledged and is not in the queue", id)
		}
	}
	if kills < 2 || len(acknowledged) < 5 {
		t.Errorf("%d kills, %d messages: that tested nothing", kills, len(acknowledged))
	}
	t.Logf("%d kills, %d acknowledged, %d in the queue", kills, len(acknowledged), len(whole))
}

// readLogical reads a queue file to its end, following pointers.
func readLogical(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r := record.NewReader(f)
	r.Path = path
	var b strings.Builder
	for {
		typ, data, err := r.Next()
		if err != nil {
			return b.String(), err
		}
		fmt.Fprintf(&b, "%c %s\n", typ, data)
		if typ == record.TypeEnd {
			return b.String(), nil
		}
	}
}
