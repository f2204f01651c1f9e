package command

import (
	"fmt"
	"strings"
	"time"
)

// layouts are the conversions of strftime(3) that make sense in a file name.
var layouts = map[byte]string{
	'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'y': "06", 'j': "002", 'F': "2006-01-02",
	'T': "15:04:05", 'b': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'e': "_2",
	'R': "15:04", 'D': "01/02/06", 'z': "-0700", 'Z': "MST",
}

// Strftime formats a time as strftime(3) does. Conversions beyond the usual
// ones are given to other, which returns their text or the error that ends it
// all.
func Strftime(format string, when time.Time, other func(conversion byte) (string, error)) (string, error) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		layout, known := layouts[format[i]]
		switch {
		case format[i] == '%':
			b.WriteByte('%')
		case format[i] == 's':
			fmt.Fprint(&b, when.Unix())
		case known:
			b.WriteString(when.Format(layout))
		default:
			text, err := other(format[i])
			if err != nil {
				return "", err
			}
			b.WriteString(text)
		}
	}
	return b.String(), nil
}
