package posttlsfinger

import (
	"errors"
	"fmt"
	"strings"

	"posthaste/pkg/wire/dane"
	mailtls "posthaste/pkg/wire/tls"
)

// policy is what is wanted of a host's TLS, and of the log.
func (f *finger) policy(h host) (mailtls.Server, error) {
	s := mailtls.Server{Peer: h.peer(), Level: f.level, Protocols: f.protocols, Grade: f.grade, Exclude: "eNULL", SNI: f.servername}
	if f.level.IsDANE() {
		if err := f.dane(&s, h); err != nil {
			return s, err
		}
	}
	mask := f.mask
	if s.Level.MustMatch() {
		s.Exclude = "aNULL"
		mask |= mailtls.LogUntrusted
	}
	if f.engine != nil {
		f.engine.Mask = mask
	}
	words := f.args[1:]
	switch s.Level {
	case mailtls.LevelFingerprint:
		if s.Match = f.fingerprints(words); len(s.Match) == 0 {
			s.Level = mailtls.LevelEncrypt // all there is to tell is what the chain is worth
		}
	case mailtls.LevelVerify, mailtls.LevelSecure:
		if len(words) == 0 {
			words = map[mailtls.Level][]string{mailtls.LevelVerify: {"hostname"}, mailtls.LevelSecure: {"nexthop", "dot-nexthop"}}[s.Level]
		}
		s.Match, s.Anchors = mailtls.References(words, f.dest.domain, h.name), f.anchors
	}
	return s, nil
}

// fingerprints are the digests among the arguments.
func (f *finger) fingerprints(words []string) (good []string) {
	for _, w := range words {
		digits := strings.ReplaceAll(w, ":", "")
		if digits == "" || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
			f.log.Warn("malformed fingerprint value: %s", w)
			continue
		}
		good = append(good, w)
	}
	return good
}

// dane asks for the records of a host. Without any that are of use the level
// becomes secure.
func (f *finger) dane(s *mailtls.Server, h host) error {
	only := s.Level == mailtls.LevelDaneOnly
	if h.insecureMX && !only && f.insecureMX == mailtls.LevelMay {
		f.log.Info("MX RRset is insecure: try to encrypt")
		s.Level = mailtls.LevelMay
		return nil
	}
	finder := dane.Finder{Resolver: f.resolver, Force: f.force, Log: f.log, Trace: f.mask.Has(mailtls.LogVerbose | mailtls.LogDANE)}
	found, err := finder.Find(f.ctx, dane.Host{Name: h.name, Actual: h.actual, Secure: h.secure, Port: h.port})
	switch {
	case err != nil:
		return errors.New("TLSA lookup error for " + fmt.Sprintf("%s:%d", h.name, h.port))
	case len(found.Records) == 0:
		if only {
			what := "no TLSA records found"
			if found.Found {
				what = "no usable TLSA records found"
			}
			f.log.Info("%s, resorting to \"secure\"", what)
		}
		s.Level = mailtls.LevelSecure
		return nil
	case h.insecureMX && !only && f.insecureMX == mailtls.LevelEncrypt:
		f.log.Info("TLSA RRs found, MX RRset insecure: just encrypt")
		s.Level = mailtls.LevelEncrypt
		return nil
	case h.insecureMX:
		f.log.Info("MX RRset insecure: log verified as trusted")
		s.Level = mailtls.LevelHalfDane
	}
	names := []string{found.Base}
	if h.domain != "" {
		names = append(names, h.domain, f.dest.domain)
	}
	s.TLSA, s.SNI, s.Match = found.Records, found.Base, mailtls.References(names, "", "")
	return nil
}
