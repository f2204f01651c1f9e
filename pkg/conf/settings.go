package conf

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Settings is what a file of "name = value" lines says: the last value of each
// name, unexpanded.
type Settings map[string]string

// Names returns the names sorted by byte value.
func (s Settings) Names() []string { return slices.Sorted(maps.Keys(s)) }

// settle is how long ago a file must have been changed for its content to be
// taken at once: a change may still be going on (spec config.md 1.3, the
// hot-file rule, with time stamps finer than a second).
const settle = 100 * time.Millisecond

// maxPasses bounds how often a file that keeps changing is read again.
const maxPasses = 50

// ReadSettings reads a main.cf style file. An error is the text of the fatal
// message. Warnings ("overriding earlier entry", a continuation of nothing)
// go to warn, which may be nil.
func ReadSettings(path string, warn func(format string, a ...any)) (Settings, error) {
	return ReadSettingsOver(nil, path, warn)
}

// ReadSettingsOver is ReadSettings for a file that overrides the settings of
// base, which stays as it is.
func ReadSettingsOver(base Settings, path string, warn func(format string, a ...any)) (Settings, error) {
	for pass := 1; ; pass++ {
		var warnings []string
		start := time.Now()
		settings, changed, err := readOnce(base, path, func(format string, a ...any) {
			warnings = append(warnings, fmt.Sprintf(format, a...))
		})
		hot := changed.After(start.Add(-settle)) && !changed.After(time.Now())
		if hot && pass < maxPasses {
			time.Sleep(settle)
			continue
		}
		if warn != nil {
			for _, w := range warnings {
				warn("%s", w)
			}
		}
		return settings, err
	}
}

func readOnce(base Settings, path string, warn func(format string, a ...any)) (s Settings, changed time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, changed, fmt.Errorf("open %s: %s", path, Reason(err))
	}
	defer f.Close()
	s = maps.Clone(base)
	if s == nil {
		s = Settings{}
	}
	if err = s.parse(f, path, warn); err != nil {
		return nil, changed, err
	}
	if info, err := f.Stat(); err == nil {
		changed = info.ModTime()
	}
	return s, changed, nil
}

// ParseSettings reads "name = value" lines from r; name is the file name in
// errors and warnings.
func ParseSettings(r io.Reader, name string, warn func(format string, a ...any)) (Settings, error) {
	settings := Settings{}
	if err := settings.parse(r, name, warn); err != nil {
		return nil, err
	}
	return settings, nil
}

// parse adds what r says to the settings.
func (s Settings) parse(r io.Reader, name string, warn func(format string, a ...any)) error {
	if warn == nil {
		warn = func(string, ...any) {}
	}
	lines := NewLineReader(r, name, warn)
	for {
		line, err := lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %s", name, Reason(err))
		}
		text, _, _ := strings.Cut(line.Text, "\x00") // a NUL ends the line for 3.7.11, too
		key, value, err := SplitNameValue(text)
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", name, line.First, err)
		}
		if old, ok := s[key]; ok && old != value {
			warn("%s, line %d: overriding earlier entry: %s=%s", name, line.First, key, old)
		}
		s[key] = value
	}
}

// Reason returns the text that %m has in Postfix's messages: the C library's
// words for a system error, or the error's own text.
func Reason(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	text := errno.Error()
	if text != "" && text[0] >= 'a' && text[0] <= 'z' {
		text = string(text[0]-'a'+'A') + text[1:]
	}
	return text
}

// DefaultDir is the built-in configuration directory.
const DefaultDir = "/etc/postfix"

// Directory returns dir, $MAIL_CONFIG or DefaultDir, the first that is not
// empty, without checking it.
func Directory(dir string) string {
	if dir == "" {
		dir = os.Getenv("MAIL_CONFIG")
	}
	if dir == "" {
		dir = DefaultDir
	}
	return dir
}

// Unsafe reports whether the process runs with more rights than its user has,
// as a set-gid program does.
func Unsafe() bool {
	if os.Getuid() == 0 && os.Geteuid() == 0 {
		return false
	}
	return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid()
}

// authorized reports whether a privileged program may use the configuration
// directory dir: the main.cf of the built-in directory must list it
// (spec config.md 1.1).
func authorized(dir, mainDir string, warn func(format string, a ...any)) (bool, error) {
	path := filepath.Join(mainDir, "main.cf")
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("open file %s: %s", path, Reason(err))
	}
	defer f.Close()
	lines := NewLineReader(f, path, warn)
	for {
		line, err := lines.Next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read %s: %s", path, Reason(err))
		}
		name, value, err := SplitNameValue(line.Text)
		if err != nil || name != "alternate_config_directories" && name != "multi_instance_directories" {
			continue
		}
		if slices.Contains(Fields(value), dir) {
			return true, nil
		}
	}
}
