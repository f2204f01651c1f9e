package service

import (
	"fmt"
	"strconv"
	"strings"
)

// common are the option letters of every daemon (spec §1.9).
const common = "cdDi:lm:n:o:r:s:St:uvVz"

// options is what master (or a person) says on the command line.
type options struct {
	chroot, noDetach, debug, one, zero  bool
	standAlone, unprivileged, logStderr bool
	verbose                             int
	name, transport, maxIdle, maxUse    string
	overrides                           []string
	sockets                             int
	retire                              int // seconds; -1 when not given
	own                                 map[byte]string
	args                                []string
}

// parseOptions reads argv; the error text is meant to follow "fatal: ".
func parseOptions(s *Service, argv []string) (options, error) {
	o := options{sockets: 1, retire: -1, own: map[byte]string{}}
	letters := common + s.Options
	args := argv[1:]
	for len(args) > 0 {
		word := args[0]
		if len(word) < 2 || word[0] != '-' {
			break
		}
		args = args[1:]
		if word == "--" {
			break
		}
		for i := 1; i < len(word); i++ {
			c := word[i]
			at := strings.IndexByte(letters, c)
			if c == ':' || at < 0 || c == 'S' && s.Kind == Dgram {
				return o, fmt.Errorf("invalid option: %c", c)
			}
			value, has := "", at+1 < len(letters) && letters[at+1] == ':'
			if has {
				value = word[i+1:]
				if value == "" {
					if len(args) == 0 {
						return o, fmt.Errorf("invalid option: %c", c)
					}
					value, args = args[0], args[1:]
				}
				i = len(word)
			}
			if err := o.set(c, value, at >= len(common)); err != nil {
				return o, err
			}
		}
	}
	o.args = args
	return o, nil
}

func (o *options) set(c byte, value string, own bool) error {
	if own {
		o.own[c] = value
		return nil
	}
	switch c {
	case 'c':
		o.chroot = true
	case 'd':
		o.noDetach = true
	case 'D':
		o.debug = true
	case 'i':
		o.maxIdle = value
	case 'l':
		o.one = true
	case 'm':
		o.maxUse = value
	case 'n':
		o.name = value
	case 'o':
		return o.override(value)
	case 'r':
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			return fmt.Errorf("invalid retirement time: %s", value)
		}
		o.retire = n
	case 's':
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			return fmt.Errorf("invalid socket_count: %s", value)
		}
		o.sockets = n
	case 'S':
		o.standAlone = true
	case 't':
		o.transport = value
	case 'u':
		o.unprivileged = true
	case 'v':
		o.verbose++
	case 'V':
		o.logStderr = true
	case 'z':
		o.zero = true
	}
	return nil
}

// override checks "name = value" and keeps it without the blanks around.
func (o *options) override(text string) error {
	name, value, ok := strings.Cut(text, "=")
	name = strings.TrimSpace(name)
	switch {
	case name == "":
		return fmt.Errorf("invalid \"-o %s\" option value: missing attribute name", text)
	case !ok:
		return fmt.Errorf("invalid \"-o %s\" option value: missing '=' after attribute name", text)
	}
	o.overrides = append(o.overrides, name+"="+strings.TrimSpace(value))
	return nil
}
