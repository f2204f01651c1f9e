package flow

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTokens(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	c := Open(p[0], p[1])
	c.Put(5)
	if n, err := c.Count(); n != 5 || err != nil {
		t.Errorf("count %d, %v", n, err)
	}
	if n, err := c.Take(3); n != 3 || err != nil {
		t.Errorf("took %d, %v", n, err)
	}
	if n, _ := c.Take(10); n != 2 {
		t.Errorf("took %d of the last 2", n)
	}
	begin := time.Now()
	if err := c.Wait(context.Background(), 50*time.Millisecond); err != nil || time.Since(begin) < 50*time.Millisecond {
		t.Errorf("without a token: %v after %v", err, time.Since(begin))
	}
	unix.Close(p[1])
	if _, err := c.Take(1); err == nil || err.Error() != "fstat flow pipe write descriptor: bad file descriptor" {
		t.Errorf("%v", err)
	}
	unix.Close(p[0])
	var none *Control
	none.Put(1)
	if n, err := none.Count(); n != 0 || err != nil {
		t.Error("nil Control")
	}
}
