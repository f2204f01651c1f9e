// Command scache keeps idle connections of delivery agents; see posthaste/pkg/daemon/scache.
package main

import (
	"os"

	"posthaste/pkg/daemon/scache"
)

func main() { os.Exit(scache.Main(os.Args)) }
