package envelope

import (
	"strconv"

	"posthaste/pkg/ipc/deliver"
	"posthaste/pkg/message/dsn"
	"posthaste/pkg/spool/record"
)

// recipient handles the records that make up a recipient and reports whether t is
// one of them.
func (r *reader) recipient(t record.Type, data []byte, offset int64) bool {
	switch t {
	case record.TypeDSNOrigRcpt, record.TypeDSNNotify, record.TypeOrigRcpt, record.TypeRcpt, record.TypeDone, record.TypeCanceled:
	default:
		return false
	}
	if r.full {
		return true
	}
	if r.group < 0 {
		r.group = offset
	}
	switch t {
	case record.TypeDSNOrigRcpt:
		if r.dsnOrig != "" {
			r.warn("%s: ignoring out-of-order DSN original recipient address <%.200s>", r.ID, r.dsnOrig)
		}
		r.dsnOrig = string(data)
	case record.TypeDSNNotify:
		n, err := strconv.Atoi(string(data))
		if err != nil || !dsn.Notify(n).Valid() {
			r.warn("%s: ignoring malformed DSN notify flags <%.200s>", r.ID, data)
			n = 0
		}
		r.notify = dsn.Notify(n)
	case record.TypeOrigRcpt:
		if r.hasOrig {
			r.warn("%s: ignoring out-of-order original recipient <%.200s>", r.ID, r.orig)
		}
		r.orig, r.hasOrig = string(data), true
	case record.TypeRcpt:
		r.add(string(data), offset)
	case record.TypeDone:
		r.met()
		r.clear()
	case record.TypeCanceled:
		r.clear()
	}
	return true
}

// add takes a recipient into the batch, or ends the batch in front of it.
func (r *reader) add(address string, offset int64) {
	if r.More != nil && !r.More(len(r.rcpts)) {
		r.full = true
		r.e.resume, r.e.extract = r.group, r.extract
		r.e.Unread = max(r.e.Unread, 1) // whatever the size record says
		return
	}
	if address == r.orig {
		address = r.orig // one string will do
	}
	r.rcpts = append(r.rcpts, deliver.Recipient{
		Original: r.orig, Address: address, Offset: offset, DSNOrig: r.dsnOrig, Notify: r.notify,
	})
	r.met()
	r.clear()
}

// met counts a recipient that need not be read again.
func (r *reader) met() {
	r.seen++
	if r.sized {
		r.e.Unread--
	}
}

func (r *reader) clear() {
	r.group, r.orig, r.dsnOrig, r.notify, r.hasOrig = -1, "", "", 0, false
}

// The attributes that are kept as they are; the first one wins.
func (r *reader) texts(name string) *string {
	switch name {
	case "sasl_method":
		return &r.e.rare().SASLMethod
	case "sasl_username":
		return &r.e.rare().SASLUsername
	case "sasl_sender":
		return &r.e.rare().SASLSender
	case "log_ident":
		return &r.e.LogIdent
	case "rewrite_context":
		return &r.e.RewriteContext
	}
	return nil
}

func (c *Client) field(name string) *string {
	switch name {
	case "client_name":
		return &c.Name
	case "client_address":
		return &c.Address
	case "client_port":
		return &c.Port
	case "protocol_name":
		return &c.Protocol
	case "helo_name":
		return &c.Helo
	}
	return nil
}

func (r *reader) attribute(name, value string, offset int64) {
	if name == "encoding" {
		r.e.Encoding = common(value)
		return
	}
	if name == "trace_flags" {
		n, err := strconv.Atoi(value)
		if err == nil && !r.traced {
			r.traced = true
			r.e.Trace, r.e.TraceOffset = deliver.Flags(n)&deliver.Trace, offset
		}
		return
	}
	p := r.texts(name)
	if len(name) > 4 && name[:4] == "log_" && p == nil {
		if p = r.log.field(name[4:]); p != nil {
			r.logged = true
		}
	} else if p == nil {
		p = r.old.field(name)
	}
	if p == nil {
		return
	}
	if *p != "" {
		r.warn("%s: ignoring multiple %s attribute: %s", r.ID, name, value)
		return
	}
	*p = common(value)
}
