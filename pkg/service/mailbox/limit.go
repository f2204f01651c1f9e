package mailbox

import (
	"fmt"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf"
)

// LimitFiles bounds every file that this process, and the commands it runs, may
// write to the size in a parameter in bytes; 0 is no limit (delivery.md §1.4).
func LimitFiles(c *conf.Config, parameter string) error {
	size, message := c.Int64(parameter), c.Int64("message_size_limit")
	switch {
	case size == 0:
		return nil
	case message == 0:
		return fmt.Errorf("configuration error: %s is limited but message_size_limit is unlimited", parameter)
	case size < message:
		return fmt.Errorf("configuration error: %s is smaller than message_size_limit", parameter)
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &r); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if r.Max != unix.RLIM_INFINITY && uint64(size) > r.Max {
		size = int64(r.Max)
	}
	r.Cur = uint64(size)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &r); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return nil
}
