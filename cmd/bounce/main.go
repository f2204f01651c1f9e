// Command bounce keeps delivery logs and sends notices; see posthaste/pkg/daemon/bounce.
package main

import (
	"os"

	"posthaste/pkg/daemon/bounce"
)

func main() { os.Exit(bounce.Main(os.Args)) }
