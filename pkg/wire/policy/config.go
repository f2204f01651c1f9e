// Package policy is the client of SMTPD policy servers (spec ipc.md §3.1,
// smtpd.md §4.11): attribute lists in the plain coding, "name=value" lines and
// an empty line, over TCP or a local socket. A request is a list, the reply a
// list of which only "action" counts.
//
// A Client has one pool of connections to one server. An exchange takes a
// connection for itself and gives it back, so that exchanges at the same time
// do not wait for each other: a server that hangs costs nobody but those who
// asked it.
//
// What a server sends is not trusted: a reply has limits in size and time, and
// whatever is wrong with it is an error whose text is what Postfix logs.
package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/conf"
)

// Config says how a server is talked to. The parameters of main.cf are named
// smtpd_policy_service_*.
type Config struct {
	Server string // as it was written: "inet:host:port", "unix:path", "host:port"
	Dir    string // where relative socket names start; "" is the working directory

	Timeout       time.Duration // of connecting, and of each read and write (timeout)
	MaxIdle       time.Duration // an unused connection is closed after this (max_idle)
	MaxTTL        time.Duration // any connection is closed after this (max_ttl)
	RequestLimit  int           // requests on a connection, 0 is no limit (request_limit)
	TryLimit      int           // attempts at a request, at least 1 (try_limit)
	RetryDelay    time.Duration // between them (retry_delay)
	DefaultAction string        // what to do when there is no answer (default_action)
	Context       string        // sent as policy_context

	// Warn is told of trouble; nil discards.
	Warn func(format string, a ...any)
	// Lookup finds the addresses of a host name, nil asks the system.
	Lookup Lookup
}

// Defaults reads the parameters smtpd_policy_service_*.
func Defaults(c *conf.Config) Config {
	const prefix = "smtpd_policy_service_"
	return Config{
		Timeout: c.Duration(prefix + "timeout"), MaxIdle: c.Duration(prefix + "max_idle"), MaxTTL: c.Duration(prefix + "max_ttl"),
		RequestLimit: c.Int(prefix + "request_limit"), TryLimit: c.Int(prefix + "try_limit"), RetryDelay: c.Duration(prefix + "retry_delay"),
		DefaultAction: c.String(prefix + "default_action"), Context: c.String(prefix + "policy_context"),
	}
}

// Parse reads the argument of check_policy_service: a server, or
// "{ server, name = value, ... }" with its own settings; "{ name = value }" lets
// a value contain commas and blanks. defaults is what is not set. An error is
// worded for "fatal:".
func Parse(text string, defaults Config) (Config, error) {
	c := defaults
	c.Server = text
	if !strings.HasPrefix(text, "{") {
		return c, nil
	}
	inner, err := unbrace(text)
	if err != nil {
		return c, fmt.Errorf("policy service syntax error: %w", err)
	}
	words := conf.SplitBraced(inner, ", \t\r\n")
	if len(words) == 0 {
		return c, fmt.Errorf("empty policy service: \"%s\"", text)
	}
	c.Server = words[0]
	for _, word := range words[1:] {
		if strings.HasPrefix(word, "{") {
			if word, err = unbrace(word); err != nil {
				return c, fmt.Errorf("policy service syntax error: %w", err)
			}
		}
		name, value, err := conf.SplitNameValue(word)
		if err != nil {
			return c, fmt.Errorf("policy service syntax error: %w", err)
		}
		if err := c.set(name, value); err != nil {
			return c, err
		}
	}
	return c, nil
}

// set changes one setting by its short name.
func (c *Config) set(name, value string) (err error) {
	switch name {
	case "timeout":
		c.Timeout, err = seconds(value)
	case "max_idle":
		c.MaxIdle, err = seconds(value)
	case "max_ttl":
		c.MaxTTL, err = seconds(value)
	case "retry_delay":
		c.RetryDelay, err = seconds(value)
	case "request_limit":
		c.RequestLimit, err = number(value, 0)
	case "try_limit":
		c.TryLimit, err = number(value, 1)
	case "default_action":
		c.DefaultAction = value
	case "policy_context":
		c.Context = value
	default:
		return fmt.Errorf("unknown parameter name in check_policy_service: \"%s\"", name)
	}
	if err != nil {
		return fmt.Errorf("bad parameter value: %s = %s: %w", name, value, err)
	}
	return nil
}

func number(text string, low int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("not a number")
	}
	if n < low {
		return 0, fmt.Errorf("must be at least %d", low)
	}
	return n, nil
}

// seconds reads a time with the unit s, m, h, d or w; none is seconds.
func seconds(text string) (time.Duration, error) {
	unit := time.Second
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	if text != "" {
		if u, ok := units[text[len(text)-1]]; ok {
			unit, text = u, text[:len(text)-1]
		}
	}
	n, err := number(text, 1)
	if err == nil && n > int(100*365*24*time.Hour/unit) {
		err = fmt.Errorf("too large")
	}
	return time.Duration(n) * unit, err
}

// unbrace takes "{ text }" apart.
func unbrace(text string) (string, error) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				if strings.TrimSpace(text[i+1:]) != "" {
					return "", fmt.Errorf("syntax error after '}' in \"%s\"", text)
				}
				return strings.TrimSpace(text[1:i]), nil
			}
		}
	}
	return "", fmt.Errorf("missing '}' in \"%s\"", text)
}
