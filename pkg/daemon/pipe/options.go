package pipe

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"posthaste/pkg/sys/cred"
)

// options are the attributes of the service's entry in master.cf (delivery.md
// §5.1).
type options struct {
	user       cred.Identity
	argv       []string
	flags      flags
	dir        string // working directory; "" is the queue directory
	chroot     string // "" is none
	eol        string
	nullSender string // stands for the empty sender
	size       int64  // of a message, bytes; 0 is no limit
}

// flags are the letters of flags=.
type flags string

const knownFlags = "BDFORX.>hqu"

func (f flags) has(letter byte) bool { return strings.IndexByte(string(f), letter) >= 0 }

// accounts is where users and groups are found.
type accounts struct {
	user  func(name string) (cred.Identity, error)
	group func(name string) (int, error)
}

// parseOptions reads the words after the daemon's own options. The errors are
// what Postfix ends with.
func parseOptions(words []string, a accounts) (*options, error) {
	o := &options{eol: "\n", nullSender: "MAILER-DAEMON"}
	for i, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if ok && strings.EqualFold(name, "argv") {
			o.argv = append([]string{value}, words[i+1:]...)
			break
		}
		set := attributes[strings.ToLower(name)]
		if !ok || set == nil {
			return nil, fmt.Errorf("unknown attribute name: %s", word)
		}
		if err := set(o, value, a); err != nil {
			return nil, err
		}
	}
	if o.user.Name == "" {
		return nil, errors.New("missing user= command-line attribute")
	}
	if len(o.argv) == 0 {
		return nil, errors.New("missing argv= command-line attribute")
	}
	return o, nil
}

// attributes are the words before argv=.
var attributes = map[string]func(o *options, value string, a accounts) error{
	"user":        (*options).setUser,
	"flags":       (*options).setFlags,
	"size":        (*options).setSize,
	"directory":   func(o *options, v string, _ accounts) error { o.dir = v; return nil },
	"chroot":      func(o *options, v string, _ accounts) error { o.chroot = v; return nil },
	"eol":         func(o *options, v string, _ accounts) error { o.eol = unescape(v); return nil },
	"null_sender": func(o *options, v string, _ accounts) error { o.nullSender = v; return nil },
}

func (o *options) setUser(value string, a accounts) error {
	name, group, _ := strings.Cut(value, ":")
	id, err := a.user(name)
	if err != nil {
		return fmt.Errorf("get_service_attr: unknown username: %s", name)
	}
	if group != "" {
		if id.GID, err = a.group(group); err != nil {
			return fmt.Errorf("get_service_attr: unknown group: %s", group)
		}
	}
	id.Name = name
	o.user = id
	return nil
}

func (o *options) setFlags(value string, _ accounts) error {
	for _, c := range []byte(value) {
		if strings.IndexByte(knownFlags, c) < 0 {
			return fmt.Errorf("unknown flag: %c (ignored)", c)
		}
	}
	o.flags += flags(value)
	return nil
}

func (o *options) setSize(value string, _ accounts) error {
	if value == "" {
		value = "0"
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || strings.Trim(value, "0123456789") != "" {
		return fmt.Errorf("get_service_attr: bad size= value: %s", value)
	}
	o.size = n
	return nil
}

// checkRights refuses users as whom no command must run: root and the mail
// system's own.
func (o *options) checkRights(owner cred.Identity, setgidName string, setgid int) error {
	const who = "user= command-line attribute specifies "
	switch {
	case o.user.UID == 0:
		return errors.New(who + "root privileges")
	case o.user.UID == owner.UID:
		return fmt.Errorf(who+"mail system owner %s", owner.Name)
	case o.user.GID == 0:
		return errors.New(who + "privileged group id 0")
	case o.user.GID == owner.GID:
		return fmt.Errorf(who+"mail system owner %s group id %d", owner.Name, owner.GID)
	case o.user.GID == setgid:
		return fmt.Errorf(who+"mail system %s group id %d", setgidName, setgid)
	}
	return nil
}

// checkRootless refuses what a mail system without privileges cannot do.
func (o *options) checkRootless(self cred.Identity) error {
	if o.user.UID != self.UID {
		return fmt.Errorf("user= command-line attribute specifies %s, but this mail system runs without privileges as %s", o.user.Name, self.Name)
	}
	if o.chroot != "" {
		return errors.New("chroot= command-line attribute needs a mail system that was started by root")
	}
	return nil
}

var escapes = map[byte]byte{'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

// unescape reads C-style backslash sequences. A backslash before anything else,
// or at the end, stands for nothing.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			break
		}
		c, known := escapes[s[i]]
		switch {
		case known:
			b.WriteByte(c)
		case s[i] >= '0' && s[i] <= '7':
			n := 0
			end := min(i+3, len(s))
			for ; i < end && s[i] >= '0' && s[i] <= '7'; i++ {
				n = n<<3 | int(s[i]-'0')
			}
			i--
			b.WriteByte(byte(n))
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
