// Command postconf is the command of that name; see posthaste/pkg/command/postconf.
package main

import (
	"os"

	"posthaste/pkg/command/postconf"
)

func main() { os.Exit(postconf.Main(os.Args)) }
