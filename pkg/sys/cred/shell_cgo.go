//go:build cgo

package cred

/*
#include <sys/types.h>
#include <pwd.h>
#include <stdlib.h>
*/
import "C"

import "unsafe"

// shell asks the C library for the login shell, which package os/user leaves
// out.
func shell(uid int) string {
	var entry C.struct_passwd
	var found *C.struct_passwd
	const size = 16384
	buffer := (*C.char)(C.malloc(size))
	defer C.free(unsafe.Pointer(buffer))
	if C.getpwuid_r(C.uid_t(uid), &entry, buffer, size, &found) != 0 || found == nil {
		return ""
	}
	return C.GoString(entry.pw_shell)
}
