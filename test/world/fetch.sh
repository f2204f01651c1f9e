#!/bin/sh
# Fetch Debian 12's postfix package, and the libraries that its programs miss on
# this machine, and unpack them below DIR. Nothing is installed. Exit status 75:
# the packages cannot be had here.
#
#   fetch.sh DIR
set -eu
dir=$1
version=3.7.11-0+deb12u1
[ -x "$dir/usr/lib/postfix/sbin/master" ] && exit 0
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "fetch.sh: needs apt-get and dpkg" >&2; exit 75; }
work=$dir.part
rm -rf "$work"; mkdir -p "$work/deb" "$work/root"

download() { # as root apt wants a directory that its own user can write; any user may ask it not to switch
	(cd "$work/deb" && apt-get -q -o APT::Sandbox::User=root download "$@") >/dev/null 2>&1
}
private_lists() { # an ordinary user cannot run apt-get update on the system's lists
	mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
	set -- -q -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User=root
	apt-get "$@" update >/dev/null 2>&1 && (cd "$work/deb" && apt-get "$@" download "postfix=$version") >/dev/null 2>&1
}
download "postfix=$version" ||
	{ [ "$(id -u)" = 0 ] && apt-get -q update >/dev/null 2>&1 && download "postfix=$version"; } ||
	private_lists ||
	{ echo "fetch.sh: Debian's postfix $version cannot be had from the package registry" >&2; exit 75; }
dpkg -x "$work"/deb/postfix_*.deb "$work/root"

library=$work/root/usr/lib/postfix
missing() { LD_LIBRARY_PATH=$library ldd "$library"/sbin/* "$library"/*.so 2>/dev/null | sed -n 's/^\t*\([^ ]*\) => not found.*/\1/p' | sort -u; }
for so in $(missing); do
	case $so in
	libdb-5.3.so) p=libdb5.3 ;; libicu*) p=libicu72 ;; libsasl2*) p=libsasl2-2 ;;
	libssl*|libcrypto*) p=libssl3 ;; libnsl*) p=libnsl2 ;; libtirpc*) p=libtirpc3 ;; *) continue ;;
	esac
	download "$p" || true
done
for deb in "$work"/deb/*.deb; do dpkg -x "$deb" "$work/root"; done
if [ -n "$(missing)" ]; then echo "fetch.sh: libraries not found: $(missing)" >&2; exit 75; fi
rm -rf "$dir"; mv "$work/root" "$dir"; rm -rf "$work"
