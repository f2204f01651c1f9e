package interchange

// settings is the configuration of every run of the battery, beyond Debian's
// stock main.cf.
var settings = []string{
	"home_mailbox = Maildir/",
	"transport_maps = inline:{ sink.test=smtp:[127.0.0.1]:2526, dead.test=smtp:[127.0.0.1]:2599, drop.test=discard:gone, {err.test = error:5.1.2 no such domain}, {wait.test = retry:4.1.8 not yet}, {pipe.test = filter:} }, proxy:hash:/etc/postfix/transport",
	"virtual_alias_domains = virtual.test, pvirtual.test",
	"virtual_alias_maps = inline:{ anna@virtual.test=alice, {both@virtual.test = alice, bob@mail.example.com}, info@virtual.test=info@sink.test }, proxy:hash:/etc/postfix/valias",
	"virtual_mailbox_domains = vbox.test",
	"virtual_mailbox_base = /home",
	"virtual_mailbox_maps = inline:{ carol@vbox.test=alice/Maildir/ }, proxy:hash:/etc/postfix/vmailbox",
	"virtual_uid_maps = static:2001",
	"virtual_gid_maps = static:2001",
	"sender_canonical_maps = inline:{ old@mail.example.com=new@mail.example.com }",
	"recipient_bcc_maps = inline:{ watched@sink.test=bob@mail.example.com }",
	"header_checks = regexp:/etc/postfix/header_checks",
	"smtp_tls_security_level = none",
	"smtpd_tls_security_level = none",
	"smtpd_tls_chain_files = /etc/postfix/test.pem",
	"smtpd_tls_session_cache_database = btree:${data_directory}/smtpd_scache",
	"smtp_dns_support_level = disabled",
	"notify_classes =",
	"relay_domains = etrn.test, qsite.test, qr.test, qid.test",
	"address_verify_map = proxy:btree:$data_directory/verify_cache",
	"address_verify_poll_delay = 1s",
	"address_verify_poll_count = 20",
	"unverified_recipient_reject_code = 550",
	"postscreen_greet_wait = 6s",
	"postscreen_access_list =",
	"postscreen_dnsbl_action = enforce",
	"proxy_write_maps = $address_verify_map, proxy:btree:$data_directory/ps1, proxy:btree:$data_directory/ps2, proxy:btree:$data_directory/battery",
	"connection_cache_ttl_limit = 20s",
	"smtp_sasl_password_maps = inline:{ {127.0.0.1 = joe:secret} }",
	"smtp_sasl_security_options = noanonymous",
	"smtp_sasl_tls_security_options = noanonymous",
}

// rows are added to Debian's stock master.cf. "C" in the chroot column becomes
// what the cell wants there.
const rows = `
filter unix - n n - - pipe
  flags=FRhqu> user=bob argv=/etc/postfix/filter.sh ${queue_id} ${user} ${sender} ${recipient} ${extension} ${nexthop}
2501 inet n - C - - smtpd -o smtpd_client_message_rate_limit=1 -o smtpd_client_event_limit_exceptions=
2502 inet n - C - - smtpd -o smtpd_client_connection_count_limit=1 -o smtpd_client_event_limit_exceptions=
2503 inet n - C - - smtpd -o smtpd_recipient_restrictions=reject_unverified_recipient,permit -o smtpd_relay_restrictions=permit_mynetworks,reject
2504 inet n - C - - smtpd -o smtpd_tls_security_level=may -o smtpd_sasl_auth_enable=yes -o smtpd_tls_auth_only=yes
  -o smtpd_sasl_type=dovecot -o smtpd_sasl_path=inet:127.0.0.1:7003 -o smtpd_sasl_authenticated_header=yes -o mynetworks=192.0.2.1
2506 inet n - C - - smtpd -o { smtpd_recipient_restrictions = check_policy_service unix:private/policy, permit }
2507 inet n - C - - smtpd -o { smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:2611, permit }
2508 inet n - C - - smtpd -o smtpd_milters=inet:127.0.0.1:7001
2509 inet n - C - - smtpd -o { smtpd_client_restrictions = reject_rbl_client bl.test }
2510 inet n - C - 1 postscreen -o postscreen_cache_map=proxy:btree:$data_directory/ps1 -o postscreen_dnsbl_sites=clean.test
2511 inet n - C - 1 postscreen -o postscreen_cache_map=proxy:btree:$data_directory/ps2 -o postscreen_dnsbl_sites=bl.test*2,clean.test
2517 inet n - C - 1 postscreen -o postscreen_cache_map= -o postscreen_dnsbl_sites=bl.test -o postscreen_tls_security_level=may
2512 inet n - C - - smtpd -o smtpd_proxy_filter=127.0.0.1:2513
2513 inet n - C - - smtpd -o smtpd_authorized_xforward_hosts=127.0.0.0/8
smtpd pass - - C - - smtpd
dnsblog unix - - C - 0 dnsblog
tlsproxy unix - - C - 0 tlsproxy -o smtpd_tls_security_level=may -o smtp_tls_security_level=may
smtpdu unix n - C - - smtpd
628 inet n - C - - qmqpd -o qmqpd_authorized_clients=127.0.0.0/8
qmqp unix n - C - - qmqpd -o qmqpd_authorized_clients=127.0.0.0/8
2615 inet n - C - - qmqpd -o qmqpd_authorized_clients=127.0.0.0/8 -o cleanup_service_name=mcleanup
mcleanup unix n - C - 0 cleanup -o non_smtpd_milters=inet:127.0.0.1:7001
policy unix - n n - 0 spawn user=bob argv=/etc/postfix/policy.sh
2611 inet n n n - 0 spawn user=bob argv=/etc/postfix/policy.sh
2618 inet n n n - 0 spawn user=bob:mail argv=/etc/postfix/answer.sh one two
authsmtp unix - - C - - smtp -o smtp_tls_security_level=encrypt -o smtp_sasl_auth_enable=yes
csmtp unix - - C - - smtp -o smtp_connection_cache_destinations=static:all -o smtp_connection_cache_time_limit=20s
rsmtp unix - - C - - smtp -o smtp_connection_cache_destinations=static:all -o smtp_connection_cache_time_limit=20s
  -o smtp_tls_security_level=encrypt -o smtp_tls_connection_reuse=yes
2601 inet n - C - 1 anvil
2602 inet n - C - 0 dnsblog
2603 inet n - C - - trivial-rewrite
2605 inet n - C - 0 cleanup
2606 inet n - C - 1 verify -o address_verify_map=
2607 inet n - C - 0 flush
2608 inet n - C - - showq
2610 inet n - C - 1 scache
2612 inet n - C - - discard
2614 inet n - C - - smtp
2616 inet n n n - - local
2619 inet n n n - - virtual
2620 inet n - C - - lmtp
2621 inet n n n - - pipe flags=F user=bob argv=/bin/cat
`

// prepare makes the users' files: aliases, a .forward, header_checks. $1 are
// the rows; $2 is the chroot column, $3 a sed script for master.cf.
const prepare = `
set -e
# Queue ids hold the inode number: make all of one length, or sizes differ.
cd /var/spool/postfix; mkdir burn; seq -f burn/%g 5000 | xargs touch; rm -r burn
cat >/etc/aliases <<'.'
postmaster: root
root: alice
team: :include:/etc/postfix/team
archive: /var/mail/archive
prog: "|/bin/cat >/var/mail/prog.out; exit 0"
fail: "|echo the program says no; exit 69"
list: alice, nosuch-member
owner-list: bob
.
printf 'alice, bob\n# nobody\nfar@sink.test\n' >/etc/postfix/team
printf '/^X-Hold:/ HOLD\n/^X-Warn:/ WARN look here\n/^X-Gone:/ IGNORE\n/^X-Filter:/ FILTER filter:box\n' >/etc/postfix/header_checks
install -d -o root -m 1777 /var/mail
printf 'alice@mail.example.com\n\\bob\n' >/home/bob/.forward; chown bob:bob /home/bob/.forward
newaliases
cd /etc/postfix
printf 'dora@pvirtual.test alice\n' >valias
printf 'erin@vbox.test alice/Maildir/\n' >vmailbox
printf '%s\n' 'proxied.test smtp:[127.0.0.1]:2526' 'lmtp.test lmtp:inet:127.0.0.1:2528' 'ulmtp.test lmtp:unix:lmtp.sock' 'auth.test authsmtp:[127.0.0.1]:2527' 'cache.test csmtp:[127.0.0.1]:2526' 'reuse.test rsmtp:[127.0.0.1]:2527' \
  'etrn.test smtp:[127.0.0.1]:2526' 'qsite.test smtp:[127.0.0.1]:2526' 'qr.test smtp:[127.0.0.1]:2526' 'qid.test smtp:[127.0.0.1]:2526' >transport
for t in valias vmailbox transport; do postmap hash:$t; done
cat >/etc/postfix/filter.sh <<'.'
#!/bin/sh
# filter.sh QUEUEID USER ...: keeps what it is given, and its arguments, in bob's mailbox.
umask 022; mkdir -p /home/bob/Maildir/new
{ echo "$@"; id -un; pwd; cat; } >/home/bob/Maildir/new/filter.$1
case $2 in no*) echo "5.7.2 not for $2"; exit 77;; esac
echo taken for $2
.
cat >/etc/postfix/policy.sh <<'.'
#!/bin/sh
# policy.sh: answers policy requests (spec ipc.md 3.1) until its client leaves.
while read -r line; do
	case $line in
	recipient=*) r=${line#*=} ;;
	"") case $r in
		refuse*) echo "action=554 5.7.1 not by policy of $(id -un)" ;;
		*) echo "action=prepend X-Policy: $(id -un) has seen $r" ;;
		esac; echo ;;
	esac
done
.
cat >/etc/postfix/answer.sh <<'.'
#!/bin/sh
# answer.sh: says who it is and what it was given and sends one line back.
id -un; id -gn; pwd; echo "$# $*"; read -r line; echo "got $line"
.
chmod 755 /etc/postfix/*.sh
printf '%s' "$1" | sed "s/ C / $2 /" >>master.cf
[ "$2" = y ] || sed -i -E '/^[^# ]/s/^(\S+\s+\S+\s+\S+\s+\S+\s+)y /\1n /' master.cf
[ -z "$3" ] || sed -i -E "$3" master.cf
`
