package local

import (
	"strings"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/ipc/cleanup"
	"posthaste/pkg/message/address"
	"posthaste/pkg/service/mailbox"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/filelock"
)

// settings are the parameters in the form they are used in.
type settings struct {
	config *conf.Config

	ext             address.Extensions
	propagate       map[string]bool // propagate_unmatched_extensions
	ownerSpecial    bool            // owner_request_special
	expandOwner     bool            // expand_owner_alias
	resetOwner      bool            // reset_owner_alias
	frozenDelivered bool            // frozen_delivered_to
	prependHeader   map[string]bool // prepend_delivered_header: command, file, forward
	keepOriginal    bool            // enable_original_recipient
	toCommands      map[string]bool // allow_mail_to_commands
	toFiles         map[string]bool // allow_mail_to_files
	dupLimit        int             // duplicate_filter_limit; 0 is none
	lineLimit       int             // line_length_limit, bytes

	forwardPath   []string
	forwardFilter string
	requireHome   bool

	mailboxTransport  string
	fallbackTransport string
	mailboxCommand    string
	luserRelay        string
	homeMailbox       string
	spoolDir          string // mail_spool_directory
	strictOwner       bool   // strict_mailbox_ownership
	biff              bool
	locks             mailbox.Locks
	dot               filelock.DotOptions

	commandShell  string
	commandFilter string
	commandDir    string // command_execution_directory
	dirFilter     string // execution_directory_expansion_filter
	timeLimit     time.Duration
	exports       []string // export_environment
	defaultPrivs  string

	hostname, mailName string
	forwardFlags       cleanup.Flags
	utf8               bool // smtputf8_enable
}

func readSettings(c *conf.Config) (settings, error) {
	doubleBounce, _ := address.Split(c.String("double_bounce_sender"))
	s := settings{
		config: c,
		ext: address.Extensions{Delimiters: c.String("recipient_delimiter"), DoubleBounce: doubleBounce,
			OwnerRequest: c.Bool("owner_request_special")},
		propagate:       set(c, "propagate_unmatched_extensions"),
		ownerSpecial:    c.Bool("owner_request_special"),
		expandOwner:     c.Bool("expand_owner_alias"),
		resetOwner:      c.Bool("reset_owner_alias"),
		frozenDelivered: c.Bool("frozen_delivered_to"),
		prependHeader:   set(c, "prepend_delivered_header"),
		keepOriginal:    c.Bool("enable_original_recipient"),
		toCommands:      set(c, "allow_mail_to_commands"),
		toFiles:         set(c, "allow_mail_to_files"),
		dupLimit:        c.Int("duplicate_filter_limit"),
		lineLimit:       c.Int("line_length_limit"),

		forwardPath:   conf.FieldsBraced(c.String("forward_path")),
		forwardFilter: c.String("forward_expansion_filter"),
		requireHome:   c.Bool("require_home_directory"),

		mailboxTransport:  c.String("mailbox_transport"),
		fallbackTransport: c.String("fallback_transport"),
		mailboxCommand:    c.String("mailbox_command"),
		luserRelay:        c.String("luser_relay"),
		homeMailbox:       c.String("home_mailbox"),
		spoolDir:          c.String("mail_spool_directory"),
		strictOwner:       c.Bool("strict_mailbox_ownership"),
		biff:              c.Bool("biff"),
		dot:               mailbox.ReadDotOptions(c),

		commandShell:  c.String("local_command_shell"),
		commandFilter: c.String("command_expansion_filter"),
		commandDir:    c.String("command_execution_directory"),
		dirFilter:     c.String("execution_directory_expansion_filter"),
		timeLimit:     c.Duration("command_time_limit"),
		exports:       c.List("export_environment"),
		defaultPrivs:  c.String("default_privs"),

		hostname:     c.String("myhostname"),
		mailName:     c.String("mail_name"),
		forwardFlags: cleanup.FlagBounce | cleanup.FlagMap,
		utf8:         c.Bool("smtputf8_enable"),
	}
	var err error
	s.locks, err = mailbox.ReadLocks(c, "mailbox_delivery_lock")
	return s, err
}

func set(c *conf.Config, name string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range c.List(name) {
		m[strings.ToLower(w)] = true
	}
	return m
}

// privileges is who delivers what nobody in particular owns.
func (d *daemon) privileges() (cred.Identity, error) {
	if !d.root {
		return d.self, nil
	}
	return d.lookup(d.defaultPrivs)
}
