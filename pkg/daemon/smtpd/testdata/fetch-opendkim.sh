#!/bin/sh
# Unpack Debian's opendkim and the libraries it needs below DIR, for the test
# TestOpenDKIM. Nothing is installed. Exit status 75: they cannot be had here.
#
#   fetch-opendkim.sh DIR
set -eu
dir=$1
[ -x "$dir/usr/sbin/opendkim" ] && exit 0
work=$dir.part
rm -rf "$work"; mkdir -p "$work/deb" "$work/root"
(cd "$work/deb" && apt-get -q -o APT::Sandbox::User=root download opendkim libopendkim11 libmilter1.0.1 libvbr2 librbl1 liblua5.3-0 \
	libunbound8 libdb5.3 libbsd0 libmd0 libmemcached11 libhashkit2 libopendbx1 libldap-2.5-0) >/dev/null 2>&1 || exit 75
for deb in "$work"/deb/*.deb; do dpkg -x "$deb" "$work/root"; done
rm -rf "$dir"; mv "$work/root" "$dir"; rm -rf "$work"
