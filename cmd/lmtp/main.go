// Command lmtp delivers by LMTP; see posthaste/pkg/daemon/smtp.
package main

import (
	"os"

	"posthaste/pkg/daemon/smtp"
)

func main() { os.Exit(smtp.Main(os.Args)) }
