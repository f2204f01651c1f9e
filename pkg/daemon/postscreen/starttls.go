package postscreen

import (
	"fmt"
	"time"

	"posthaste/pkg/ipc/attr"
	"posthaste/pkg/ipc/dial"
	"posthaste/pkg/ipc/tlsproxy"
	"posthaste/pkg/wire/smtp"
)

// tlsStep bounds each step of the talk with tlsproxy (spec §8.4).
const tlsStep = 10 * time.Second

func (c *dialogue) cmdStartTLS(args string) {
	switch {
	case args != "":
		c.reply("501 Syntax: EHLO hostname")
	case c.tls:
		c.reply("554 5.5.1 Error: TLS already active")
	case !c.d.set.useTLS || c.discard&smtp.NoSTARTTLS != 0:
		c.reply("502 5.5.1 Error: command not implemented")
	default:
		if err := c.startTLS(); err != nil {
			c.d.log.Warn("%v", err)
			c.reply("454 4.7.0 TLS not available due to local problem")
		}
	}
}

// startTLS gives the client's connection to tlsproxy and goes on in plaintext
// over ours to it. The client hears that it can begin when tlsproxy waits for it.
func (c *dialogue) startTLS() error {
	service := "private/" + c.d.set.tlsproxyService
	proxy, err := dial.Dialer{Timeout: tlsStep}.Dial(c.ctx, "private", c.d.set.tlsproxyService)
	if err != nil {
		return fmt.Errorf("connect to %s service: %s", service, dial.Reason(err))
	}
	raw := proxy.Conn
	if err := c.request(service, proxy); err != nil {
		raw.Close()
		return err
	}
	c.reply("220 2.0.0 Ready to start TLS")
	_ = c.conn.Flush()
	_ = raw.SetDeadline(time.Time{})
	client := c.nc
	c.conn.Replace(raw)
	c.tls = true
	_ = client.Close() // tlsproxy has it
	c.helo, c.sender = "", nil
	return nil
}

// request asks tlsproxy, and passes the client.
func (c *dialogue) request(service string, proxy *dial.Conn) error {
	raw := proxy.Conn
	_ = raw.SetDeadline(time.Now().Add(tlsStep))
	in, out := attr.NewReader(raw, attr.Null, service+" service"), attr.NewWriter(raw, attr.Null)
	trouble := func(what string, err error) error {
		if timedOut(err) {
			return fmt.Errorf("timeout %s %s service", what, service)
		}
		return fmt.Errorf("problem %s %s service", what, service)
	}
	if err := attr.Expect(in, tlsproxy.Protocol); err != nil {
		return trouble("receiving protocol attribute from", err)
	}
	limit := c.d.pace().commandLimit
	r := tlsproxy.Request{Endpoint: c.name, Flags: tlsproxy.ServerRole, Handshake: limit, Session: limit, ServerID: "smtpd"}
	if err := r.Write(out); err != nil {
		return trouble("sending request to", err)
	}
	status := tlsproxy.Unavailable
	_ = raw.SetDeadline(time.Now().Add(tlsStep))
	if err := in.Scan(attr.Int("status", &status)); err != nil || status != tlsproxy.Ready {
		return trouble("receiving status from", err)
	}
	if err := sendDescriptor(raw, c.nc); err != nil {
		return fmt.Errorf("problem sending file handle to %s service", service)
	}
	return nil
}
