package main

import (
	"os"
	"path/filepath"

	"posthaste/pkg/command/postalias"
	"posthaste/pkg/command/postmap"
)

func main() {
	if filepath.Base(os.Args[0]) == "postalias" {
		os.Exit(postalias.Main(os.Args))
	}
	os.Exit(postmap.Main(os.Args))
}
