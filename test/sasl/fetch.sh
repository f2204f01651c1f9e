#!/bin/sh
# Unpacks Debian's sasl2-bin (saslauthd, saslpasswd2) and what it needs into a
# directory, for the tests beside this script. Nothing is installed.
set -e
dir=${1:?directory}
rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"
apt-get download sasl2-bin db5.3-util >/dev/null
for deb in *.deb; do
	dpkg -x "$deb" .
	rm "$deb"
done
