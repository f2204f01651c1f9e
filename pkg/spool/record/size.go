package record

import (
	"fmt"
	"strconv"
)

// SizeLength is the length of the data of every size record, so that it can
// be overwritten in place.
const SizeLength = 95

// Hints to the queue manager in SizeRecord.Hints (spec queue.md §2.4).
const (
	HintMixed        = 1 // recipients are mixed with other records
	HintNotifyNever  = 2
	HintNotifySucc   = 4
	HintNotifyFail   = 8
	HintNotifyDelay  = 16
	HintAll          = HintMixed | HintNotifyNever | HintNotifySucc | HintNotifyFail | HintNotifyDelay
	SizeFlagUTF8     = 1 // SMTPUTF8 was requested
	SizeFlagHeader   = 2 // a header is UTF-8
	SizeFlagSender   = 4 // the sender is UTF-8
	sizeRecordFields = 6
)

// SizeRecord is the data of a size record (spec queue.md §2.4).
type SizeRecord struct {
	ContentSize   int64 // bytes of the content segment, record overhead included
	DataOffset    int64 // offset of the first byte behind the 'M' record
	Recipients    int64 // number of recipients cleanup wrote
	Hints         int64 // HintMixed ...
	ContentLength int64 // as ContentSize, but right after a Milter replaced the body
	UTF8Flags     int64 // SizeFlagUTF8 ...
}

// String is the data: 95 bytes whenever the numbers have at most 15 digits.
func (s SizeRecord) String() string {
	return fmt.Sprintf("%15d %15d %15d %15d %15d %15d", s.ContentSize, s.DataOffset, s.Recipients, s.Hints, s.ContentLength, s.UTF8Flags)
}

// ParseSize reads the data of a size record. n is the number of fields that
// were there and numeric, at most 6: 1 is a file of before Postfix 1.0; 0 is
// not a size record.
func ParseSize(data []byte) (s SizeRecord, n int) {
	fields := [sizeRecordFields]*int64{&s.ContentSize, &s.DataOffset, &s.Recipients, &s.Hints, &s.ContentLength, &s.UTF8Flags}
	text := string(data)
	for n < len(fields) {
		for text != "" && (text[0] == ' ' || text[0] >= '\t' && text[0] <= '\r') {
			text = text[1:]
		}
		end := 0
		for end < len(text) && (text[end] >= '0' && text[end] <= '9' || end == 0 && (text[end] == '-' || text[end] == '+')) {
			end++
		}
		v, err := strconv.ParseInt(text[:end], 10, 64)
		if err != nil {
			return s, n
		}
		*fields[n] = v
		text = text[end:]
		n++
	}
	return s, n
}
