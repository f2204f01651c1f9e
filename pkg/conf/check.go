package conf

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"posthaste/pkg/conf/macro"
)

// check makes the checks that stop every program, in the order of spec
// config.md 1.9.
func (c *Config) check(users bool) error {
	if err := c.compute(); err != nil {
		return err
	}
	steps := []func() error{c.common, c.readOrigin, c.identities, c.relayhost, c.verp}
	if !users {
		steps = slices.Delete(steps, 2, 3)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// compute works out what other values are computed from.
func (c *Config) compute() error {
	for _, step := range []func() error{c.compatibility, c.facility, c.ports, c.protocols, c.hostname, c.interfaces} {
		if err := step(); err != nil {
			return err
		}
	}
	if _, set := c.settings["mynetworks"]; !set {
		list, err := c.myNetworks()
		if err != nil {
			return err
		}
		c.runtime["mynetworks"] = list
	}
	return nil
}

func (c *Config) compatibility() error {
	value, err := c.str(mustKnow("compatibility_level"))
	if err != nil {
		return err
	}
	if c.level, err = macro.ParseLevel(value); err != nil {
		return errors.New(err.Error()) // here it is the fatal message itself
	}
	return nil
}

// Facility reports whether name is a syslog facility.
func Facility(name string) bool {
	return slices.Contains([]string{"auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "security",
		"syslog", "user", "uucp", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}, name)
}

func (c *Config) facility() error {
	value, err := c.str(mustKnow("syslog_facility"))
	if err == nil && !Facility(value) {
		err = c.inFile("parameter syslog_facility: unrecognized value: %s", value)
	}
	return err
}

func (c *Config) inFile(format string, a ...any) error {
	return fmt.Errorf("file %s: %s", filepath.Join(c.dir, "main.cf"), fmt.Sprintf(format, a...))
}

// KnownPorts returns what known_tcp_ports says: the port number of a service
// name.
func (c *Config) KnownPorts() map[string]string {
	ports, _ := parsePorts(c.String("known_tcp_ports"))
	return ports
}

func (c *Config) ports() error {
	value, err := c.str(mustKnow("known_tcp_ports"))
	if err != nil {
		return err
	}
	_, warnings := parsePorts(value)
	for _, w := range warnings {
		c.warn("%s", w)
	}
	return nil
}

// parsePorts parses "name[=name...]=port, ..." (spec config.md 1.10).
func parsePorts(list string) (ports map[string]string, warnings []string) {
	ports = map[string]string{}
	for item := range strings.SplitSeq(list, ",") {
		if Trim(item) == "" {
			continue
		}
		words := strings.Split(item, "=")
		for i := range words {
			words[i] = Trim(words[i])
		}
		names, port := words[:len(words)-1], words[len(words)-1]
		hasBlank := func(s string) bool { return strings.ContainsAny(s, " \t\r\n\v\f") }
		var reason string
		switch {
		case len(names) == 0:
			warnings = append(warnings, fmt.Sprintf(`known_tcp_ports: in "%s" is not in "name = value" form`, item))
			continue
		case port == "":
			reason = `missing port value after "="`
		case hasBlank(port):
			reason = "whitespace in port number"
		case slices.Contains(names, ""):
			reason = `missing service name before "="`
		case slices.ContainsFunc(names, hasBlank):
			reason = "whitespace in service name"
		case !isNumber(port):
			reason = "non-numerical service port"
		case slices.ContainsFunc(names, isNumber):
			reason = "numerical service name"
		case slices.ContainsFunc(names, func(n string) bool { return ports[n] != "" }):
			reason = "duplicate service name"
		}
		if reason != "" {
			warnings = append(warnings, fmt.Sprintf(`known_tcp_ports: in "%s": %s`, item, reason))
			continue
		}
		for _, name := range names {
			ports[name] = port
		}
	}
	return ports, warnings
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// hostname computes myhostname and mydomain where they are not set and checks
// both.
func (c *Config) hostname() error {
	if _, set := c.settings["myhostname"]; !set {
		if err := c.systemName(); err != nil {
			return err
		}
	}
	host, err := c.domainName("myhostname")
	if err != nil {
		return err
	}
	if _, set := c.settings["mydomain"]; !set {
		c.runtime["mydomain"] = DomainOf(host)
	}
	_, err = c.domainName("mydomain")
	return err
}

// systemName computes the default of myhostname.
func (c *Config) systemName() error {
	name, err := SystemHostname(c.settings["mydomain"], c.Expand)
	if err != nil {
		c.warn("%s", err)
		return errors.New("unable to use my own hostname")
	}
	c.runtime["myhostname"] = name
	return nil
}

func (c *Config) domainName(parameter string) (string, error) {
	name, err := c.str(mustKnow(parameter))
	if err != nil {
		return "", err
	}
	if err := CheckHostname(name); err != nil {
		c.warn("%s", err)
		return "", c.inFile("parameter %s: bad parameter value: %s", parameter, name)
	}
	return name, nil
}

// localDomain is the domain of a host that has none.
const localDomain = "localdomain"

// SystemHostname returns the default of myhostname: the kernel's host name; if
// it has no dot, a dot and the expanded mydomain setting, or "localdomain", are
// appended. The error is a warning's text.
func SystemHostname(mydomain string, expand func(string) (string, error)) (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	if err := CheckHostname(name); err != nil {
		return "", err
	}
	if strings.Contains(name, ".") {
		return name, nil
	}
	domain, err := expand(mydomain)
	if err != nil {
		return "", err
	}
	if domain == "" {
		domain = localDomain
	}
	return name + "." + domain, nil
}

// DomainOf returns the default of mydomain: what follows the first dot of host.
func DomainOf(host string) string {
	if _, domain, ok := strings.Cut(host, "."); ok {
		return domain
	}
	return localDomain
}

// common reads the parameters that all programs read, strings first, so that a
// bad one stops each of them.
func (c *Config) common() error {
	for _, kinds := range [][]Kind{{KindString, KindRaw}, {KindInt}, {KindLong}, {KindBool}, {KindTime}} {
		for _, p := range Parameters() {
			if p.ReadBy != "all" || !slices.Contains(kinds, p.Kind) {
				continue
			}
			if err := c.valid(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Config) valid(p Parameter) (err error) {
	switch p.Kind {
	case KindString, KindRaw:
		_, err = c.str(p)
	case KindInt, KindLong:
		_, err = c.integer(p)
	case KindBool:
		_, err = c.boolean(p)
	case KindTime:
		_, err = c.duration(p)
	}
	return err
}

// readOrigin takes myorigin from a file where its value is a path name
// (Debian; spec config.md 1.11) and checks that it is one name.
func (c *Config) readOrigin() error {
	value, err := c.str(mustKnow("myorigin"))
	if err != nil {
		return err
	}
	if strings.HasPrefix(value, "/") {
		if value, err = firstLine(value); err != nil {
			return err
		}
		c.origin = value
	}
	if strings.IndexFunc(value, func(r rune) bool { return r < 0x80 && isSeparator(byte(r)) }) >= 0 {
		return fmt.Errorf("myorigin parameter setting must not contain multiple values: %s", value)
	}
	return nil
}

// firstLine reads the first line of a file that nobody but its owner, or root,
// can have put there.
func firstLine(path string) (string, error) {
	f, err := openSafely(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	scanner.Scan()
	if err := scanner.Err(); err != nil {
		return "", fmt.Errorf("%s: read error: %s", path, Reason(err))
	}
	if line := Trim(scanner.Text()); line != "" {
		return line, nil
	}
	return "", fmt.Errorf("myorigin file %s is empty", path)
}

func openSafely(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot open file: %s", path, Reason(err))
	}
	if reason := suspicious(f, path); reason != "" {
		f.Close()
		return nil, fmt.Errorf("%s: %s", path, reason)
	}
	return f, nil
}

// suspicious says why an open file should not be trusted to be what its path
// promised.
func suspicious(f *os.File, path string) string {
	var st, link, parent unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "cannot open file: " + Reason(err)
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return "file is a directory"
	case st.Nlink != 1:
		return fmt.Sprintf("file has %d hard links", st.Nlink)
	}
	if err := unix.Lstat(path, &link); err != nil {
		return "file status changed unexpectedly: " + Reason(err)
	}
	if link.Mode&unix.S_IFMT != unix.S_IFLNK {
		if link.Dev != st.Dev || link.Ino != st.Ino {
			return "file status changed unexpectedly"
		}
		return ""
	}
	if link.Uid != 0 {
		return "file is a symbolic link"
	}
	if err := unix.Stat(filepath.Dir(path), &parent); err != nil || parent.Uid != 0 || parent.Mode&0o022 != 0 {
		return "file is a symbolic link"
	}
	return ""
}

func (c *Config) relayhost() error {
	host, err := c.str(mustKnow("myhostname"))
	if err != nil {
		return err
	}
	relay, err := c.str(mustKnow("relayhost"))
	if err == nil && strings.EqualFold(host, relay) {
		return fmt.Errorf("myhostname and relayhost parameter settings must not be identical: %s", host)
	}
	return err
}

func (c *Config) verp() error {
	delimiters, err := c.str(mustKnow("default_verp_delimiters"))
	if err != nil {
		return err
	}
	filter, err := c.str(mustKnow("verp_delimiter_filter"))
	if err != nil {
		return err
	}
	for i, word := range []string{"first", "second"} {
		if len(delimiters) <= i || strings.IndexByte(filter, delimiters[i]) < 0 {
			return c.inFile("parameters default_verp_delimiters and verp_delimiter_filter: bad %s VERP delimiter character", word)
		}
	}
	return nil
}

// identity is one of the three accounts, as the checks compare them.
type identity struct {
	parameter, kind, name string
	uid, gid              string
}

// identities checks default_privs, mail_owner and setgid_group. A process of
// an ordinary user that is itself mail_owner runs a mail system of its own, in
// which all three are the same: nothing to check there.
func (c *Config) identities() error {
	owner, err := c.str(mustKnow("mail_owner"))
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		if u, err := user.Lookup(owner); err == nil && u.Uid == strconv.Itoa(os.Geteuid()) {
			return nil
		}
	}
	privs, err := c.account("default_privs")
	if err != nil {
		return err
	}
	mail, err := c.account("mail_owner")
	if err != nil {
		return err
	}
	if u, err := user.LookupId(mail.uid); err == nil && u.Username != mail.name {
		return c.inFile("parameter mail_owner: user %s has same user ID as %s", mail.name, u.Username)
	}
	group, err := c.group("setgid_group")
	if err != nil {
		return err
	}
	if privs.name == mail.name {
		return c.inFile("parameters default_privs and mail_owner specify the same user %s", mail.name)
	}
	if privs.uid == mail.uid {
		return c.inFile("parameters default_privs and mail_owner: users %s and %s have the same user ID: %s", privs.name, mail.name, mail.uid)
	}
	for _, pair := range [][2]identity{{privs, mail}, {privs, group}, {mail, group}} {
		a, b := pair[0], pair[1]
		if a.gid != b.gid {
			continue
		}
		who := fmt.Sprintf("user %s and group %s", a.name, b.name)
		if b.kind == "user" {
			who = fmt.Sprintf("users %s and %s", a.name, b.name)
		}
		return c.inFile("parameters %s and %s: %s have the same group ID: %s", a.parameter, b.parameter, who, a.gid)
	}
	return nil
}

func (c *Config) account(parameter string) (identity, error) {
	name, err := c.str(mustKnow(parameter))
	if err != nil {
		return identity{}, err
	}
	u, err := user.Lookup(name)
	switch {
	case err != nil:
		return identity{}, c.inFile("parameter %s: unknown user name value: %s", parameter, name)
	case u.Uid == "0":
		return identity{}, c.inFile("parameter %s: user %s has privileged user ID", parameter, name)
	case u.Gid == "0":
		return identity{}, c.inFile("parameter %s: user %s has privileged group ID", parameter, name)
	}
	return identity{parameter, "user", name, u.Uid, u.Gid}, nil
}

func (c *Config) group(parameter string) (identity, error) {
	name, err := c.str(mustKnow(parameter))
	if err != nil {
		return identity{}, err
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return identity{}, c.inFile("parameter %s: unknown group name: %s", parameter, name)
	}
	if g.Gid == "0" {
		return identity{}, c.inFile("parameter %s: group %s has privileged group ID", parameter, name)
	}
	if other, err := user.LookupGroupId(g.Gid); err == nil && other.Name != name {
		return identity{}, c.inFile("parameter %s: group %s has same group ID as %s", parameter, name, other.Name)
	}
	return identity{parameter, "group", name, "", g.Gid}, nil
}

// ComputedDefault returns the default of myhostname, mydomain or mynetworks
// for the given main.cf settings, without the checks of Load. Postconf shows
// it. The error is a fatal message.
func ComputedDefault(name string, settings Settings, warn func(format string, a ...any)) (string, error) {
	o := Options{Warn: warn}
	o.defaults()
	c := newConfig("", maps.Clone(settings), o)
	steps := []func() error{c.systemName}
	if name == "mynetworks" {
		steps = append(steps, c.protocols, c.interfaces)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return "", err
		}
	}
	switch name {
	case "mynetworks":
		return c.myNetworks()
	case "mydomain":
		host, err := c.str(mustKnow("myhostname"))
		return DomainOf(host), err
	}
	return c.runtime[name], nil
}
