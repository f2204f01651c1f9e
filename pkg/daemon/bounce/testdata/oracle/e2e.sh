for p in $OURS; do cp /tmp/pb/$p /usr/lib/postfix/sbin/$p; done
cat >/etc/postfix/transport <<'EOF'
err.test error:5.1.2 no such domain here
err2.test error:plain text
err4.test error:4.1.2 wrong class
ret.test retry:4.7.0 come back
ret2.test retry:later
ret5.test retry:5.0.1 wrong class
disc.test discard:2.1.7 quiet please
disc2.test discard:
disc3.test discard:5.1.1 wrong
send.test retry:4.0.0 held
EOF
postconf -e transport_maps=texthash:/etc/postfix/transport mydestination= default_transport=retry:4.0.0 notify_classes=bounce,2bounce virtual_alias_maps='inline:{list@v.test=a@err.test}' virtual_alias_domains=v.test fast_flush_domains=ret.test
postfix start; sleep 1.5
s() { printf 'Subject: hi\n\nbody\n' | sendmail -f s@send.test "$@"; sleep 0.7; }
s a@err.test b@err2.test c@err4.test
s a@ret.test b@ret2.test c@ret5.test
s a@disc.test b@disc2.test c@disc3.test
s list@v.test '"q x"@err.test'
s -bv a@err.test a@ret.test a@disc.test
s -v a@err.test a@ret.test a@disc.test
s -N success,failure -V env1 a@err.test a@disc.test
s -N never a@err.test
s -N delay a@err.test
s -R hdrs a@err.test
s a@send.test
printf 'Subject: hi\n\nbody\n' | sendmail -f '' a@err.test; sleep 1
postconf -e soft_bounce=yes; postfix reload; sleep 1
s a@err.test
postconf -e soft_bounce=no; postfix reload; sleep 1
postqueue -f; sleep 2
postqueue -p | grep -c .
postqueue -s ret.test; sleep 2
postfix stop
find /var/spool/postfix/{active,bounce,defer,trace,flush} -type f | sed "s,[0-9A-F]/[0-9A-F]*$,X/ID," | sort | uniq -c; cat /var/spool/postfix/flush/*
cp /var/log/mail.log $OUT
