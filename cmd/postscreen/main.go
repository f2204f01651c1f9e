// Command postscreen tests SMTP clients before smtpd sees them; see posthaste/pkg/daemon/postscreen.
package main

import (
	"os"

	"posthaste/pkg/daemon/postscreen"
)

func main() { os.Exit(postscreen.Main(os.Args)) }
