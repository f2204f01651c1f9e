#!/bin/sh
# make run: a private mail system under DIR that runs as whoever starts it, with
# SMTP on 127.0.0.1:2525 and mail in a Maildir below DIR.
#
#   run.sh EXECUTABLE DIR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exe=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
port=${PORT:-2525}

# The system is rootless: root starts it as nobody.
if [ "$(id -u)" = 0 ]; then
	chown -R nobody: "$dir"
	if ! setpriv --reuid=nobody --regid="$(id -gn nobody)" --clear-groups test -r "$here/run.sh" -a -w "$dir"; then
		echo "make run: started by root it runs as nobody, who cannot reach $dir; start it as an ordinary user" >&2
		exit 1
	fi
	exec setpriv --reuid=nobody --regid="$(id -gn nobody)" --clear-groups env HOME="$dir" sh "$here/run.sh" "$@"
fi
user=$(id -un) group=$(id -gn)
sbin=$dir/sys/usr/sbin

mkdir -p "$dir/etc" "$dir/spool" "$dir/data" "$dir/mail" "$dir/log"
running=no
if [ -x "$sbin/postfix" ] && "$sbin/postfix" -c "$dir/etc" status >/dev/null 2>&1; then running=yes; fi
sh "$here/install.sh" "$exe" "$dir/sys" \
	"anvil bounce cleanup discard dnsblog error flush lmtp local master nqmgr oqmgr pickup pipe postlogd proxymap qmgr qmqpd scache showq smtp smtpd spawn tlsmgr tlsproxy trivial-rewrite verify virtual" \
	"postalias postcat postconf postdrop postfix postkick postlock postlog postmap postqueue postsuper qshape sendmail" "mailq newaliases"

[ -f "$dir/etc/aliases" ] || printf 'postmaster: %s\nroot: %s\n' "$user" "$user" >"$dir/etc/aliases"
[ -f "$dir/etc/main.cf" ] || cat >"$dir/etc/main.cf" <<.
# A rootless Posthaste: everything runs as $user.
compatibility_level = 3.6
queue_directory = $dir/spool
data_directory = $dir/data
command_directory = $sbin
daemon_directory = $dir/sys/usr/lib/postfix/sbin
shlib_directory = no
meta_directory = $dir/etc
sendmail_path = $sbin/sendmail
mailq_path = $dir/sys/usr/bin/mailq
newaliases_path = $dir/sys/usr/bin/newaliases
mail_owner = $user
setgid_group = $group
maillog_file = $dir/log/mail.log
maillog_file_prefixes = $dir/log
myhostname = posthaste.localdomain
mydestination = \$myhostname, localhost
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps = hash:$dir/etc/aliases
alias_database = hash:$dir/etc/aliases
local_recipient_maps = unix:passwd.byname \$alias_maps
mail_spool_directory = $dir/mail/
recipient_delimiter = +
biff = no
.
[ -f "$dir/etc/master.cf" ] || cat >"$dir/etc/master.cf" <<.
# service type  private unpriv  chroot  wakeup  maxproc command + args
127.0.0.1:$port inet n  -       n       -       -       smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
verify    unix  -       -       n       -       1       verify
postlog   unix-dgram n  -       n       -       1       postlogd
.

MAIL_CONFIG=$dir/etc PATH=$sbin:$dir/sys/usr/bin:$PATH
export MAIL_CONFIG PATH
newaliases
if [ $running = yes ]; then postfix reload; else postfix start; fi

echo "== an example message"
printf 'Subject: hello from posthaste\n\nIt works.\n' | sendmail -f "$user" "$user"
n=0
until grep -q 'status=sent' "$dir/log/mail.log" 2>/dev/null || [ $n -ge 100 ]; do n=$((n + 1)); sleep 0.1; done
newest=$(ls -t "$dir/mail/$user/new" 2>/dev/null | head -1)
if [ -z "$newest" ]; then
	echo "make run: the example message did not arrive; the log says:" >&2
	tail -20 "$dir/log/mail.log" >&2
	exit 1
fi
cat "$dir/mail/$user/new/$newest"
echo
echo "== the log ($dir/log/mail.log)"
tail -6 "$dir/log/mail.log"
cat <<.

== it runs: SMTP on 127.0.0.1:$port, mail for $user in $dir/mail/$user
To use its programs:   export MAIL_CONFIG=$dir/etc PATH=$sbin:$dir/sys/usr/bin:\$PATH
  send                 echo hi | sendmail $user
  send by SMTP         swaks --server 127.0.0.1:$port --to $user@localhost
  see the queue        mailq; qshape deferred
  retry, hold, delete  postsuper -r ALL; postsuper -h ID; postsuper -d ID
  watch                tail -f $dir/log/mail.log
To stop it:            postfix -c $dir/etc stop
.
