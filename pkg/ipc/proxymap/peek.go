package proxymap

import "syscall"

// nothingToRead tells that a socket is open and has no input.
func nothingToRead(fd int) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN
}
