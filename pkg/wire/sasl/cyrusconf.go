package sasl

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// DefaultConfigPath is where Debian's smtpd looks for the file of the Cyrus
// library.
const DefaultConfigPath = "/etc/postfix/sasl:/usr/lib/sasl2"

// ErrConfig is returned for a file that is not "name: value" lines.
var ErrConfig = errors.New("error when parsing configuration file")

// maxConfig bounds the size of a configuration file, in bytes.
const maxConfig = 1 << 20

// ParseConfig reads a configuration file of the Cyrus library: lines "name:
// value", empty ones and comments. Names are folded to lower case; the first
// setting of a name counts.
func ParseConfig(r io.Reader) (map[string]string, error) {
	settings := make(map[string]string)
	in := bufio.NewScanner(io.LimitReader(r, maxConfig))
	in.Buffer(nil, maxConfig+1)
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isName(name) {
			return nil, ErrConfig
		}
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		if value == "" {
			return nil, ErrConfig
		}
		if _, seen := settings[name]; !seen {
			settings[name] = value
		}
	}
	return settings, in.Err()
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		ch := s[i] | 0x20
		if (ch < 'a' || ch > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

// LoadConfig reads NAME.conf from the first directory of a search path, whose
// parts are separated by ":", that has it. No file is an empty configuration.
func LoadConfig(path, name string) (map[string]string, error) {
	for _, dir := range strings.Split(path, ":") {
		f, err := os.Open(filepath.Join(dir, name+".conf"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, ErrConfig
		}
		defer f.Close()
		return ParseConfig(f)
	}
	return nil, nil
}
