package mailbox

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
)

// A machine that fails for a while must not make bounces of its users' mail.
func TestTroubleOfTheMachineIsTemporary(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EINTR} {
		err := &os.PathError{Op: "open", Err: errno}
		if code := fileCode(err, "5.2.0"); code[0] != '4' {
			t.Errorf("file: %v: %s", errno, code)
		}
		for _, err := range []error{WriteFailed(err), ReadFailed(err)} {
			var st *StatusError
			if !errors.As(err, &st) || st.Status.Code[0] != '4' {
				t.Errorf("copy: %v: %v", errno, err)
			}
		}
	}
	for errno, want := range map[syscall.Errno]string{syscall.EFBIG: "5.2.2", syscall.EDQUOT: "5.2.2", syscall.EACCES: "5.2.0"} {
		if code := fileCode(errno, "5.2.0"); code != want {
			t.Errorf("%v: %s, want %s", errno, code, want)
		}
	}
	if ReadFailed(io.EOF) != ErrCorrupt {
		t.Error("a queue file that ends too early is not damage")
	}
}
