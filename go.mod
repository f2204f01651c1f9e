module posthaste

go 1.26.0

require (
	github.com/colinmarc/cdb v0.0.0-20190223170904-60f317823f70
	github.com/d--j/go-milter v0.10.1
	github.com/dlclark/regexp2 v1.12.0
	github.com/emersion/go-maildir v0.6.0
	github.com/emersion/go-smtp v0.25.1
	github.com/miekg/dns v1.1.73
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.49.0
	golang.org/x/text v0.43.0
)

require github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6

require github.com/emersion/go-message v0.18.2 // indirect
