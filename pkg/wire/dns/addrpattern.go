package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// AddrPattern is the PATTERN of a DNS list's "domain=PATTERN": what each octet
// of an address may be. nil matches every address (spec smtpd.md §4.7, §8.2).
type AddrPattern [4][256]bool

// ParseAddrPattern reads four fields separated by dots, each an octet or
// "[a;b;c..d]". The texts of its errors are Debian's.
func ParseAddrPattern(text string) (*AddrPattern, error) {
	if text == "" {
		return nil, errors.New("empty address pattern")
	}
	var p AddrPattern
	s := patternScanner{text: text}
	for i := range p {
		if i > 0 && s.next() != "." {
			return nil, s.wrong(`need "."`)
		}
		if err := s.field(&p[i]); err != nil {
			return nil, err
		}
	}
	if s.next() != "" {
		return nil, s.wrong("garbage after pattern")
	}
	return &p, nil
}

// patternScanner splits a pattern into numbers, ".." and single characters.
type patternScanner struct {
	text       string
	start, end int // of the token that next returned last
}

func (s *patternScanner) next() string {
	s.start = s.end
	switch rest := s.text[s.start:]; {
	case rest == "":
	case isOctetDigit(rest[0]):
		for s.end < len(s.text) && isOctetDigit(s.text[s.end]) {
			s.end++
		}
	case strings.HasPrefix(rest, ".."):
		s.end += 2
	default:
		s.end++
	}
	return s.text[s.start:s.end]
}

func isOctetDigit(ch byte) bool { return ch >= '0' && ch <= '9' }

// wrong is an error about the last token, which is shown between > and <.
func (s *patternScanner) wrong(what string) error {
	end := s.end
	if !isOctetDigit((s.text + " ")[s.start]) {
		end = min(s.start+1, len(s.text))
	}
	return fmt.Errorf(`%s at "%s>%s<%s"`, what, s.text[:s.start], s.text[s.start:end], s.text[end:])
}

// octet reads a token as a number below 256.
func octet(token string) (n int, ok bool) {
	n, err := strconv.Atoi(token)
	return n, err == nil && n >= 0 && n <= 255 && isOctetDigit(token[0])
}

// field reads one field.
func (s *patternScanner) field(set *[256]bool) error {
	token := s.next()
	if token != "[" {
		n, ok := octet(token)
		if !ok {
			return s.wrong(`need decimal number 0..255 or "["`)
		}
		set[n] = true
		return nil
	}
	for {
		low, ok := octet(s.next())
		if !ok {
			return s.wrong("need decimal number 0..255")
		}
		high, token := low, s.next()
		if token == ".." {
			if high, ok = octet(s.next()); !ok || high < low {
				return s.wrong("numeric range error")
			}
			token = s.next()
		}
		for n := low; n <= high; n++ {
			set[n] = true
		}
		switch token {
		case "]":
			return nil
		case ";":
		default:
			return s.wrong(`need ";" or "]"`)
		}
	}
}

// Matches reports whether the pattern has the address.
func (p *AddrPattern) Matches(a netip.Addr) bool {
	if p == nil {
		return true
	}
	if !a.Is4() {
		return false
	}
	for i, octet := range a.As4() {
		if !p[i][octet] {
			return false
		}
	}
	return true
}
