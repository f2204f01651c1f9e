// Package mailbox writes a message into a mailbox-like destination: a mailbox
// file or a maildir, or whatever else takes its content (spec delivery.md §1.4,
// §1.5, §1.6, §1.8, §3.7). Agents local, virtual and pipe share it.
//
// Nothing here changes identity: files are handled with the rights of the
// calling thread (package cred). When Append or Maildirs.Write returns nil, the
// message and its name are on stable storage; when it does not, a mailbox is as
// long as it was.
//
// Errors are ErrCorrupt for a damaged queue file, and otherwise something that
// Failure turns into a delivery status.
package mailbox

import (
	"errors"
	"syscall"

	"posthaste/pkg/message/dsn"
	"posthaste/pkg/sys/maillog"
)

// ErrCorrupt is returned for a queue file whose content does not end as it
// should.
var ErrCorrupt = errors.New("corrupt queue file")

// StatusError is an error that knows its status; Err may be nil.
type StatusError struct {
	Status dsn.Status
	Err    error
}

func (e *StatusError) Error() string { return e.Status.Reason }
func (e *StatusError) Unwrap() error { return e.Err }

// openError is what kept us from a file.
type openError struct {
	text string // with the system error, if that is to be shown
	err  error
}

func (e *openError) Error() string { return e.text }
func (e *openError) Unwrap() error { return e.err }

func failure(what string, err error) error { return &openError{what + ": " + text(err), err} }

// text is an error's without Go's decoration: "Permission denied".
func text(err error) string { return maillog.Errno(err).Error() }

// codes are the statuses of system errors (delivery.md §1.4). Trouble of the
// machine must not make bounces of its users' mail, so there are more of class 4
// than Postfix has.
var codes = []struct {
	errno syscall.Errno
	code  string
}{
	{syscall.EAGAIN, "4.2.0"}, {syscall.ESTALE, "4.2.0"}, {syscall.ENOSPC, "4.3.0"},
	{syscall.EDQUOT, "5.2.2"}, {syscall.EFBIG, "5.2.2"},
	{syscall.EIO, "4.3.0"}, {syscall.EROFS, "4.3.0"}, {syscall.EMFILE, "4.3.0"}, {syscall.ENFILE, "4.3.0"},
	{syscall.ENOMEM, "4.3.0"}, {syscall.ENOBUFS, "4.3.0"}, {syscall.EINTR, "4.3.0"},
}

func fileCode(err error, other string) string {
	for _, row := range codes {
		if errors.Is(err, row.errno) {
			return row.code
		}
	}
	return other
}

func copyFailed(what, code string, err error) error {
	return &StatusError{dsn.Status{Code: code, Reason: "error " + what + " message: " + text(err),
		DiagType: "x-unix", DiagText: "input/output error"}, err}
}

// WriteFailed is the error for a message that could not be written.
func WriteFailed(err error) error { return copyFailed("writing", fileCode(err, "5.3.0"), err) }

// Failure is the status for what kept us from writing to a file: other is its
// code when neither the error nor its cause has one.
func Failure(err error, other string) dsn.Status {
	var known *StatusError
	if errors.As(err, &known) {
		return known.Status
	}
	st := dsn.Status{Code: fileCode(err, other), Reason: text(err)}
	var open *openError
	if errors.As(err, &open) {
		st.Reason = open.text
	}
	return st
}
