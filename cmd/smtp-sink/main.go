// Command smtp-sink is the command of that name; see posthaste/pkg/command/smtpsink.
package main

import (
	"os"

	"posthaste/pkg/command/smtpsink"
)

func main() { os.Exit(smtpsink.Main(os.Args)) }
