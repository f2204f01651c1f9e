#!/bin/bash
# Runs the scenarios with Debian's pipe(8) and virtual(8) and with ours (in the
# directory OURS, by default /tmp/vp) and shows the difference. See README.
# usage, as root: compare.sh [scenario...]
here=$(cd "$(dirname "$0")" && pwd); out=${OUT:-/tmp/vp-diff}; mkdir -p $out; rm -f $out/ours.* ; [ -n "$SKIP_DEBIAN" ] || rm -f $out/*
export OURS=${OURS:-/tmp/vp}
one() { # which shard scenario...
  SHARD=$2 unshare -m -n -p -f --mount-proc bash ${WORLD:-/work/api/world-demo.sh} bash -c '
    cp /usr/lib/postfix/sbin/pipe /usr/lib/postfix/sbin/dpipe
    if [ "$1" = ours ]; then cp $OURS/pipe $OURS/virtual /usr/lib/postfix/sbin/; fi
    shift; exec python3 "$@"' x $1 "$here/run.py" "${@:3}" >$out/$1.${2%/*}.part 2>$out/$1.${2%/*}.err; }
shards=${SHARDS:-3}; [ $# -eq 0 ] || shards=1
for ((i = 0; i < shards; i++)); do
  [ -n "$SKIP_DEBIAN" ] || one debian $i/$shards "$@" &
  one ours $i/$shards "$@" &
done
wait
[ -n "$SKIP_DEBIAN" ] || cat $out/debian.*.part >$out/debian.txt; cat $out/ours.*.part >$out/ours.txt
exec python3 $here/same.py $out/debian.txt $out/ours.txt
