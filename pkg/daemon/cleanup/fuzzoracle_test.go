package cleanup

import (
	"fmt"
	"math/rand"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"posthaste/pkg/spool/record"
)

// TestOracleHeaders plays random address headers to Debian's cleanup and to
// ours. It runs only on request; see TestRecordGoldens.
func TestOracleHeaders(t *testing.T) {
	if os.Getenv("POSTHASTE_ORACLE") == "" {
		t.Skip("POSTHASTE_ORACLE is not set: Debian's cleanup is asked only on request")
	}
	base := goldenCase{name: "c0", flags: 50}
	startOracle(t, []goldenCase{base})
	seed := time.Now().UnixNano()
	if s := os.Getenv("SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewSource(seed))
	pieces := strings.Split(`a b.c joe @ @ @ host x.example , , , ; : < > <a@b> <joe> ( ) (c) "q q" "a\"b" "x [1.2.3.4] [ ] . .. ! % | \ \a \, é " '`+"\t", " ")
	pieces = append(pieces, " ", " ", "\n ", "()", "(\\))", "(a(b)c)", ", ", ": ", "\"\"", "=?utf-8?q?x?=", "very.long.name.of.a.user@some.long.domain.example")
	bad := 0
	for range 60 {
		var recs strings.Builder
		recs.WriteString(one + "M\n>Received: x\n>Message-Id: <m>\n>Date: d\n>From: f@g.example\n")
		b := parseRecords(t, recs.String())
		var heads []string
		for range 40 {
			text := ""
			for range 1 + rnd.Intn(14) {
				text += pieces[rnd.Intn(len(pieces))]
			}
			if os.Getenv("LENGTHS") != "" {
				n := len(heads)
				text = [...]string{"a@b (%s)", "a (%s) (cc)", "%s <a>", "%s%s (x) <a@b>"}[n%4]
				text = strings.ReplaceAll(text, "%s", strings.Repeat("y", 240/strings.Count(text, "%s")+n/4))
				text = " q, " + text
			} else if rnd.Intn(15) == 0 {
				text += " (" + strings.Repeat("y", 215+rnd.Intn(40)) + ") " + text
			}
			text = "To:" + text
			heads = append(heads, text)
			for line := range strings.SplitSeq(text, "\n") {
				b = record.Append(b, record.TypeNormal, []byte(line))
			}
			b = record.Append(b, record.TypeNormal, []byte(fmt.Sprintf("X-Mark: %d", len(heads))))
		}
		b = append(b, parseRecords(t, ">\n"+tail)...)
		c := base
		c.raw = b
		conn, err := net.Dial("unix", "/var/spool/postfix/public/c0")
		if err != nil {
			t.Fatal(err)
		}
		mark := logSize()
		id, r := c.play(t, conn)
		conn.Close()
		time.Sleep(30 * time.Millisecond)
		data, where := findFile("/var/spool/postfix", id)
		want := split(render(t, id, r, data, where, oracleLog(mark, id)))
		_, _, ours := newWorld(t, c).run(t, c)
		got := split(ours)
		for i := range heads {
			if i < len(want) && i < len(got) && (got[i] != want[i] || os.Getenv("LENGTHS") != "") && i > 0 {
				if bad++; bad < 25 {
					t.Errorf("%q\n got %s\nwant %s", heads[i], got[i], want[i])
				}
			}
		}
	}
	t.Logf("%d differences", bad)
}

func split(s string) []string { return strings.Split(s, "X-Mark:") }
