package service

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/sys/fdpass"
	"posthaste/pkg/sys/maillog"
)

// passWait bounds each step of receiving a descriptor (spec §1.10).
const passWait = 100 * time.Second

// maxPassAttrs bounds the attributes that come with one.
const maxPassAttrs = 100

// receive takes a passed connection and its attributes from the carrier,
// which it closes.
func receive(carrier net.Conn, withAttrs bool) (net.Conn, map[string]string, error) {
	defer carrier.Close()
	unixConn, ok := carrier.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.New("cannot receive file descriptor: not a UNIX-domain socket")
	}
	_ = carrier.SetDeadline(time.Now().Add(passWait))
	f, err := fdpass.Recv(unixConn)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, nil, errors.New("timeout receiving file descriptor: Connection timed out")
		}
		return nil, nil, fmt.Errorf("cannot receive file descriptor: %w", maillog.Errno(err))
	}
	defer f.Close()
	var attrs map[string]string
	if withAttrs {
		_ = carrier.SetDeadline(time.Now().Add(passWait))
		if attrs, err = passAttrs(carrier); err != nil {
			return nil, nil, fmt.Errorf("cannot receive connection attributes: %w", err)
		}
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return pipeConn(f, attrs)
	}
	return conn, attrs, nil
}

func passAttrs(carrier net.Conn) (map[string]string, error) {
	list, err := attr.NewReader(carrier, attr.Null, "pass socket").List()
	if err != nil {
		return nil, err
	}
	if len(list) > maxPassAttrs {
		return nil, fmt.Errorf("more than %d attributes", maxPassAttrs)
	}
	attrs := make(map[string]string, len(list))
	for _, a := range list {
		attrs[a.Name] = a.Value
	}
	return attrs, nil
}
