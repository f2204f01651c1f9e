// Command postkick is the command of that name; see posthaste/pkg/command/postkick.
package main

import (
	"os"

	"posthaste/pkg/command/postkick"
)

func main() { os.Exit(postkick.Main(os.Args)) }
