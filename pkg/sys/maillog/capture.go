package maillog

import (
	"sync"
	"time"
)

// Buffer holds the records of a captured Logger.
type Buffer struct {
	mu    sync.Mutex
	lines []string
}

func (b *Buffer) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

// Lines returns the records so far: "warning: ..." without date and tag.
func (b *Buffer) Lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.lines...)
}

// Reset forgets the records so far.
func (b *Buffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = nil
}

// Exit is the value with which Fatal of a captured Logger panics.
type Exit struct{ Code int }

// Capture returns a Logger for tests, and what it records.
func Capture() (*Logger, *Buffer) {
	b := &Buffer{}
	cfg := Config{
		UTF8:  true,
		Exit:  func(code int) { panic(Exit{code}) },
		Sleep: func(time.Duration) {},
	}
	return &Logger{sink: &sink{cfg: cfg, capture: b}}, b
}
