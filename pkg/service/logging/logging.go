// Package logging decides where a program's log records go, before and after
// it has read main.cf (spec master.md §8).
package logging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
)

// The environment variables that carry logging settings to child processes.
const (
	EnvTag     = "MAIL_LOGTAG"
	EnvService = "POSTLOG_SERVICE"
	EnvHost    = "POSTLOG_HOSTNAME"
	EnvVerbose = "MAIL_VERBOSE"
)

// Early is the configuration of a program that has not read main.cf: what
// the environment says, unless the program is set-id.
func Early(program string, getenv func(string) string) maillog.Config {
	cfg := maillog.Config{Tag: "postfix/" + program, StderrTag: program}
	if SetID() {
		return cfg
	}
	if tag := getenv(EnvTag); tag != "" {
		cfg.Tag = tag + "/" + program
	}
	cfg.PostlogSocket = getenv(EnvService)
	cfg.Hostname = getenv(EnvHost)
	return cfg
}

// Configured is the configuration after main.cf has been read; base keeps
// what the configuration does not decide. The error text is meant to follow
// "fatal: ".
func Configured(c *conf.Config, program string, base maillog.Config) (maillog.Config, error) {
	base.Tag = c.String("syslog_name") + "/" + program
	base.Facility = c.String("syslog_facility")
	base.UTF8 = c.Bool("smtputf8_enable")
	base.Hostname = c.String("myhostname")
	base.PostlogSocket = ""
	base.FallbackFile = ""
	if !maillog.ValidFacility(base.Facility) {
		return base, fmt.Errorf("file %s/main.cf: parameter syslog_facility: unrecognized value: %s", c.Dir(), base.Facility)
	}
	file := c.String("maillog_file")
	if file == "" {
		return base, nil
	}
	if !underPrefix(file, c.List("maillog_file_prefixes")) {
		return base, fmt.Errorf("maillog_file value '%s' does not match any prefix in maillog_file_prefixes", file)
	}
	base.PostlogSocket = filepath.Join(c.String("queue_directory"), "public", c.String("postlog_service_name"))
	return base, nil
}

// Export puts the settings where child processes find them.
func Export(c *conf.Config, cfg maillog.Config) error {
	err := errors.Join(os.Setenv("MAIL_CONFIG", c.Dir()), os.Setenv(EnvTag, c.String("syslog_name")))
	if cfg.PostlogSocket == "" {
		return errors.Join(err, os.Unsetenv(EnvService), os.Unsetenv(EnvHost))
	}
	return errors.Join(err, os.Setenv(EnvService, cfg.PostlogSocket), os.Setenv(EnvHost, cfg.Hostname))
}

// SetID tells whether the program runs with rights its caller does not have.
func SetID() bool { return os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() }

func underPrefix(file string, prefixes []string) bool {
	for _, p := range prefixes {
		if file == p || strings.HasPrefix(file, strings.TrimSuffix(p, "/")+"/") {
			return true
		}
	}
	return false
}
