// Command postlock is the command of that name; see posthaste/pkg/command/postlock.
package main

import (
	"os"

	"posthaste/pkg/command/postlock"
)

func main() { os.Exit(postlock.Main(os.Args)) }
