package getopt

import (
	"fmt"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-vv", "-c", "dir", "-bfile", "x", "-v"}, "[v v cdir bfile] [x -v] <nil>"},
		{[]string{"-vc", "dir", "--", "-v"}, "[v cdir] [-v] <nil>"},
		{[]string{"-", "x"}, "[] [- x] <nil>"},
		{[]string{"-b", "-"}, "[b-] [] <nil>"},
		{[]string{"-v", "-z"}, "[v] [] invalid option -- 'z'"},
		{[]string{"-:"}, "[] [] invalid option -- ':'"},
		{[]string{"-c"}, "[] [] option requires an argument -- 'c'"},
		{nil, "[] [] <nil>"},
	} {
		options, rest, err := Parse(c.args, "c:vb:")
		var letters []string
		for _, o := range options {
			letters = append(letters, string(o.Letter)+o.Value)
		}
		if got := fmt.Sprintf("%v %v %v", letters, rest, err); got != c.want {
			t.Errorf("%q: got %s, want %s", c.args, got, c.want)
		}
	}
}
