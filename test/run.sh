#!/bin/sh
# make test: everything this machine can run. What is fetched is unpacked under
# build/; what is skipped says why.
set -u
export GO=${GO:-go}
status=0

echo "== Debian's postfix, the oracle"
if sh test/world/fetch.sh build/debian; then
	echo "unpacked in build/debian"
else
	echo "SKIP: the differential and interchange tests: Debian's package cannot be had here"
	[ -n "${CI:-}" ] && exit 1
fi
[ "$(id -u)" = 0 ] || echo "SKIP: tests that need root (namespaces, other users, port 25): run 'sudo make test' for them"

echo "== the programs that stand beside a mail system"
if sh test/world/components.sh build/components; then
	echo "unpacked in build/components"
else
	echo "SKIP: the handbook and the tests of SASL: these programs cannot be had here"
	[ -n "${CI:-}" ] && exit 1
fi

echo "== our suite at Debian's paths"
make --no-print-directory build/ours || exit 1

echo "== tests"
if [ -z "$(gofmt -l cmd pkg test docs)" ]; then :; else gofmt -l cmd pkg test docs; echo "not gofmt-clean"; status=1; fi
$GO vet ./cmd/... ./pkg/... ./test/... ./docs/... || status=1
$GO build -o build/report ./test/report || exit 1
# Most tests wait for mail systems of their own, so more run at once than there
# are processors. What fails in that crowd is run once more by itself, and said:
# a defect fails again, a machine that was too slow for a moment does not.
$GO test -json -count=1 -timeout 9m -p 2 -parallel 6 ./cmd/... ./pkg/... ./test/... ./docs/... | tee build/tests.json | ./build/report || {
	again=$(sed -n 's/.*"Action":"fail","Package":"\([^"]*\)","Elapsed".*/\1/p' build/tests.json | sort -u)
	[ -n "$again" ] || exit 1
	echo "== once more, one at a time:" $again
	# shellcheck disable=SC2086 -- a list of packages
	$GO test -json -count=1 -timeout 9m -p 1 -parallel 2 $again | ./build/report || status=1
}
exit $status
