// Command mailq is sendmail under that name; see posthaste/pkg/command/sendmail.
package main

import (
	"os"

	"posthaste/pkg/command/sendmail"
)

func main() { os.Exit(sendmail.Main(os.Args)) }
