# Posthaste: make, make run, make test, make lint, make bench, make install DESTDIR=
GO      ?= go
DESTDIR ?=
BUILD   := build
export CGO_ENABLED ?= 1

DAEMONS  := anvil bounce cleanup discard dnsblog error flush fsstone lmtp local master nqmgr oqmgr pickup pipe postlogd postscreen proxymap qmgr qmqpd scache showq smtp smtpd spawn tlsmgr tlsproxy trivial-rewrite verify virtual
SBIN     := postalias postcat postconf postdrop postfix postkick postlock postlog postmap postmulti postqueue postsuper posttls-finger qmqp-sink qmqp-source qshape rmail sendmail smtp-sink smtp-source
BINLINKS := mailq newaliases

.PHONY: all build run test lint bench clean install programs check-clean
all: build

build: $(BUILD)/posthaste

# One executable holds all programs; the Go tool knows what is out of date.
.PHONY: $(BUILD)/posthaste
$(BUILD)/posthaste:
	$(GO) build -trimpath -ldflags "-s -w" -o $@ ./cmd/posthaste

# Every program as an executable of its own, in build/bin.
programs:
	mkdir -p $(BUILD)/bin
	$(GO) build -trimpath -o $(BUILD)/bin/ ./cmd/...

# A private, rootless mail system under ./run.
run: build
	sh packaging/run.sh $(BUILD)/posthaste ./run

# Everything this machine can run. It says what it skips, and why.
test: build
	sh test/run.sh

lint:
	@test -z "$$(gofmt -l cmd pkg test docs)" || { gofmt -l cmd pkg test docs; echo "not gofmt-clean"; exit 1; }
	$(GO) vet ./...
	@if command -v staticcheck >/dev/null; then staticcheck ./...; else $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./... ; fi

# Side by side with Debian's postfix, in the same run. Needs root.
bench: $(BUILD)/ours $(BUILD)/debian
	$(GO) run ./test/bench

# The two suites as the tests use them.
.PHONY: $(BUILD)/ours $(BUILD)/debian
$(BUILD)/ours: build
	rm -rf $@.new $@.old
	$(MAKE) --no-print-directory install DESTDIR=$@.new >/dev/null
	if [ -d $@ ]; then mv $@ $@.old; fi
	mv $@.new $@; rm -rf $@.old
$(BUILD)/debian:
	sh test/world/fetch.sh $@

# Debian's paths: one file under many names.
install: build
	sh packaging/install.sh $(BUILD)/posthaste "$(DESTDIR)" "$(DAEMONS)" "$(SBIN)" "$(BINLINKS)"
	$(GO) run ./docs/man -z -o "$(DESTDIR)/usr/share/man"

clean:
	rm -rf $(BUILD) run
