// Command postfix is the command of that name; see posthaste/pkg/command/postfix.
package main

import (
	"os"

	"posthaste/pkg/command/postfix"
)

func main() { os.Exit(postfix.Main(os.Args)) }
