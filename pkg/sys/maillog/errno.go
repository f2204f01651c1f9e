package maillog

import (
	"errors"
	"syscall"
)

// Errno returns err, but for a system error one with the words of the C
// library's strerror, which Postfix's log lines have: "No such file or
// directory" where Go says "no such file or directory".
func Errno(err error) error {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return err
	}
	return strerror{e}
}

type strerror struct{ errno syscall.Errno }

func (s strerror) Unwrap() error { return s.errno }

// Error capitalises the first letter, which is all that differs for nearly
// every error number.
func (s strerror) Error() string {
	if text, ok := unusual[s.errno]; ok {
		return text
	}
	text := []byte(s.errno.Error())
	if len(text) > 0 && text[0] >= 'a' && text[0] <= 'z' {
		text[0] -= 'a' - 'A'
	}
	return string(text)
}

// unusual are the words of the GNU C library that differ from Go's otherwise.
var unusual = map[syscall.Errno]string{
	0:                    "Success",
	syscall.EIO:          "Input/output error",
	syscall.ENXIO:        "No such device or address",
	syscall.ELOOP:        "Too many levels of symbolic links",
	syscall.EXDEV:        "Invalid cross-device link",
	syscall.ENOTTY:       "Inappropriate ioctl for device",
	syscall.EDOM:         "Numerical argument out of domain",
	syscall.EILSEQ:       "Invalid or incomplete multibyte or wide character",
	syscall.EL2NSYNC:     "Level 2 not synchronized",
	syscall.EL3HLT:       "Level 3 halted",
	syscall.EL3RST:       "Level 3 reset",
	syscall.EL2HLT:       "Level 2 halted",
	syscall.ENOCSI:       "No CSI structure available",
	syscall.EHOSTUNREACH: "No route to host",
	syscall.EPFNOSUPPORT: "Protocol family not supported",
	syscall.EAFNOSUPPORT: "Address family not supported by protocol",
	syscall.EPROTOTYPE:   "Protocol wrong type for socket",
	syscall.ENOPROTOOPT:  "Protocol not available",
	syscall.ESRMNT:       "Srmount error",
	syscall.EREMOTEIO:    "Remote I/O error",
	syscall.ERFKILL:      "Operation not possible due to RF-kill",
	syscall.EDOTDOT:      "RFS specific error",
	syscall.ENAVAIL:      "No XENIX semaphores available",
	syscall.ENOTNAM:      "Not a XENIX named type file",
	syscall.ELIBEXEC:     "Cannot exec a shared library directly",
	syscall.ELIBSCN:      ".lib section in a.out corrupted",
	syscall.EADV:         "Advertise error",
}
