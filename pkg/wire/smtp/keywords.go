package smtp

import "strings"

// Keywords is a set of EHLO keywords that are not announced (spec smtpd.md §2.4).
type Keywords uint32

// The keywords, and SilentDiscard, with which nothing is logged.
const (
	No8BITMIME Keywords = 1 << iota
	NoAUTH
	NoETRN
	NoPIPELINING
	NoSIZE
	NoVERP
	NoVRFY
	NoXCLIENT
	NoXFORWARD
	NoSTARTTLS
	NoENHANCED
	NoDSN
	NoSMTPUTF8
	NoCHUNKING
	SilentDiscard
)

var ehloNames = [...]string{"8BITMIME", "AUTH", "ETRN", "PIPELINING", "SIZE", "VERP", "VRFY", "XCLIENT", "XFORWARD",
	"STARTTLS", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "CHUNKING", "SILENT-DISCARD"}

// loggedSMTPUTF8 is how the original's log calls that keyword.
const loggedSMTPUTF8 = "EHLO_MASK_SMTPUTF8"

// ParseKeywords reads a list of keywords; other words are ignored.
func ParseKeywords(list string) Keywords {
	var mask Keywords
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		for i, name := range ehloNames {
			if strings.EqualFold(word, name) {
				mask |= 1 << i
			}
		}
	}
	return mask
}

func (k Keywords) String() string {
	var words []string
	for i, name := range ehloNames {
		if k&(1<<i) == NoSMTPUTF8 {
			words = append(words, loggedSMTPUTF8)
		} else if k&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, " ")
}
