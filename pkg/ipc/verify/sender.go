package verify

import (
	"strings"
	"time"
)

// ProbeSender is the sender of a probe at a time: with a ttl its local part
// ends in the number of the current period, so that an address that leaked to
// spammers goes out of use (address_verify_sender_ttl). Without a ttl of at
// least a second it is addr.
func ProbeSender(addr string, ttl time.Duration, now time.Time) string {
	if ttl < time.Second || addr == "" {
		return addr
	}
	period := base31(uint64(now.Unix() / int64(ttl/time.Second)))
	if i := strings.LastIndexByte(addr, '@'); i >= 0 {
		return addr[:i] + period + addr[i:]
	}
	return addr + period
}

// base31 writes a number with digits and the capital consonants.
func base31(n uint64) string {
	const digits = "0123456789BCDFGHJKLMNPQRSTVWXYZ"
	var b []byte
	for {
		b = append([]byte{digits[n%31]}, b...)
		if n /= 31; n == 0 {
			return string(b)
		}
	}
}
