//go:build cgo

package cred

/*
#include <sys/types.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
*/
import "C"

import (
	"strconv"
	"syscall"
	"unsafe"
)

// Sizes of the buffer for the texts of an account.
const (
	firstBuffer = 4096
	lastBuffer  = 1 << 20
)

// Package os/user leaves out the login shell and half of the GECOS field; to
// ask for them would be a second look-up for each.

// byName asks the C library for an account.
func byName(name string) (account, error) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	return ask(name, func(entry *C.struct_passwd, buffer *C.char, size C.size_t, found **C.struct_passwd) C.int {
		return C.getpwnam_r(text, entry, buffer, size, found)
	})
}

// byID asks for one by its number.
func byID(uid int) (account, error) {
	return ask(strconv.Itoa(uid), func(entry *C.struct_passwd, buffer *C.char, size C.size_t, found **C.struct_passwd) C.int {
		return C.getpwuid_r(C.uid_t(uid), entry, buffer, size, found)
	})
}

func ask(key string, get func(*C.struct_passwd, *C.char, C.size_t, **C.struct_passwd) C.int) (account, error) {
	for size := firstBuffer; ; size *= 4 {
		var entry C.struct_passwd
		var found *C.struct_passwd
		buffer := (*C.char)(C.malloc(C.size_t(size)))
		result := get(&entry, buffer, C.size_t(size), &found)
		if result == 0 && found != nil {
			a := account{name: C.GoString(entry.pw_name), gecos: C.GoString(entry.pw_gecos), home: C.GoString(entry.pw_dir),
				shell: C.GoString(entry.pw_shell), uid: int(entry.pw_uid), gid: int(entry.pw_gid)}
			C.free(unsafe.Pointer(buffer))
			return a, nil
		}
		C.free(unsafe.Pointer(buffer))
		switch {
		case result == C.ERANGE && size < lastBuffer:
		case result == 0 || result == C.ENOENT:
			return account{}, unknown(key)
		default:
			return account{}, syscall.Errno(result)
		}
	}
}
