#!/bin/sh
# Lay the suite down at Debian's paths: one executable, hard-linked under each
# program's name. Set-gid programs are copies of their own, because a hard link
# shares its mode and group.
#
#   install.sh EXECUTABLE DESTDIR "DAEMONS" "SBIN PROGRAMS" "NAMES FOR SENDMAIL"
set -eu
exe=$1 dest=$2 daemons=$3 sbin=$4 names=$5
libexec=$dest/usr/lib/postfix/sbin

install -d "$libexec" "$dest/usr/sbin" "$dest/usr/bin" "$dest/usr/lib" "$dest/usr/share/postfix"
install -m 755 "$exe" "$libexec/posthaste.new"
mv -f "$libexec/posthaste.new" "$libexec/posthaste"
place() { # link into place without a moment in which the name is missing
	ln -f "$libexec/posthaste" "$1.new" 2>/dev/null || cp -p "$libexec/posthaste" "$1.new" # another file system
	mv -fT "$1.new" "$1"
}
for p in $daemons; do place "$libexec/$p"; done
for p in $sbin; do
	case $p in
	postdrop|postqueue) install -m 755 "$exe" "$dest/usr/sbin/$p.new" && mv -fT "$dest/usr/sbin/$p.new" "$dest/usr/sbin/$p" ;;
	*) place "$dest/usr/sbin/$p" ;;
	esac
done
for p in $names; do ln -sfn ../sbin/sendmail "$dest/usr/bin/$p"; done
ln -sfn ../sbin/sendmail "$dest/usr/lib/sendmail"
ln -sfn ../sbin/rmail "$dest/usr/bin/rmail"

# postdrop and postqueue open directories of the group postdrop for their caller.
if [ "$(id -u)" = 0 ] && getent group postdrop >/dev/null; then
	for p in postdrop postqueue; do
		chgrp postdrop "$dest/usr/sbin/$p" && chmod 2555 "$dest/usr/sbin/$p"
	done
elif [ -z "$dest" ]; then
	echo "install: no group postdrop (or not root): make postdrop and postqueue set-gid postdrop yourself" >&2
fi
# What new instances begin with; a package's own files stay.
install -d "$dest/etc/postfix"
for proto in "$(dirname "$0")"/conf/*.proto; do
	[ -e "$dest/etc/postfix/$(basename "$proto")" ] || install -m 644 "$proto" "$dest/etc/postfix/"
done
if [ -d "$(dirname "$0")/systemd" ]; then
	install -d "$dest/lib/systemd/system"
	for unit in "$(dirname "$0")"/systemd/*.service; do
		[ -e "$unit" ] && [ ! -e "$dest/lib/systemd/system/$(basename "$unit")" ] && install -m 644 "$unit" "$dest/lib/systemd/system/"
	done
	install -d "$dest/usr/lib/systemd/user"
	install -m 644 "$(dirname "$0")"/systemd/user/*.service "$dest/usr/lib/systemd/user/"
fi
exit 0
