// Package postmap is the command postmap, which makes, changes and searches lookup
// tables (config.md 3.8): package maptool in the style for "key value" lines.
package postmap

import (
	"posthaste/pkg/command"
	"posthaste/pkg/command/maptool"
	"posthaste/pkg/table"
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int {
	return maptool.Run(args, env, maptool.Style{
		Usage:     "[-bfFhimnNoprsuUvw] [-c config_dir] [-d key] [-q key] [map_type:]file...",
		Options:   "bc:d:fFhimnNopq:rsuUvw",
		Separator: "\t",
		Fill:      fill,
	})
}

// fill reads lines "key whitespace value".
func fill(t *maptool.Tool, src maptool.Source, w *table.Writer) error {
	s := table.NewSource(t.Reader(src))
	s.UTF8 = t.InUTF8()
	s.Files = t.Flags&table.SrcRHSIsFile != 0
	for {
		key, value, _, ok := s.Next()
		if !ok {
			return s.Err()
		}
		if err := w.Put(key, value); err != nil {
			return err
		}
	}
}
