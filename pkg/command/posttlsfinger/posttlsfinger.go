// Package posttlsfinger is the command posttls-finger: it connects to an SMTP or
// LMTP server as the delivery agent would, begins TLS, and tells what the
// session and the server's certificate are like. No mail is sent and no table
// is read.
//
// What it says, on standard output, is the original's. The policy of a host
// (policy.go) is made before the connection (session.go); TLS is package
// mailtls's, or tlsproxy's with -X (proxy.go).
package posttlsfinger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"posthaste/pkg/command"
	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	"posthaste/pkg/sys/cred"
	"posthaste/pkg/sys/maillog"
	"posthaste/pkg/wire/dns"
	mailtls "posthaste/pkg/wire/tls"
)

const name = "posttls-finger"

const usageText = `usage: posttls-finger [-acCfSvw] [-t conn_tmout] [-T cmd_tmout] [-L logopts] \
	[-h host_lookup] [-l level] [-d mdalg] [-g grade] [-p protocols] \
	[-A tafile] [-F CAfile.pem] [-P CApath/] [-s servername] \
	[ [-H chainfiles] | [-k certfile [-K keyfile]] ] \
	[-m count] [-r delay] [-o name=value] destination [match ...]
`

// finger is one run of the command.
type finger struct {
	options
	ctx      context.Context
	env      command.Env
	log      *maillog.Logger
	conf     *conf.Config
	dest     destination
	resolver dns.Resolver
	probe    *dns.Probe
	native   dns.Native
	mask     mailtls.LogMask
	anchors  *mailtls.Anchors
	engine   *mailtls.Client // nil: no TLS
	sessions *sessions       // of -r
}

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as. The exit status
// says only whether the command line was good: servers may be as they like.
func Run(args []string, env command.Env) int {
	return command.Catch(func() int {
		f := &finger{ctx: context.Background(), env: env, native: dns.System{}}
		f.log = maillog.New(maillog.Config{Tag: name, StderrTag: name, Stderr: true, StderrOnly: true, ErrorOutput: env.Stdout,
			ManyErrors: true, Exit: command.Exit, Sleep: func(time.Duration) {}})
		err := f.prepare(args)
		var wrong *getopt.Error
		switch {
		case errors.As(err, &wrong):
			if wrong.Text != "" {
				fmt.Fprintf(env.Stderr, "%s: %v\n", args[0], wrong)
			}
			fmt.Fprint(env.Stderr, usageText)
			return 1
		case err != nil:
			f.log.Log(maillog.LevelFatal, "%v", err)
			return 1
		}
		f.run()
		return 0
	})
}

// prepare reads the command line and main.cf, and loads what TLS needs; after
// that root's rights are no longer used.
func (f *finger) prepare(args []string) error {
	if err := f.options.parse(args[1:]); err != nil {
		return err
	}
	var err error
	dir, _ := f.env.Lookup("MAIL_CONFIG")
	if f.conf, err = conf.Load(conf.Options{Dir: dir, ProcessName: name, Overrides: f.overrides, Fatal: f.log.Fatal, Warn: f.log.Warn, Error: f.log.Error}); err != nil {
		return err
	}
	if f.level, err = mailtls.ParseLevel(f.levelName); err != nil {
		return err
	}
	if f.wrapper && f.level == mailtls.LevelNone {
		return errors.New("SSL wrapper mode requires that TLS not be disabled")
	}
	if f.mask, err = mailtls.ParseLogLevel("-L option", f.logWords); err != nil {
		for range 3 {
			f.log.Warn("%v", err)
		}
	}
	if len(f.anchorFiles) > 0 {
		if f.anchors, err = mailtls.LoadAnchors(f.anchorFiles...); err != nil {
			f.log.Warn("%v", err)
			return fmt.Errorf("Failed to load trust anchor file: %s", f.anchorFiles[0])
		}
	}
	if f.level != mailtls.LevelNone && !f.proxy {
		f.openTLS()
	}
	if f.dest, err = f.parseDestination(f.args[0]); err != nil {
		return err
	}
	client := dns.NewClient()
	client.DNSSEC = f.byDNS
	f.resolver = client
	f.probe, err = dns.NewProbe(client, f.conf.String("dnssec_probe"), f.log.Warn)
	return err
}

// openTLS loads certificates, keys and authorities.
func (f *finger) openTLS() {
	if f.mask.Has(mailtls.LogVerbose) {
		f.log.Info("initializing the client-side TLS engine")
	}
	c := f.conf
	files := mailtls.Files{Chain: f.chainFiles, Cert: f.certFile, Key: f.keyFile}
	loaded, ok := mailtls.ClientFiles{Files: files, CAFile: f.caFile, CAPath: f.caPath, SystemCA: c.Bool("tls_append_default_CA"),
		FingerprintDigest: f.digestName()}.Load(f.log.Info, f.log.Warn)
	if !ok {
		return
	}
	f.engine = &mailtls.Client{Credentials: loaded, Depth: c.Int("smtp_tls_scert_verifydepth"), Curves: mailtls.Curves(c.String("tls_eecdh_auto_curves")),
		Grades: mailtls.Grades{High: c.String("tls_high_cipherlist"), Medium: c.String("tls_medium_cipherlist"), Low: c.String("tls_low_cipherlist"),
			Export: c.String("tls_export_cipherlist"), Null: c.String("tls_null_cipherlist")},
		Digests: mailtls.ParseTLSADigests(c.String("tls_dane_digests"), f.log.Warn), Mask: f.mask, Log: f.log}
	if f.delay > 0 {
		f.sessions = &sessions{log: f.log}
	}
}

func (f *finger) digestName() string {
	if f.digest != "" {
		return f.digest
	}
	return f.conf.String("smtp_tls_fingerprint_digest")
}

// run finds the server, connects to the first host that lets it, and tells of
// it.
func (f *finger) run() {
	hosts, err := f.resolve()
	if err != nil {
		f.log.Info("Destination address lookup failed: %v", err)
		return
	}
	for _, h := range hosts {
		p, err := f.policy(h)
		var s *session
		if err == nil {
			s, err = f.connect(h, p)
		}
		if err != nil {
			via := ""
			if h.path == "" {
				via = " via " + h.name
			}
			f.log.Info("Failed to establish session to %s%s: %v", f.dest.text, via, err)
			continue
		}
		f.talk(s)
		return
	}
}

// as runs something with the rights of the mail system's owner, if these are
// root's.
func (f *finger) as(do func() error) error {
	if os.Geteuid() != 0 {
		return do()
	}
	owner, err := cred.Lookup(f.conf.String("mail_owner"))
	if err != nil {
		return do()
	}
	return cred.As(owner, do)
}
