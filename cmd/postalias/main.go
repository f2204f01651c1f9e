// Command postalias is the command of that name; see posthaste/pkg/command/postalias.
package main

import (
	"os"

	"posthaste/pkg/command/postalias"
)

func main() { os.Exit(postalias.Main(os.Args)) }
