#!/bin/sh
# Fetch the programs that a mail handbook puts beside the mail system, with the
# libraries that they miss on this machine, and unpack them below DIR. Nothing
# is installed. Exit status 75: they cannot be had here.
#
#   fetch.sh DIR
set -eu
dir=$1
packages="dnsmasq-base dovecot-core dovecot-imapd dovecot-lmtpd sasl2-bin libsasl2-modules libsasl2-modules-db swaks
	libnet-ssleay-perl libio-socket-ssl-perl msmtp fetchmail mutt procmail spamd spamc spamassassin opendkim opendkim-tools
	postgrey fail2ban pflogsumm libdate-calc-perl openssl postfix-pcre postfix-policyd-spf-python"
stamp=$dir/.packages
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$packages" ] && exit 0
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "fetch.sh: needs apt-get and dpkg" >&2; exit 75; }
work=$dir.part
rm -rf "$work"; mkdir -p "$work/deb" "$work/root" "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
work=$(cd "$work" && pwd)

apt() { apt-get -q -o APT::Sandbox::User=root -o Debug::NoLocking=1 "$@"; }
# What would be installed: "name" for each package that is not here yet. Postfix
# itself is only what postfix-pcre is for: the suites are elsewhere.
wanted() {
	apt "$@" -s install --no-install-recommends $packages >"$work/plan" 2>/dev/null &&
		sed -n 's/^Inst \([^ ]*\) .*/\1/p' "$work/plan" | { grep -vx postfix || :; }
}
download() { # the rest, when some are here already, may be nothing
	names=$(wanted "$@") && { [ -z "$names" ] || (cd "$work/deb" && apt "$@" download $names) >/dev/null 2>&1; }
}
private="-o Dir::State::lists=$work/apt/lists -o Dir::Cache=$work/apt/cache"
download ||
	{ [ "$(id -u)" = 0 ] && apt-get -q update >/dev/null 2>&1 && download; } ||
	{ apt $private update >/dev/null 2>&1 && download $private; } ||
	{ echo "fetch.sh: the handbook's components cannot be had from the package registry" >&2; exit 75; }

for deb in "$work"/deb/*.deb; do
	if [ -f "$deb" ]; then dpkg -x "$deb" "$work/root"; fi
done
# One tree: /lib, /bin and /sbin are links to /usr here.
for d in lib bin sbin; do
	if [ -d "$work/root/$d" ]; then
		mkdir -p "$work/root/usr/$d"
		cp -a "$work/root/$d/." "$work/root/usr/$d/"
		rm -rf "$work/root/$d"
	fi
done
chmod 755 "$work/root"
echo "$packages" >"$work/root/.packages"
rm -rf "$dir"; mv "$work/root" "$dir"; rm -rf "$work"
