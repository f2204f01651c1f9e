// Command smtp-source is the command of that name; see posthaste/pkg/command/smtpsource.
package main

import (
	"os"

	"posthaste/pkg/command/smtpsource"
)

func main() { os.Exit(smtpsource.Main(os.Args)) }
