// Command postcat is the command of that name; see posthaste/pkg/command/postcat.
package main

import (
	"os"

	"posthaste/pkg/command/postcat"
)

func main() { os.Exit(postcat.Main(os.Args)) }
