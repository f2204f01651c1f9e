// Command rmail is the command of that name; see posthaste/pkg/command/rmail.
package main

import (
	"os"

	"posthaste/pkg/command/rmail"
)

func main() { os.Exit(rmail.Main(os.Args)) }
