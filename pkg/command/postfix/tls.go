package postfix

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"posthaste/pkg/command/getopt"
	"posthaste/pkg/command/postfix/servercert"
	"posthaste/pkg/conf/edit"
	"posthaste/pkg/service/logging"
	"posthaste/pkg/sys/maillog"
)

// keys is one run of "postfix tls", which turns opportunistic TLS on and makes
// keys and certificates for the SMTP server. The original has a script for it.
type keys struct {
	*tool
	log     *maillog.Logger // as "SYSLOG_NAME/postfix-tls-script"
	options map[byte]string
	args    []string
}

// keyCommand is a subcommand: its option letters, the rest of its usage, and
// how many arguments it takes at least and at most (-1: any number).
type keyCommand struct {
	letters, usage string
	least, most    int
	run            func(*keys) int
}

// keyCommands in the order in which they are told.
var keyCommands = []struct {
	name string
	keyCommand
}{
	{"enable-client", keyCommand{"r:", " [-r devrandom]", 0, 0, (*keys).enableClient}},
	{"enable-server", keyCommand{"r:a:b:", " [-a algorithm] [-b bits ] [-r devrandom] [hostname ...]", 0, -1, (*keys).enableServer}},
	{"new-server-key", keyCommand{"a:b:", " [-a algorithm] [-b bits ] [hostname ...]", 0, -1, func(k *keys) int { return k.create(false) }}},
	{"new-server-cert", keyCommand{"a:b:", " [-a algorithm] [-b bits ] [hostname ...]", 0, -1, func(k *keys) int { return k.create(true) }}},
	{"deploy-server-cert", keyCommand{"", " certfile keyfile", 2, 2, (*keys).deployFiles}},
	{"output-server-csr", keyCommand{"k:", " [-k keyfile] [hostname ...]", 0, -1, (*keys).request}},
	{"output-server-tlsa", keyCommand{"h:", " [-h hostname] [keyfile ...]", 0, -1, (*keys).records}},
	{"all-default-client", keyCommand{"", "", 0, 0, func(k *keys) int { return k.answer(k.allDefault("smtp_")) }}},
	{"all-default-server", keyCommand{"", "", 0, 0, func(k *keys) int { return k.answer(k.allDefault("smtpd_")) }}},
}

// tls runs a subcommand.
func (t *tool) tls(args []string) int {
	logs, err := logging.Configured(t.config, "postfix-tls-script", t.logs)
	if err != nil {
		t.script.Fatal("%v", err)
	}
	logs.StderrTag = logs.Tag
	k := &keys{tool: t, log: maillog.New(logs), options: map[byte]string{}}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	for _, c := range keyCommands {
		if c.name != name {
			continue
		}
		given, rest, err := getopt.Parse(args[1:], c.letters)
		if err != nil || len(rest) < c.least || c.most >= 0 && len(rest) > c.most {
			k.log.Fatal("usage: postfix tls %s%s", c.name, c.usage)
		}
		for _, g := range given {
			k.options[g.Letter] = g.Value
		}
		k.args = rest
		return c.run(k)
	}
	k.log.Error("unknown tls command: '%s'", name)
	var others []string
	for _, c := range []int{2, 3, 4, 5, 6, 7, 8} {
		others = append(others, keyCommands[c].name)
	}
	k.log.Fatal("usage: postfix tls enable-client (or enable-server, %s)", strings.Join(others, ", "))
	return 1
}

func (k *keys) answer(yes bool) int {
	if yes {
		return 0
	}
	return 1
}

// tell logs lines.
func (k *keys) tell(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		k.log.Info("%s", strings.TrimSuffix(line, "\n"))
	}
}

// telling are the parameters, after "smtp_" or "smtpd_", of which a value says
// that the administrator has made up his mind about TLS.
var telling = []string{"use_tls", "enforce_tls", "tls_security_level", "tls_cert_file", "tls_dcert_file", "tls_eccert_file"}

// allDefault reports whether main.cf says nothing about TLS of the client
// ("smtp_") or the server ("smtpd_").
func (k *keys) allDefault(prefix string) bool {
	return !slices.ContainsFunc(telling, func(name string) bool {
		value, _ := k.config.Explicit(prefix + name)
		return value != ""
	})
}

// set writes parameters to main.cf.
func (k *keys) set(settings ...edit.Setting) {
	err := edit.Replace(filepath.Join(k.dirs.config, "main.cf"), func(r io.Reader, w io.Writer) error {
		return edit.MainCF(r, w, edit.Set, settings, func(string) {})
	})
	if err != nil {
		k.log.Fatal("%v", err)
	}
}

// random is the setting of the source of randomness, if it is wanted.
func (k *keys) random() []edit.Setting {
	source := k.options['r']
	if _, explicit := k.config.Explicit("tls_random_source"); source == "" && !explicit {
		source = "dev:/dev/urandom"
	}
	if source == "" {
		return nil
	}
	return []edit.Setting{{Name: "tls_random_source", Value: source}}
}

const sessionCache = "btree:%s/smtp_scache"

func (k *keys) enableClient() int {
	if !k.allDefault("smtp_") {
		k.tell(`*** Non-default SMTP client TLS settings detected, no changes made.
For opportunistic TLS in the Postfix SMTP client, the below settings
are typical:
  smtp_tls_security_level = may
  smtp_tls_loglevel = 1
  smtp_tls_session_cache_database = ` + fmt.Sprintf(sessionCache, "${data_directory}"))
		return 0
	}
	k.set(append(k.random(), edit.Setting{Name: "smtp_tls_security_level", Value: "may"}, edit.Setting{Name: "smtp_tls_loglevel", Value: "1"},
		edit.Setting{Name: "smtp_tls_session_cache_database", Value: fmt.Sprintf(sessionCache, k.dirs.data)})...)
	k.tell("Enabled opportunistic TLS in the Postfix SMTP client.\n" + reloadHint)
	return 0
}

const reloadHint = `Run the command:
  # postfix reload
if you want the new settings to take effect immediately.
`

func (k *keys) enableServer() int {
	if !k.allDefault("smtpd_") {
		k.tell(`*** Non-default SMTP server TLS settings detected, no changes made.
For opportunistic TLS in the Postfix SMTP server, the below settings
are typical:
  smtpd_tls_security_level = may
  smtpd_tls_loglevel = 1
You can use "postfix tls new-server-cert" to create a new certificate.
Or, "postfix tls new-server-key" to also force a new private key.
If you publish DANE TLSA records, see:
  https://tools.ietf.org/html/rfc7671#section-8
  https://tools.ietf.org/html/rfc7671#section-5.1
  https://tools.ietf.org/html/rfc7671#section-5.2
  https://community.letsencrypt.org/t/please-avoid-3-0-1-and-3-0-2-dane-tlsa-records-with-le-certificates/7022`)
		return 0
	}
	cert, key := k.generate(false)
	k.set(slices.Concat(k.random(), k.deployed(cert, key), []edit.Setting{{Name: "smtpd_tls_security_level", Value: "may"},
		{Name: "smtpd_tls_received_header", Value: "yes"}, {Name: "smtpd_tls_loglevel", Value: "1"}})...)
	k.tell("Enabled opportunistic TLS in the Postfix SMTP server\nNew TLS private key and certificate deployed.\n" + reloadHint +
		"To generate a CSR run:\n  # postfix tls output-server-csr -k " + key + " [<hostname> ...]\n" +
		"Save the signed certificate chain in " + cert + ".\n" +
		"To generate TLSA records run:\n  # postfix tls output-server-tlsa [-h <hostname>] \n" +
		"(If you have DANE TLSA RRs, update them as soon as possible to match\nthe newly deployed keys).")
	return 0
}

// create makes a certificate for a new key or the one that is in use.
func (k *keys) create(sameKey bool) int {
	copied := sameKey && k.file(k.algorithm()) != ""
	cert, key := k.generate(copied)
	text := "New private key and self-signed certificate created. To deploy run:\n  # postfix tls deploy-server-cert " + cert + " " + key + "\n" +
		"To generate a CSR run:\n  # postfix tls output-server-csr -k " + key + " [<hostname> ...]\n" +
		"Save the signed certificate chain in " + cert + ", and deploy as above.\n" +
		"To generate TLSA records run:\n  # postfix tls output-server-tlsa [-h <hostname>] " + key + "\n"
	if !copied {
		text += "(deploy after updating the DNS and waiting for stale RRs to expire)."
	}
	k.tell(text)
	return 0
}

func (k *keys) algorithm() string {
	switch a := k.options['a']; a {
	case "":
		return servercert.RSA
	case servercert.RSA, servercert.ECDSA:
		return a
	default:
		k.log.Fatal("Unsupported private key algorithm: %s", a)
	}
	return ""
}

// hostnames are the arguments, or else myhostname.
func (k *keys) hostnames() []string {
	if len(k.args) > 0 {
		return k.args
	}
	return []string{k.config.String("myhostname")}
}

// generate writes a key and a certificate to new files.
func (k *keys) generate(copied bool) (certFile, keyFile string) {
	algorithm := k.algorithm()
	var key crypto.Signer
	var err error
	if copied {
		if key, _, err = servercert.LoadKey(k.file(algorithm)); err != nil {
			k.log.Fatal("%v", err)
		}
	} else {
		size := servercert.Size(algorithm, k.options['b'])
		if key, err = servercert.NewKey(algorithm, size); err != nil {
			k.log.Warn("%v", err)
			k.log.Fatal("error generating new %s %s private key", algorithm, size)
		}
	}
	now := time.Now()
	private, err := servercert.EncodeKey(key, !copied)
	if err != nil {
		k.log.Fatal("%v", err)
	}
	cert, err := servercert.SelfSigned(key, k.hostnames(), now)
	if err != nil {
		k.log.Fatal("error generating self-signed SSL certificate: %v", err)
	}
	prefix := map[string]string{servercert.RSA: "", servercert.ECDSA: "ec"}[algorithm]
	name := func(what string) string {
		return filepath.Join(k.dirs.config, prefix+what+now.UTC().Format("-20060102-150405.pem"))
	}
	certFile, keyFile = name("cert"), name("key")
	k.write(certFile, cert, 0o644)
	k.write(keyFile, private, 0o600) // last, so that none stays behind after a failure
	return certFile, keyFile
}

// write makes a file that is not there yet, whole or not at all.
func (k *keys) write(path string, data []byte, mode os.FileMode) {
	if _, err := os.Lstat(path); err == nil {
		k.log.Fatal("New private key file already exists: %s", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err == nil {
		_, err = f.Write(data)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			os.Remove(path)
		}
	}
	if err != nil {
		k.log.Fatal("%v", reason(err))
	}
}

// parameters are the names of those that say where certificate and key are.
func parameters(algorithm string) (cert, key string) {
	if algorithm == servercert.ECDSA {
		return "smtpd_tls_eccert_file", "smtpd_tls_eckey_file"
	}
	return "smtpd_tls_cert_file", "smtpd_tls_key_file"
}

// file is the key that is in use, "" if there is none.
func (k *keys) file(algorithm string) string {
	_, key := parameters(algorithm)
	path := k.config.String(key)
	if path == "none" {
		return ""
	}
	return path
}

// absolute is a file name as the administrator gave it.
func (k *keys) absolute(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(k.dirs.config, path)
}

// deployed are the settings that put certificate and key to use.
func (k *keys) deployed(certFile, keyFile string) []edit.Setting {
	key, algorithm, err := servercert.LoadKey(keyFile)
	if err != nil {
		k.log.Fatal("%v", err)
	}
	c, err := servercert.LoadCert(certFile)
	if err != nil {
		k.log.Fatal("error computing certificate public key digest")
	}
	if !servercert.Belongs(c, key) {
		k.log.Fatal("Certificate in %s does not match key in %s", certFile, keyFile)
	}
	cert, private := parameters(algorithm)
	return []edit.Setting{{Name: cert, Value: certFile}, {Name: private, Value: keyFile}}
}

func (k *keys) deployFiles() int {
	k.set(k.deployed(k.absolute(k.args[0]), k.absolute(k.args[1]))...)
	k.tell("New TLS private key and certificate deployed.\n" + reloadHint)
	return 0
}

// named is the file of a key: an algorithm stands for the key that is in use.
func (k *keys) named(word string) string {
	if word == servercert.RSA || word == servercert.ECDSA {
		word = k.file(word)
	}
	return k.absolute(word)
}

func (k *keys) request() int {
	words := []string{servercert.RSA, servercert.ECDSA}
	if given := k.options['k']; given != "" {
		words = []string{given}
	}
	path := ""
	for _, w := range words {
		if path = k.named(w); path != "" {
			break
		}
	}
	key, _, err := servercert.LoadKey(path)
	if path == "" || err != nil {
		k.log.Fatal("No usable keyfile specified or configured")
	}
	text, err := servercert.Request(key, k.hostnames())
	if err != nil {
		k.log.Fatal("%v", err)
	}
	_, _ = k.env.Stdout.Write(text)
	return 0
}

func (k *keys) records() int {
	host := k.options['h']
	if host == "" {
		host = k.config.String("myhostname")
	}
	words := k.args
	if len(words) == 0 {
		words = []string{servercert.RSA, servercert.ECDSA}
	}
	files := 0
	for _, w := range words {
		path := k.named(w)
		if path == "" {
			continue
		}
		files++
		fmt.Fprintf(k.env.Stdout, "; %s\n", path)
		key, _, err := servercert.LoadKey(path)
		if err != nil {
			k.log.Fatal("%v", err)
		}
		data, err := servercert.TLSA(key)
		if err != nil {
			k.log.Fatal("%v", err)
		}
		fmt.Fprintf(k.env.Stdout, "_25._tcp.%s. IN TLSA 3 1 1 %s\n", host, data)
	}
	if files == 0 {
		k.log.Fatal("No usable keyfiles specified or configured")
	}
	return 0
}
