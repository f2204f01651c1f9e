package posttlsfinger

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"posthaste/pkg/command/getopt"
	"posthaste/pkg/conf"
	mailtls "posthaste/pkg/wire/tls"
)

// options are the command line.
type options struct {
	family             string // any, ipv4, ipv6
	anchorFiles        []string
	quiet, chain       bool // -c, -C
	digest             string
	force              bool // TLSA records of hosts with insecure addresses
	caFile, caPath     string
	grade              string
	byDNS, byNative    bool
	chainFiles         string
	certFile, keyFile  string
	levelName          string
	level              mailtls.Level
	logWords           string
	reconnects         int
	insecureMX         mailtls.Level
	overrides          []string
	protocols          string
	delay              time.Duration
	servername         string
	lmtp, wrapper      bool
	proxy              bool
	connTime, cmdTime  time.Duration
	args               []string // destination, then what must match
	hostLookup, policy string
}

const optionLetters = "a:A:cCd:fF:g:h:H:k:K:l:L:m:M:o:p:P:r:s:St:T:vwX"

// words are the options that are kept as they are.
func (o *options) words() map[byte]*string {
	return map[byte]*string{'a': &o.family, 'd': &o.digest, 'F': &o.caFile, 'g': &o.grade, 'h': &o.hostLookup, 'k': &o.certFile, 'K': &o.keyFile,
		'l': &o.levelName, 'L': &o.logWords, 'M': &o.policy, 'p': &o.protocols, 'P': &o.caPath, 's': &o.servername}
}

func (o *options) flags() map[byte]*bool {
	return map[byte]*bool{'c': &o.quiet, 'C': &o.chain, 'f': &o.force, 'S': &o.lmtp, 'w': &o.wrapper, 'X': &o.proxy, 'v': new(bool)}
}

// parse reads the command line. A *getopt.Error asks for the usage.
func (o *options) parse(args []string) error {
	*o = options{family: "any", grade: "medium", hostLookup: "dns", levelName: "dane", logWords: "routine,certmatch", reconnects: 5,
		policy: "dane", protocols: ">=TLSv1", connTime: 30 * time.Second, cmdTime: 30 * time.Second}
	given, rest, err := getopt.Parse(args, optionLetters)
	words, flags := o.words(), o.flags()
	for _, g := range given {
		switch {
		case words[g.Letter] != nil:
			*words[g.Letter] = g.Value
		case flags[g.Letter] != nil:
			*flags[g.Letter] = true
		case !o.other(g):
			return &getopt.Error{}
		}
	}
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return &getopt.Error{}
	}
	o.args = rest
	return o.check()
}

// other takes the options with a form of their own.
func (o *options) other(g getopt.Option) bool {
	number, _ := strconv.Atoi(g.Value)
	switch g.Letter {
	case 'A':
		o.anchorFiles = append(o.anchorFiles, g.Value)
	case 'H':
		o.chainFiles = strings.TrimPrefix(o.chainFiles+", "+g.Value, ", ")
	case 'm':
		o.reconnects = number
	case 'r':
		o.delay = time.Duration(number) * time.Second
	case 't':
		o.connTime = time.Duration(number) * time.Second
	case 'T':
		o.cmdTime = time.Duration(number) * time.Second
	case 'o':
		if _, _, err := conf.SplitNameValue(g.Value); err != nil {
			return false
		}
		o.overrides = append(o.overrides, g.Value)
	}
	return true
}

func (o *options) check() error {
	if o.family != "any" && o.family != "ipv4" && o.family != "ipv6" {
		return fmt.Errorf("bad '-a' option value: %s", o.family)
	}
	for _, w := range conf.Fields(o.hostLookup) {
		switch strings.ToLower(w) {
		case "dns":
			o.byDNS = true
		case "native":
			o.byNative = true
		default:
			return fmt.Errorf("unknown -h option value \"%s\" in \"%s\"", w, o.hostLookup)
		}
	}
	level, ok := map[string]mailtls.Level{"may": mailtls.LevelMay, "encrypt": mailtls.LevelEncrypt, "dane": mailtls.LevelHalfDane}[o.policy]
	if !ok {
		return fmt.Errorf("bad '-M' option value: %s", o.policy)
	}
	o.insecureMX = level
	if o.chainFiles != "" && o.certFile+o.keyFile != "" {
		return fmt.Errorf("When the '-H' option is used, neither the '-k', nor the '-K' options may be used")
	}
	if o.certFile == "" {
		o.certFile = o.keyFile
	}
	if o.keyFile == "" {
		o.keyFile = o.certFile
	}
	return nil
}
