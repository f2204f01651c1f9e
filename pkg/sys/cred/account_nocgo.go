//go:build !cgo

package cred

import (
	"bufio"
	"errors"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// byName finds an account as package os/user does.
func byName(name string) (account, error) {
	u, err := user.Lookup(name)
	var none user.UnknownUserError
	if errors.As(err, &none) {
		return account{}, unknown(name)
	}
	return complete(u, err)
}

// byID finds one by its number.
func byID(uid int) (account, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	var none user.UnknownUserIdError
	if errors.As(err, &none) {
		return account{}, unknown(strconv.Itoa(uid))
	}
	return complete(u, err)
}

// complete adds what package os/user leaves out, from /etc/passwd.
func complete(u *user.User, err error) (account, error) {
	if err != nil {
		return account{}, err
	}
	a := account{name: u.Username, gecos: u.Name, home: u.HomeDir}
	if a.uid, err = strconv.Atoi(u.Uid); err != nil {
		return account{}, err
	}
	if a.gid, err = strconv.Atoi(u.Gid); err != nil {
		return account{}, err
	}
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return a, nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) == 7 && fields[0] == a.name && fields[2] == u.Uid {
			a.gecos, a.shell = fields[4], fields[6]
			break
		}
	}
	return a, nil
}
