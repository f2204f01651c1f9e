package table

import "posthaste/pkg/conf"

// separators are the bytes between list elements (config.md 1.6).
const separators = ", \t\r\n"

// SplitList splits text at commas and white space outside balanced braces.
func SplitList(text string) []string { return conf.FieldsBraced(text) }
