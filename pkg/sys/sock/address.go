package sock

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// address is room for any socket address, as the kernel sees it.
type address struct {
	raw unix.RawSockaddrAny
}

// of asks for one of a socket's addresses.
func (a *address) of(trap uintptr, fd int) syscall.Errno {
	size := uint32(unsafe.Sizeof(a.raw))
	_, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(unsafe.Pointer(&size)))
	return errno
}

// accept accepts a client and notes its address.
func (a *address) accept(fd int) (int, syscall.Errno) {
	size := uint32(unsafe.Sizeof(a.raw))
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), errno
}

// unix makes it that of a path and returns its size, 0 if it is too long.
func (a *address) unix(path string) uintptr {
	sa := (*unix.RawSockaddrUnix)(unsafe.Pointer(&a.raw))
	if len(path) == 0 || len(path) >= len(sa.Path) {
		return 0
	}
	sa.Family = unix.AF_UNIX
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&sa.Path[0])), len(sa.Path)), path)
	return unsafe.Offsetof(sa.Path) + uintptr(len(path)) + 1
}

// tcp is nil for what is no internet address.
func (a *address) tcp() *net.TCPAddr {
	switch a.raw.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), networkOrder(&sa.Port)))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&a.raw))
		addr := netip.AddrFrom16(sa.Addr)
		if sa.Scope_id != 0 {
			addr = addr.WithZone(zone(int(sa.Scope_id)))
		}
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, networkOrder(&sa.Port)))
	}
	return nil
}

func networkOrder(port *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(port))[:])
}

func zone(index int) string {
	if i, err := net.InterfaceByIndex(index); err == nil {
		return i.Name
	}
	return strconv.Itoa(index)
}

// setOption switches a socket option on.
func setOption(fd, level, option int) {
	one := int32(1)
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one), 0)
}
