package maillog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const devLog = "/dev/log"

// facilities are the names syslog_facility may have, and their codes.
var facilities = map[string]int{
	"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7,
	"uucp": 8, "cron": 9, "authpriv": 10, "ftp": 11,
	"local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}

// ValidFacility tells whether syslog_facility may have this value.
func ValidFacility(name string) bool {
	_, ok := facilities[name]
	return ok
}

// syslog sends datagrams to /dev/log in the form of the C library. Writes
// block, as those of the C library do: a record is not lost because syslogd
// is busy.
type syslog struct {
	facility int
	tag      string
	path     string
	fd       int
	stream   bool
}

func newSyslog(cfg Config) *syslog {
	facility, ok := facilities[cfg.Facility]
	if !ok {
		facility = facilities["mail"]
	}
	o := &syslog{facility: facility, tag: tagOf(cfg), path: devLog, fd: -1}
	_ = o.connect()
	return o
}

func (o *syslog) connect() error {
	fd, err := dialUnix(o.path, unix.SOCK_DGRAM)
	o.stream = false
	if errors.Is(err, unix.EPROTOTYPE) {
		fd, err = dialUnix(o.path, unix.SOCK_STREAM)
		o.stream = err == nil
	}
	o.fd = fd
	return err
}

func (o *syslog) write(level Level, text string, when time.Time) error {
	record := fmt.Sprintf("<%d>%s %s: %s", o.facility<<3|levels[level].priority,
		when.Format("Jan _2 15:04:05"), o.tag, text)
	for try := 0; ; try++ {
		if o.fd < 0 {
			if err := o.connect(); err != nil {
				return err
			}
		}
		data := []byte(record)
		if o.stream {
			data = append(data, 0)
		}
		err := send(o.fd, data)
		if err == nil || try > 0 {
			return err
		}
		o.close() // syslogd was restarted: once more on a new socket
	}
}

func (o *syslog) close() {
	if o.fd >= 0 {
		unix.Close(o.fd)
		o.fd = -1
	}
}

// postlog sends the complete line to the socket of postlogd.
type postlog struct {
	cfg  Config
	tag  string
	host string
	fd   int
}

func newPostlog(cfg Config) *postlog {
	o := &postlog{cfg: cfg, tag: tagOf(cfg), host: firstLabel(cfg.Hostname), fd: -1}
	o.fd, _ = dialUnix(cfg.PostlogSocket, unix.SOCK_DGRAM)
	return o
}

// firstLabel is the host name in records.
func firstLabel(hostname string) string {
	host, _, _ := strings.Cut(hostname, ".")
	if host == "" {
		return "amnesiac"
	}
	return host
}

// record is the complete line, as it stands in the log file.
func (o *postlog) record(text string, when time.Time) string {
	return when.Format("Jan 02 15:04:05") + " " + o.host + " " + o.tag + ": " + text
}

func (o *postlog) write(level Level, text string, when time.Time) error {
	record := o.record(text, when)
	if o.fd < 0 {
		fd, err := dialUnix(o.cfg.PostlogSocket, unix.SOCK_DGRAM)
		if err != nil {
			return o.fallback(record)
		}
		o.fd = fd
	}
	err := send(o.fd, []byte(record))
	if err != nil && !errors.Is(err, unix.EMSGSIZE) {
		// The socket was replaced (a new master): once more on the new one.
		o.close()
		if o.fd, err = dialUnix(o.cfg.PostlogSocket, unix.SOCK_DGRAM); err != nil {
			return o.fallback(record)
		}
		err = send(o.fd, []byte(record))
	}
	return err
}

func (o *postlog) fallback(record string) error {
	if o.cfg.FallbackFile == "" {
		return errors.New("no place for the record")
	}
	f, err := OpenFile(o.cfg.FallbackFile)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(record + "\n")
	return err
}

func (o *postlog) close() {
	if o.fd >= 0 {
		unix.Close(o.fd)
		o.fd = -1
	}
}

// OpenFile opens a log file for appending and creates it if necessary, mode
// 0644 less the umask. A regular file must not be a symbolic link and have
// one name only; the error is the reason alone (spec master.md §3.2, §8.2).
func OpenFile(path string) (*os.File, error) {
	if strings.HasPrefix(path, "/dev/") { // /dev/stdout
		return os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	}
	before, err := os.Lstat(path)
	flags := os.O_WRONLY | os.O_APPEND | unix.O_NOFOLLOW
	switch {
	case errors.Is(err, os.ErrNotExist):
		f, err := os.OpenFile(path, flags|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("cannot create file exclusively: %w", reason(err))
		}
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("cannot open file: %w", reason(err))
	case before.IsDir():
		return nil, errors.New("file is a directory")
	case before.Mode()&os.ModeSymlink != 0:
		return nil, errors.New("file is a symbolic link")
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open file: %w", reason(err))
	}
	after, err := f.Stat()
	if err != nil || !os.SameFile(before, after) {
		f.Close()
		return nil, errors.New("file status changed unexpectedly")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err == nil && after.Mode().IsRegular() && st.Nlink != 1 {
		f.Close()
		return nil, fmt.Errorf("file has %d hard links", st.Nlink)
	}
	return f, nil
}

func reason(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return Errno(pe.Err)
	}
	return Errno(err)
}

func tagOf(cfg Config) string { return fmt.Sprintf("%s[%d]", cfg.Tag, os.Getpid()) }

func dialUnix(path string, kind int) (int, error) {
	if len(path) >= len(unix.RawSockaddrUnix{}.Path) {
		return -1, &net.AddrError{Err: "socket name too long", Addr: path}
	}
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func send(fd int, data []byte) error {
	if sendNow(fd, data) {
		return nil
	}
	for {
		err := unix.Sendto(fd, data, unix.MSG_NOSIGNAL, nil)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN { // a non-blocking heir of ours: give up quietly
			return nil
		}
		return err
	}
}

// sendNow sends if that can be done without waiting, which the Go scheduler
// need not hear of (RawSyscall). What went wrong shows at the next attempt.
func sendNow(fd int, data []byte) bool {
	if len(data) == 0 {
		return false
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)),
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	return errno == 0 && int(n) == len(data)
}
