package cred

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setgroups sets the supplementary groups of the calling thread.
func setgroups(groups []uint32) syscall.Errno {
	var p unsafe.Pointer
	if len(groups) > 0 {
		p = unsafe.Pointer(&groups[0])
	}
	_, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p), 0)
	return e
}
