package local

import (
	"context"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// sendBiff sends a datagram to localhost's biff port. It returns the text of a
// warning.
func sendBiff(packet string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", "biff")
	if err != nil {
		return "service not found: biff/udp"
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return "socket: " + text(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(packet)); err != nil {
		return "biff_notify: " + text(err)
	}
	return ""
}

func sysStat(info os.FileInfo) (*syscall.Stat_t, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	return st, ok
}
