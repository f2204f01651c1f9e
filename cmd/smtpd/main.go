// Command smtpd is the SMTP server; see posthaste/pkg/daemon/smtpd.
package main

import (
	"os"

	"posthaste/pkg/daemon/smtpd"
)

func main() { os.Exit(smtpd.Main(os.Args)) }
