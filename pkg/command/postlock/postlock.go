// Package postlock is the command postlock.
package postlock

import (
	"posthaste/pkg/command"
)

// Main runs the command in the environment of the process.
func Main(args []string) int { return Run(args, command.OS()) }

// Run runs the command; args[0] is the name it was called as.
func Run(args []string, env command.Env) int { panic("later") }
