package showq

import (
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"posthaste/pkg/ipc/attr"
)

// everything is what a Reader makes of a stream.
func everything(in io.Reader) (list []any) {
	r := NewReader(attr.NewReader(in, attr.Null, "x"))
	if err := r.Begin(); err != nil {
		return append(list, err.Error())
	}
	for {
		m, err := r.Next()
		if err != nil {
			return append(list, err.Error())
		}
		list = append(list, m)
		for {
			rcpt, more, err := r.Recipient()
			if err != nil {
				return append(list, err.Error())
			}
			if !more {
				break
			}
			list = append(list, rcpt)
		}
	}
}

// What has arrived as a whole is read in another way than what comes byte by
// byte. Both see the same.
func TestQuicklyIsTheSame(t *testing.T) {
	streams := []string{
		transcript,
		strings.Replace(transcript, "time\x001795328752", "time\x00-5", 1),
		strings.Replace(transcript, "size\x00344", "size\x0099999999999999", 1),
		strings.Replace(transcript, "size\x00344", "size\x00many", 1),
		strings.Replace(transcript, "forced_expire\x000", "forced_expire\x001", 1),
		strings.Replace(transcript, "sender\x00", "other\x00x\x00sender\x00", 1),
		strings.Replace(transcript, "reason\x00", "cause\x00", 1),
	}
	for cut := range transcript {
		streams = append(streams, transcript[:cut])
	}
	for _, s := range streams {
		quick, slow := everything(strings.NewReader(s)), everything(iotest.OneByteReader(strings.NewReader(s)))
		if !reflect.DeepEqual(quick, slow) {
			t.Errorf("%q:\nat once       %v\nbyte by byte  %v", s, quick, slow)
		}
	}
}
