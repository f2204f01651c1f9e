package sasl

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/table/bdb"
)

// Files of the Cyrus library, unless its configuration names others. smtpd
// opens them from its chroot.
const (
	defaultDB     = "/etc/sasldb2"
	defaultDaemon = "/var/run/saslauthd/mux"
)

// lookupDB reads a password from sasldb: a Berkeley DB hash whose keys are
// "user NUL realm NUL userPassword". A file that is not there has no users.
func (c *Cyrus) lookupDB(user, realm string) (string, bool, error) {
	path := c.Config["sasldb_path"]
	if path == "" {
		path = defaultDB
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("unable to open Berkeley db %s: %w", path, maillog.Errno(err))
	}
	defer f.Close()
	db, err := bdb.Open(f)
	if err != nil {
		return "", false, fmt.Errorf("unable to open Berkeley db %s: %w", path, err)
	}
	value, found, err := db.Get([]byte(user + "\x00" + realm + "\x00userPassword"))
	if err != nil {
		return "", false, fmt.Errorf("error fetching from sasldb: %w", err)
	}
	return string(value), found, nil
}

// maxReply is the longest reply of saslauthd, in bytes.
const maxReply = 1024

// askDaemon has saslauthd judge a password (ipc.md §3.5).
func (d *dialogue) askDaemon(ctx context.Context, name, password string) *failure {
	path := d.Config["saslauthd_path"]
	if path == "" {
		path = defaultDaemon
	}
	user, realm := splitRealm(name, d.Realm)
	var request []byte
	for _, s := range []string{user, password, d.Service, realm} {
		if len(s) > 0xffff {
			return fail(resultFail, "saslauthd request too large")
		}
		request = binary.BigEndian.AppendUint16(request, uint16(len(s)))
		request = append(request, s...)
	}
	dialer := net.Dialer{Timeout: d.Timeout}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return fail(resultFail, "cannot connect to saslauthd server: "+maillog.Errno(err).Error())
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(d.Timeout))
	if _, err := conn.Write(request); err != nil {
		return fail(resultFail, "write failed")
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return fail(resultFail, "size read failed")
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n < 2 || n > maxReply {
		return fail(resultFail, "bad response from saslauthd")
	}
	reply := make([]byte, n)
	if _, err := io.ReadFull(conn, reply); err != nil {
		return fail(resultFail, "read failed")
	}
	if string(reply[:2]) != "OK" {
		return fail(resultBadAuth, "")
	}
	return nil
}

// equal compares secrets without telling by time where they differ.
func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// random is n bytes that nobody can guess.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
