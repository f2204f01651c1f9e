// Command pickup takes submitted mail from the maildrop; see posthaste/pkg/daemon/pickup.
package main

import (
	"os"

	"posthaste/pkg/daemon/pickup"
)

func main() { os.Exit(pickup.Main(os.Args)) }
