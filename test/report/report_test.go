package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	var out strings.Builder
	r := &report{out: &out, output: map[string][]string{}}
	err := r.read(strings.NewReader(`{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"quiet\n"}
{"Action":"output","Package":"p","Test":"A","Output":"= figure 1\n"}
{"Action":"pass","Package":"p","Test":"A","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"B","Output":"    x_test.go:5: it is wrong\n"}
{"Action":"fail","Package":"p","Test":"B","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"C","Output":"    x_test.go:9: SKIP: needs root\n"}
{"Action":"skip","Package":"p","Test":"C","Elapsed":0}
{"Action":"fail","Package":"p","Elapsed":1}
{"Action":"pass","Package":"q","Elapsed":2}
go: something went wrong
`))
	if err != nil {
		t.Fatal(err)
	}
	want := "= figure 1\nFAIL p B\n    x_test.go:5: it is wrong\nSKIP p C: needs root\nFAIL\tp\t1.000s\nok  \tq\t2.000s\ngo: something went wrong\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	if r.passed != 1 || r.failed != 1 || r.skipped != 1 || !r.broken {
		t.Errorf("%+v", r)
	}
}
