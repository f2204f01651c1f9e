package postfix

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"posthaste/pkg/command"
)

// logrotate moves maillog_file aside and makes postlogd open a new one (spec
// §4.5).
func (t *tool) logrotate(args []string) int {
	if len(args) > 0 {
		t.script.Fatal("usage postfix logrotate (no arguments)")
	}
	values := map[string]string{}
	for _, name := range []string{"maillog_file", "maillog_file_compressor", "maillog_file_rotate_suffix"} {
		if values[name] = t.config.String(name); values[name] == "" {
			t.script.Fatal("empty '%s' parameter value - logfile rotation failed", name)
		}
	}
	file := values["maillog_file"]
	if strings.HasPrefix(file, "/dev/") {
		t.script.Fatal("not rotating '%s'", file)
	}
	if err := t.rotate(file, values["maillog_file_rotate_suffix"], values["maillog_file_compressor"]); err != nil {
		t.script.Fatal("logfile '%s' rotation failed: %v", file, err)
	}
	return 0
}

func (t *tool) rotate(file, suffix, compressor string) error {
	stamp, err := strftime(suffix, time.Now())
	if err != nil {
		return err
	}
	old := file + "." + stamp
	if _, err := os.Lstat(old); err == nil {
		return fmt.Errorf("%s exists", old)
	}
	if err := os.Rename(file, old); err != nil {
		return err
	}
	if t.running() {
		if err := syscall.Kill(t.pid(), syscall.SIGHUP); err != nil {
			return err
		}
	}
	t.sleep(time.Second)
	words := append(strings.Fields(compressor), old)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = t.environ
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %v: %s", compressor, err, output)
	}
	return nil
}

// strftime formats a time as date(1) does, with the conversions that make
// sense in a file name.
func strftime(format string, when time.Time) (string, error) {
	s, err := command.Strftime(format, when, func(conversion byte) (string, error) {
		if conversion == 'N' {
			return fmt.Sprintf("%09d", when.Nanosecond()), nil
		}
		return "", fmt.Errorf("maillog_file_rotate_suffix: unknown conversion %%%c", conversion)
	})
	if err == nil && strings.Contains(s, "/") {
		return "", fmt.Errorf("maillog_file_rotate_suffix: '/' in file name")
	}
	return s, err
}
