package mime

import (
	"fmt"
	"strings"
	"testing"

	"posthaste/pkg/message/header"
)

// recorder notes what the machine reports, one line each.
type recorder struct {
	strings.Builder
	body int
}

func (r *recorder) Header(c Class, k *header.Known, text []byte, n int) {
	fmt.Fprintf(r, "H%d %s|%s\n", c, text[:n], strings.ReplaceAll(string(text[n:]), "\n", "~"))
}
func (r *recorder) HeaderEnd() { r.WriteString("END\n") }
func (r *recorder) Body(full bool, data []byte, offset int64) {
	r.body++
	mark := ""
	if !full {
		mark = "..."
	}
	fmt.Fprintf(r, "B%d %s%s\n", offset, data, mark)
}
func (r *recorder) Problem(p Problem, text []byte) { fmt.Fprintf(r, "P %s: %s\n", p.Text(), text) }

func options() Options {
	return Options{Parse: true, HeaderSizeLimit: 100, BoundaryLimit: 70, NestingLimit: 2, Report: allProblems}
}

func feed(m *Machine, text string) {
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if l, ok := strings.CutSuffix(line, `\`); ok {
			m.Record(false, []byte(l))
		} else {
			m.Record(true, []byte(line))
		}
	}
	m.End()
}

// The machine as cleanup uses it is checked against Debian's program by the
// golden cases of pkg/daemon/cleanup.
func TestMachine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"A : b\n c\nD:\\\ne\n\nx\n", "H1 A|: b~ c\nH1 D|:e\nEND\nB0 \nB1 x\n"},
		{"A: b\nno header\n", "H1 A|: b\nEND\nB0 \nB1 no header\n"},
		{"A: b\n", "H1 A|: b\nEND\n"},
		{"A: " + strings.Repeat("x", 100) + "\n lost\n\n", "P message header length exceeds safety limit: A: " + strings.Repeat("x", 100) +
			"\nH1 A|: " + strings.Repeat("x", 100) + "\nEND\nB0 \n"},
		{"Content-Type: multipart/x; boundary=b\n\n--b\nC: d\n\ne\n--b--\nf\n",
			"H1 Content-Type|: multipart/x; boundary=b\nEND\nB0 \nB1 --b\nH2 C|: d\nB0 \nB1 e\nB0 --b--\nB6 f\n"},
	} {
		var r recorder
		feed(New(&r, options()), c.in)
		if r.String() != c.want {
			t.Errorf("%q: got\n%s", c.in, r.String())
		}
	}
}

func TestDowngrade(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Content-Transfer-Encoding: 8bit\nSubject: x\n\ncaf\xe9 = \n" + strings.Repeat("a", 80) + "\n",
			"H1 Subject|: x\nH1 Content-Transfer-Encoding|: quoted-printable\nEND\nB0 \nB1 caf=E9 =3D=20\nB15 " +
				strings.Repeat("a", 73) + "=\nB90 " + strings.Repeat("a", 7) + "\n"},
		{"Content-Transfer-Encoding: base64\n\nab=\n", "H1 Content-Transfer-Encoding|: base64\nEND\nB0 \nB1 ab=\n"},
		{"Content-Transfer-Encoding: 8bit\nContent-Type: multipart/x; boundary=b\n\n--b\nContent-Transfer-Encoding: 8bit\n\n\xe9\n--b--\n",
			"H1 Content-Type|: multipart/x; boundary=b\nH1 Content-Transfer-Encoding|: 7bit\nEND\nB0 \nB1 --b\nH2 Content-Transfer-Encoding|: quoted-printable\nB0 \nB1 =E9\nB0 --b--\n"},
		{"Content-Transfer-Encoding: 8bit\n\nab\\\ncd\\\n", "H1 Content-Transfer-Encoding|: quoted-printable\nEND\nB0 \nB1 abcd\n"},
	} {
		var r recorder
		o := options()
		o.Downgrade = true
		feed(New(&r, o), c.in)
		if r.String() != c.want {
			t.Errorf("%q: got\n%s", c.in, r.String())
		}
	}
}

func FuzzMachine(f *testing.F) {
	f.Add("Content-Type: multipart/mixed; boundary=\"b\"\nContent-Transfer-Encoding: 8bit\n\n--b\nContent-Type: message/rfc822\n\nA: b\n\nx\xe9\\\ny\n--b--\n", false)
	f.Add("Content-Type: multipart/digest; boundary=(x)a\n\n--a\n\nS: t\n\n--a\n\n\n--a--", true)
	f.Fuzz(func(t *testing.T, in string, downgrade bool) {
		var r recorder
		o := options()
		o.Downgrade = downgrade
		m := New(&r, o)
		feed(m, in)
		if strings.Count("\n"+r.String(), "\nEND\n") < 1 {
			t.Fatalf("no end of headers in %q", r.String())
		}
		if len(m.stack) > o.NestingLimit+2 {
			t.Fatalf("%d levels", len(m.stack))
		}
		m.Reset()
		feed(m, in)
	})
}
