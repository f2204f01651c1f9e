package bounce

import "strings"

// Lines of human text in a notice (routing.md §5.3).
const (
	lineLength = 79
	lineIndent = 4
)

// wrap breaks text at blanks so that no line is longer than lineLength; all but
// the first are indented. Words that do not fit on a line are left whole, and
// blanks at the end of lines are dropped.
func wrap(text string, emit func(line string)) {
	room, indent := lineLength, ""
	for {
		line, rest := cutLine(text, room)
		emit(indent + strings.TrimRight(line, " \t"))
		if text = strings.TrimLeft(rest, " \t"); text == "" {
			return
		}
		room, indent = lineLength-lineIndent, strings.Repeat(" ", lineIndent)
	}
}

// cutLine cuts text at the last blank that keeps the line within room, or at the
// first blank if there is none.
func cutLine(text string, room int) (line, rest string) {
	if len(text) <= room {
		return text, ""
	}
	at := strings.LastIndexAny(text[:room+1], " \t")
	if at <= 0 || strings.Trim(text[:at], " \t") == "" {
		at = len(text)
		if n := strings.IndexAny(text[room:], " \t"); n >= 0 {
			at = room + n
		}
	}
	return text[:at], text[at:]
}
