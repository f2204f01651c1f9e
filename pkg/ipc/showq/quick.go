package showq

// quickly is Next for a message that has arrived as a whole and is as it
// should be. ok is false for everything else, and then nothing was taken.
func (r *Reader) quickly() (m Message, ok bool) {
	var values [len(messageFields)][]byte
	if !r.r.Has(values[:], messageFields[:], quickNumbers) {
		return m, false
	}
	r.message = Message{
		Queue: again(r.message.Queue, values[0]), ID: string(values[1]),
		Time: number(values[2]), Size: number(values[3]),
		ForcedExpire: number(values[4]) != 0,
		Sender:       again(r.message.Sender, values[5]),
	}
	r.inside = true
	return r.message, true
}

// quickRecipient is quickly for Recipient.
func (r *Reader) quickRecipient() (rcpt Recipient, ok bool) {
	var values [len(recipientFields)][]byte
	if !r.r.Has(values[:], recipientFields[:], nil) {
		return rcpt, false
	}
	r.rcpt = Recipient{Address: again(r.rcpt.Address, values[0]), Reason: again(r.rcpt.Reason, values[1])}
	return r.rcpt, true
}

var recipientFields = [...]string{"recipient", "reason"}

// again is value, without a copy of what is the same as last time.
func again(last string, value []byte) string {
	if string(value) == last {
		return last
	}
	return string(value)
}

// quickNumbers tells whether the numbers of a message are plain ones.
func quickNumbers(values [][]byte) bool {
	return plain(values[2]) && plain(values[3]) && plain(values[4])
}

func plain(digits []byte) bool {
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(digits) > 0 && len(digits) < 10 || len(digits) == 10 && digits[0] < '4'
}

// number is the value of plain digits.
func number(digits []byte) int64 {
	var n int64
	for _, c := range digits {
		n = 10*n + int64(c-'0')
	}
	return n
}
