package qmqpsink

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"posthaste/pkg/command"
	"posthaste/pkg/command/load"
)

// say sends text to a sink that is at its end of a pipe.
func say(text string) (answer string, k *sink) {
	env := command.Env{Stdout: &bytes.Buffer{}, Stderr: io.Discard}
	k = &sink{env: env, log: load.Logger([]string{"qmqp-sink"}, env, 0), show: true}
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); k.session(far) }()
	got := make(chan string)
	go func() { b, _ := io.ReadAll(near); got <- string(b) }()
	_, err := io.WriteString(near, text)
	if err == nil && !bytes.HasSuffix([]byte(text), []byte(",")) || errors.Is(err, io.ErrClosedPipe) {
		near.Close()
	}
	answer = <-got
	near.Close()
	<-done
	return answer, k
}

func TestSession(t *testing.T) {
	for text, want := range map[string]string{"5:hello,": "3:KOk,", "0:,": "3:KOk,", "5:hello.": "", "junk": "", ":": "", "5:he": "", "99999999999999999999999:x": ""} {
		answer, k := say(text)
		if answer != want || (k.done == 1) != (want != "") {
			t.Errorf("%q: %q, %d done", text, answer, k.done)
		}
	}
}

func FuzzSession(f *testing.F) {
	f.Add("30:5:hello,5:a@b.c,5:d@e.f,3:xyz,,")
	f.Add("1:")
	f.Fuzz(func(t *testing.T, text string) {
		near, far := net.Pipe()
		go func() { _, _ = io.WriteString(near, text); near.Close() }()
		_ = receive(far)
		far.Close()
	})
}
