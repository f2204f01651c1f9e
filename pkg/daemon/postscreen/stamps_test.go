package postscreen

import (
	"strings"
	"testing"
	"time"
)

// What Debian's postscreen makes of entries (the row "noclean" of the dialogues).
func TestParseStamps(t *testing.T) {
	for text, want := range map[string]stamps{
		"1795416277;1;1797921883;1797921883;1797921883": {1795416277, 1, 1797921883, 1797921883, 1797921883},
		"0;0;0;0;0":                       {0, 0, 0, 0, 0},
		"":                                {1, 1, 1, 1, 1},
		"hello":                           {1, 1, 1, 1, 1},
		"7":                               {7, 1, 1, 1, 1},
		"7;8":                             {7, 8, 1, 1, 1},
		"7;;9;1;1":                        {7, 1, 9, 1, 1},
		"7;8;9;1;1;2":                     {7, 8, 9, 1, 1},
		"7;0x10;9;1;1":                    {7, 1, 1, 1, 1},
		"7 ;8;9":                          {1, 1, 1, 1, 1},
		" 7; 8;9":                         {7, 8, 9, 1, 1},
		"+7;-5;9":                         {7, -5, 9, 1, 1},
		"+-7;8":                           {1, 1, 1, 1, 1},
		"7;99999999999999999999999;9;1;1": {7, 1, 9, 1, 1},
	} {
		if got := parseStamps(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if got := (stamps{7, -5, 0, 0, 1}).entry(1<<pregreet | 1<<nonSMTP); got != "7;18446744073709551611;1;0;1" {
		t.Error(got)
	}
}

func TestStamps(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	s := stamps{1_000_000, 999_999, 0, 1, 1_000_500}
	if due := s.due(allTests, now); due != 1<<dnsbl|1<<pipelining|1<<nonSMTP {
		t.Errorf("due %b", due)
	}
	if due := s.due(1<<bareLF, now); due != 0 {
		t.Errorf("due %b", due)
	}
	if s.known(1<<pipelining) || !s.known(1<<dnsbl|1<<nonSMTP) {
		t.Error("known")
	}
	for _, c := range []struct {
		enabled testSet
		keep    time.Duration
		want    bool
	}{{1 << pregreet, 0, false}, {1 << dnsbl, 0, true}, {1 << dnsbl, time.Second, false}, {1<<pregreet | 1<<nonSMTP, 7 * 24 * time.Hour, true}, {1 << bareLF, 0, false}} {
		if got := s.useless(c.enabled, now, c.keep); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if got := newStamps(1<<pregreet | 1<<bareLF); got != (stamps{0, 1, 1, 1, 0}) {
		t.Error(got)
	}
}

// FuzzStamps asserts that what we write is read as it was.
func FuzzStamps(f *testing.F) {
	f.Add("1;2;3;4;5")
	f.Add("-1; +2;;0x4;5;6")
	f.Fuzz(func(t *testing.T, text string) {
		s := parseStamps(text)
		if again := parseStamps(s.String()); again != s {
			t.Errorf("%q: %v, then %v", text, s, again)
		}
		if strings.Count(s.String(), ";") != testCount-1 {
			t.Error(s)
		}
	})
}
