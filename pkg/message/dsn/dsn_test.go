package dsn

import "testing"

func TestCodes(t *testing.T) {
	for _, c := range []struct {
		in  string
		len int
	}{
		{"5.1.1", 5}, {"5.1.1 x", 5}, {"4.255.255 y", 9}, {"2.0.0\tx", 5}, {"3.0.0", 0}, {"5.1", 0}, {"5..1", 0}, {"5.1.1x", 0},
		{"5.1234.1", 0}, {"5.1.1234", 0}, {"", 0}, {"5.1.", 0},
	} {
		if got := CodeLen(c.in); got != c.len {
			t.Errorf("%q: %d", c.in, got)
		}
	}
	if code, rest := Split("5.7.9  no thanks", "5.0.0"); code != "5.7.9" || rest != "no thanks" {
		t.Error(code, rest)
	}
	if code, rest := Split("no thanks", "5.0.0"); code != "5.0.0" || rest != "no thanks" {
		t.Error(code, rest)
	}
	if Prepend("5.7.1", "x") != "5.7.1 x" || Prepend("5.7.1", "4.0.0 x") != "4.0.0 x" || !Valid("5.1.1") || Valid("5.1.1 x") {
		t.Error("Prepend or Valid")
	}
}

func TestNotify(t *testing.T) {
	for n := Notify(-1); n < 20; n++ {
		want := n == 1 || n >= 2 && n <= 14 && n%2 == 0
		if n.Valid() != want {
			t.Errorf("%d", n)
		}
	}
	if n, err := ParseNotify("success,DELAY"); err != nil || n != 10 || n.String() != "SUCCESS,DELAY" {
		t.Error(n, err)
	}
	for _, bad := range []string{"", "NEVER,DELAY", "x", "SUCCESS,"} {
		if _, err := ParseNotify(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	if r, ok := ParseRet("hdrs"); !ok || r != RetHdrs || r.String() != "HDRS" {
		t.Error("RET")
	}
}

func TestXtext(t *testing.T) {
	if got := XtextEncode("ab+c=d e\x80", "="); got != "ab+2Bc+3Dd+20e+80" {
		t.Error(got)
	}
	for _, bad := range []string{"+", "+2", "+2G", "++2"} {
		if _, err := XtextDecode(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	if got, err := UnitextDecode(`a\x{E9}b`); err != nil || got != "a\u00e9b" {
		t.Error(got, err)
	}
	if got := UnitextEncode("a\u00e9+", false); got != `a\x{E9}\x{2B}` {
		t.Error(got)
	}
	for _, bad := range []string{`\x{`, `\x{G}`, `\x{110000}`, `\x{D800}`} {
		if _, err := UnitextDecode(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func FuzzXtext(f *testing.F) {
	f.Add("a+2Bb")
	f.Fuzz(func(t *testing.T, s string) {
		if back, err := XtextDecode(XtextEncode(s, "=")); err != nil || back != s {
			t.Fatalf("%q: %q %v", s, back, err)
		}
		XtextDecode(s)
		UnitextDecode(s)
	})
}
