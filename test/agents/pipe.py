"""Scenarios for pipe(8) and virtual(8)."""
SENDER = 'S@sink.test'
ROOTS = ['/vmail', '/capture', '/out']
LOGGED = r' postfix/(pipe|virtual|tp)\b|status=deferred'

PREPARE = r'''
for d in /vmail /capture /out /jail; do mkdir -p $d; mount -t tmpfs -o mode=755 t $d; done
n=2001; for u in joe bob vm; do echo "$u:x:$n:$n:$u:/home/$u:/bin/sh" >>/etc/passwd; echo "$u:x:$n:" >>/etc/group; n=$((n+1)); done
echo 'zero:x:2009:0:z:/:/bin/sh' >>/etc/passwd; echo 'dropper:x:2010:952:z:/:/bin/sh' >>/etc/passwd; echo 'pfg:x:2011:951:z:/:/bin/sh' >>/etc/passwd
cat >/usr/local/capture <<'X'
#!/bin/sh
{ echo "=== $1 <- $2"; cat; } >>/capture/all
X
cat >/usr/local/p <<'X'
#!/bin/sh
umask 0
{ for a; do echo "[$a]"; done; env | grep -v ^PWD | sort; id; pwd; echo ---; cat; echo ===; } >>/out/all
[ ! -f /out/rc ] || . /out/rc
X
chmod 755 /usr/local/capture /usr/local/p
printf 'capture unix - n n - 1 dpipe flags=X user=nobody argv=/usr/local/capture ${recipient} ${sender}\n' >>/etc/postfix/master.cf
'''

BASE = '''
transport_maps = inline:{sink.test=capture:,remote.test=capture:,pipe.test=tp:,hop.test=tp:Some.Hop,v.test=virtual:}
alias_maps = hash:/etc/aliases
mydomain = example.com
myorigin = $myhostname
append_dot_mydomain = no
smtp_tls_security_level = none
notify_classes =
deliver_lock_attempts = 2
deliver_lock_delay = 1s
local_recipient_maps =
recipient_delimiter = +
minimal_backoff_time = 1000s
service_throttle_time = 1s
transport_retry_time = 1s
capture_destination_recipient_limit = 1
tp_destination_concurrency_limit = 1
virtual_destination_concurrency_limit = 1
virtual_mailbox_base = /vmail
virtual_mailbox_maps = texthash:/etc/postfix/vmap
virtual_uid_maps = static:2003
virtual_gid_maps = static:2003
'''

WIPE = r'''umount /vmail/full 2>/dev/null; rm -rf /vmail/* /vmail/.[a-z]* /capture/* /out/* /jail/*; chmod 777 /capture; chmod 1777 /out; chown vm:vm /vmail; chmod 755 /vmail /jail
printf 'a@v.test a\nb@v.test b/\nsub@v.test sub/box\nsubm@v.test sub/er/md/\n"q x"@v.test q\ne@v.test e/\n' >/etc/postfix/vmap; chmod 644 /etc/postfix/vmap
'''

ALL = []
def add(name, to, conf='', master='', setup='', mail=None, **m):
    s = dict(name=name, conf=conf, master=master, mail=mail or [dict(to=to, **m)])
    if setup: s['setup'] = setup
    ALL.append(s)
P = '/usr/local/p'
def pipe(name, words, to=('One@pipe.test',), rc='', setup='', line=None, **m):
    if rc: setup += "printf '%%s\\n' '%s' >/out/rc" % rc
    add('pipe-' + name, list(to), master='tp unix - n n - 1 pipe %s\n' % (words if line is None else line), setup=setup, **m)
def run(name, rc, **m): pipe(name, 'user=joe argv=' + P, rc=rc, **m)

JAIL = 'cp -aL --parents /usr/lib/x86_64-linux-gnu/libc.so.6 /usr/lib/x86_64-linux-gnu/libselinux.so.1 /usr/lib/x86_64-linux-gnu/libpcre2-8.so.0 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 /lib64/ld-linux-x86-64.so.2 /bin/sh /bin/cat /bin/ls /jail/ 2>/dev/null; cp -a /jail/usr/lib /jail/; chmod -R a+rX /jail'
TWO = ('Foo+Bar@Pipe.test', 'two@pipe.test')
pipe('plain', 'user=joe argv=%s ${sender} ${recipient}' % P)
for f in 'BDFORX.>hqu': pipe('flag-' + {'.': 'dot', '>': 'gt'}.get(f, f), 'flags=%s user=joe argv=%s ${sender} ${recipient} ${user} ${nexthop} ${domain}' % (f, P), ['"Foo b"+Bar@Pipe.Test'])
pipe('flags-all', 'flags=DORFB.>Xhqu user=joe argv=%s ${sender} ${recipient} ${original_recipient} ${user} ${extension} ${mailbox} ${domain} ${nexthop}' % P, ['"Foo b+Bar"@Pipe.Test'], **{'from': '"s x"@sink.test'})
pipe('flags-none-quoted', 'user=joe argv=%s ${sender} ${recipient} ${user} ${mailbox}' % P, ['"Foo b+Bar"@Pipe.Test'], **{'from': '"s x"@sink.test'})
pipe('flags-uh-utf8', 'flags=uhq user=joe argv=%s ${recipient} ${user} ${domain}' % P, ['\u00c9A@\u00dcx.pipe.test'], conf='transport_maps=static:tp:\n')
pipe('flag-unknown', 'flags=RZ user=joe argv=' + P)
pipe('flag-lower', 'flags=r user=joe argv=' + P)
pipe('flags-twice', 'flags=R flags=F user=joe argv=' + P)
pipe('D-two', 'flags=D user=joe argv=' + P, TWO)
pipe('O-two', 'flags=O user=joe argv=' + P, TWO)
pipe('DO-two', 'flags=OD user=joe argv=' + P, TWO)
pipe('D-two-limit', 'flags=D user=joe argv=%s ${recipient}' % P, TWO, conf='tp_destination_recipient_limit=1\n')
pipe('D-loop', 'flags=D user=joe argv=' + P, body='Delivered-To: ONE@pipe.test\nSubject: x\n\nx\n')
pipe('D-loop-not-header', 'flags=D user=joe argv=' + P, body='Subject: x\n\nDelivered-To: ONE@pipe.test\n')
pipe('noD-loop', 'flags=R user=joe argv=' + P, body='Delivered-To: ONE@pipe.test\nSubject: x\n\nx\n')
pipe('null', 'flags=FR user=joe argv=%s -f ${sender} x' % P, **{'from': ''})
pipe('null-set', 'flags=FRq null_sender={no body@x} user=joe argv=%s ${sender}' % P, **{'from': ''})
pipe('null-empty', 'flags=FRq null_sender= user=joe argv=%s [${sender}]' % P, **{'from': ''})
pipe('multi', 'flags=R user=joe argv=%s -x ${sender} (${recipient}) -- ${user}/${domain} end' % P, ['+x@pipe.test', 'Foo+Bar@pipe.test', 'two@PIPE.test'], **{'from': ''})
pipe('multi-ext', 'user=joe argv=%s ${extension} ${mailbox} ${original_recipient}' % P, TWO)
pipe('macro-forms', 'user=joe argv=%s $recipient ${recipient} $(recipient) $$x a$recipient.b $nexthop:$size ${queue_id}' % P)
pipe('macro-client', 'user=joe argv=%s ${client_address} ${client_hostname} ${client_port} ${client_protocol} ${client_helo} ${sasl_method} ${sasl_username} ${sasl_sender} ${queue_id} ${size}' % P)
for i, bad in enumerate(['${nosuch}', '${extension?x}', '${recipient', '$', 'a$', '$-x', '${}', '$()', '${ recipient }', '${recipient', '$(recipient}', '${Recipient}', '${{a} == {b} ? {c} : {d}}', '$recipientx', 'ok$', '${user:x}']):
    pipe('macro-bad-%d' % i, 'user=joe argv=%s { %s } ${nosuch2}' % (P, bad) if i < 2 else 'user=joe argv=%s %s' % (P, bad) if '{{' not in bad else 'user=joe argv=%s { %s }' % (P, bad))
pipe('macro-nouser', 'user=joe argv=%s ${user}x [${mailbox}] z' % P, ['""@pipe.test', '+a@pipe.test'])
pipe('macro-value-dollar', 'user=joe argv=%s ${recipient}' % P, ['${sender}@pipe.test'])
pipe('macro-argv0', 'user=joe argv=/usr/local/${nexthop} x', conf='transport_maps=inline:{pipe.test=tp:p}\n')
pipe('macro-argv0-rcpt', 'user=joe argv=/usr/local/${user} x', ['p@pipe.test'])
pipe('braces', 'user=joe argv=%s { a b } {c} x{y z' % P)
pipe('nexthop-transport', 'flags=h user=joe argv=%s ${nexthop}' % P, ['x@hop.test'])
pipe('postmaster', 'user=joe argv=%s ${user} ${extension}' % P, ['postmaster@pipe.test', 'double-bounce@pipe.test', 'owner-x@pipe.test'], conf='recipient_delimiter=+-\n')
pipe('noowner', 'user=joe argv=%s ${user} ${extension}' % P, ['owner-x@pipe.test', 'a-b+c@pipe.test', '-a@pipe.test'], conf='recipient_delimiter=+-\nowner_request_special=no\n')
pipe('group', 'user=joe:bob argv=' + P)
pipe('group-empty', 'user=joe: argv=' + P)
pipe('upper-names', 'FLAGS=R User=joe ARGV=%s a' % P)
pipe('directory', 'user=joe directory=/usr/share argv=' + P)
pipe('directory-missing', 'user=joe directory=/nonexist argv=' + P)
pipe('directory-denied', 'user=joe directory=/vmail/x argv=' + P, setup='mkdir -m 700 /vmail/x')
pipe('directory-file', 'user=joe directory=/etc/passwd argv=' + P)
pipe('chroot', 'user=joe chroot=/jail argv=/bin/sh -c {pwd; ls; cat >/o/x; exit 0}', setup=JAIL + '; mkdir -m 777 /jail/o')
pipe('chroot-dir', 'user=joe chroot=/jail directory=/o argv=/bin/sh -c {pwd; exit 3}', setup=JAIL + '; mkdir -m 777 /jail/o')
pipe('chroot-dir-relative', 'user=joe chroot=/jail directory=o argv=/bin/sh -c {pwd; exit 3}', setup=JAIL + '; mkdir -m 777 /jail/o')
pipe('chroot-dir-missing', 'user=joe chroot=/jail directory=/none argv=/bin/sh -c {pwd; exit 3}', setup=JAIL)
pipe('chroot-nocmd', 'user=joe chroot=/jail argv=sh -c true')
pipe('chroot-path', 'user=joe chroot=/jail argv=sh -c {exit 5}', setup=JAIL)
pipe('chroot-missing', 'user=joe chroot=/nojail argv=sh -c true')
pipe('eol', 'flags=FRB.> user=joe eol=\\r\\n argv=' + P)
pipe('eol-octal', 'flags=R user=joe eol=\\012\\101\\q\\\\ argv=' + P)
pipe('eol-empty', 'flags=R user=joe eol= argv=' + P)
pipe('eol-trailing', 'flags=R user=joe eol=x\\ argv=' + P)
pipe('size-ok', 'user=joe size=100000 argv=' + P)
pipe('size-small', 'user=joe size=20 argv=' + P)
pipe('size-bad', 'user=joe size=20k argv=' + P)
pipe('size-empty', 'user=joe size= argv=' + P)
pipe('size-zero', 'user=joe size=0 argv=' + P)
pipe('size-two', 'user=joe size=20 argv=' + P, TWO)
pipe('nouser', 'argv=' + P)
pipe('noargv', 'user=joe')
pipe('emptyargv', 'user=joe argv=')
pipe('emptyargv-more', 'user=joe argv= %s x' % P)
pipe('unknown-user', 'user=nosuch argv=' + P)
pipe('unknown-group', 'user=joe:nosuch argv=' + P)
pipe('root', 'user=root argv=' + P)
pipe('postfix', 'user=postfix argv=' + P)
pipe('gid0', 'user=zero argv=' + P)
pipe('gidpf', 'user=pfg argv=' + P)
pipe('giddrop', 'user=dropper argv=' + P)
pipe('unknown-attr', 'user=joe color=red argv=' + P)
pipe('noequals', 'user=joe flags argv=' + P)
pipe('user-empty', 'user= argv=' + P)
pipe('numeric-user', 'user=2001 argv=' + P)
for n in list(range(64, 79)) + [1, 63, 79, 99, 255]: run('exit-%d' % n, 'exit %d' % n)
run('exit-output', 'echo some text; echo more; exit 67')
run('exit-output-long', 'head -c 9000 /dev/zero | tr "\\0" x; exit 67')
run('exit-dsn', 'echo 5.7.9 go away; exit 1')
run('exit-dsn4', 'echo 4.7.9 come back; exit 67')
run('exit-dsn2', 'echo 2.7.9 odd; exit 1')
run('ok-output', 'echo; echo all fine; echo')
run('ok-output-long', 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo "line $i x"; done')
run('ok-output-dsn', 'echo 2.1.5 Fine')
run('ok-output-binary', 'printf "a\\tb\\001c\\351d\\n"')
run('ok-output-utf8', 'printf "\\303\\251\\303\\251 x \\303"')
run('ok-spaces', 'echo "   "')
run('signal-9', 'kill -9 $$')
run('signal-15', 'echo hello; kill -15 $$')
run('fail-two', 'echo no; exit 67', to=TWO)
run('soft-bounce', 'exit 67', conf='soft_bounce=yes\n')
run('filter', 'exit 67', conf='pipe_delivery_status_filter=inline:{{5.1.1 user unknown=4.1.1 later on}}\n')
run('filter-default', 'echo x', conf='default_delivery_status_filter=regexp:{{/^2(.*)service (.*)/ 2.9.9 it was $2}}\n')
pipe('X-verbose', 'flags=X user=joe argv=' + P, args=['-v'])
pipe('verbose', 'user=joe argv=' + P, args=['-v'])
pipe('probe', 'user=joe argv=%s ${nosuch}' % P, args=['-bv'])
pipe('dsn', 'flags=R user=joe argv=' + P, TWO, args=['-N', 'success,delay'])
pipe('timeout', 'user=joe argv=/bin/sh -c {echo begin; sleep 30}', conf='tp_time_limit=2s\n')
pipe('timeout-quiet', 'user=joe argv=/bin/sleep 30', conf='command_time_limit=2s\n')
pipe('timeout-write', 'user=joe argv=/bin/sleep 30', conf='tp_time_limit=2s\n', body='Subject: x\n\n' + 'x' * 70 + '\n' + ('y' * 70 + '\n') * 4000)
pipe('missing', 'user=joe argv=/nonexist x')
pipe('missing-path', 'user=joe argv=nonexist x')
pipe('in-path', 'user=joe argv=true x')
pipe('notexec', 'user=joe argv=/etc/passwd x')
pipe('isdir', 'user=joe argv=/etc x')
pipe('noshebang', 'user=joe argv=/out/s a b', setup='printf "echo \\$1 \\$2 >/out/ran; cat >>/out/ran" >/out/s; chmod 755 /out/s')
pipe('noread', 'user=joe argv=/bin/true', body='Subject: x\n\n' + ('y' * 70 + '\n') * 4000)
pipe('noread-fail', 'user=joe argv=/bin/false', body='Subject: x\n\n' + ('y' * 70 + '\n') * 4000)
pipe('export', 'user=joe argv=' + P, conf='export_environment=TZ LANG A=b {C = d e}\n')
pipe('long-line', 'user=joe argv=' + P, body='Subject: x\n\n' + 'z' * 5000 + '\nFrom x\n')
pipe('dots', 'flags=.> user=joe argv=' + P, body='Subject: x\n\n.\n..\n.x\n \n>From x\nFrom x\nFROM x\nFrom\n')
pipe('no-original', 'flags=O user=joe argv=%s ${original_recipient}' % P, conf='enable_original_recipient=no\n')
pipe('orig-alias', 'flags=OD user=joe argv=%s ${original_recipient} ${recipient}' % P, ['Ali@pipe.test'], conf='virtual_alias_maps=inline:{ali@pipe.test=One@pipe.test}\n')
pipe('mailman', 'flags=FRX user=joe argv=%s ${nexthop} ${user}' % P, ['User+Ext@Pipe.Test', 'Two@Pipe.Test'])

def v(name, to, **m): add('virtual-' + name, [t if '@' in t else t + '@v.test' for t in to], **m)
v('mbox', ['a'])
v('mbox-case', ['A'])
v('mbox-append', [], mail=[dict(to=['a@v.test']), dict(to=['a@v.test'], **{'from': ''})])
v('mbox-ext', ['a+x'])
v('maildir', ['b'])
v('maildir-twice', [], mail=[dict(to=['b@v.test']), dict(to=['B+e@v.test'])])
v('both', ['a', 'b'])
v('unknown', ['NoSuch', '"no such"'])
v('quoted', ['"q x"'])
v('quoted-unquoted-key', ['"r x"'], conf='virtual_mailbox_maps=inline:{{r x@v.test = r}}\n')
v('domain', ['other'], conf='virtual_mailbox_maps=inline:{@v.test=all}\n')
v('local-part', ['x+y@mail.example.com'], conf='virtual_mailbox_maps=inline:{x=loc}\nlocal_transport=virtual\n')
v('subdir-mbox', ['sub'])
v('subdir-maildir', ['subm'])
v('base-relative', ['a'], conf='virtual_mailbox_base=vmail\n')
v('base-empty', ['a'], conf='virtual_mailbox_base=\n')
v('base-slash', ['b'], conf='virtual_mailbox_base=/\nvirtual_mailbox_maps=inline:{b@v.test=vmail/zz/}\n')
v('uid-missing', ['a'], conf='virtual_uid_maps=inline:{x=1}\n')
v('gid-missing', ['a'], conf='virtual_gid_maps=inline:{x=1}\n')
v('uid-none', ['a'], conf='virtual_uid_maps=\n')
v('gid-none', ['a'], conf='virtual_gid_maps=\n')
v('uid-low', ['a'], conf='virtual_uid_maps=static:99\n')
v('uid-min', ['a'], conf='virtual_minimum_uid=3000\n')
v('uid-zero', ['a'], conf='virtual_uid_maps=static:0\nvirtual_minimum_uid=1\n')
v('uid-bad', ['a'], conf='virtual_uid_maps=static:abc\n')
v('uid-trail', ['a'], conf='virtual_uid_maps=static:2003x\n')
v('uid-neg', ['a'], conf='virtual_uid_maps=static:-5\n')
v('uid-big', ['a'], conf='virtual_uid_maps=static:99999999999\n')
v('gid-zero', ['a'], conf='virtual_gid_maps=static:0\n')
v('gid-neg', ['a'], conf='virtual_gid_maps=static:-1\n')
v('gid-bad', ['a'], conf='virtual_gid_maps=static:vm\n')
v('uid-maps', ['a', 'b'], conf='virtual_uid_maps=inline:{a@v.test=2001,@v.test=2002}\nvirtual_gid_maps=inline:{a@v.test=2001,b@v.test=2002}\n', setup='chmod 777 /vmail')
v('other-user', ['a', 'b'], conf='virtual_uid_maps=static:2001\n')
v('map-missing', ['a'], conf='virtual_mailbox_maps=hash:/etc/postfix/nonexist\n')
v('map-empty', ['a'], conf='virtual_mailbox_maps=\n')
v('uid-map-missing', ['a'], conf='virtual_uid_maps=hash:/etc/postfix/nonexist\n')
v('map-badtype', ['a'], conf='virtual_mailbox_maps=nosuch:/etc/postfix/nonexist\n')
v('map-private', ['a'], setup='chmod 600 /etc/postfix/vmap')
v('map-regexp', ['a'], conf='virtual_mailbox_maps=regexp:{{/^(.*)@v.test/ rx}}\n')
v('map-regexp-subst', ['a'], conf='virtual_mailbox_maps=regexp:{{/^(.*)@v.test/ $1}}\n')
v('map-proxy', ['a'], conf='virtual_mailbox_maps=proxy:texthash:/etc/postfix/vmap\n')
v('locked-dot', ['a'], conf='virtual_mailbox_lock=dotlock\n', setup='touch /vmail/a.lock')
v('locked-stale', ['a'], conf='virtual_mailbox_lock=dotlock\nstale_lock_time=1s\n', setup='touch /vmail/a.lock; chown vm /vmail/a.lock; sleep 2.2')
v('lock-none', ['a'], setup='touch /vmail/a.lock')
v('lock-bad', ['a'], conf='virtual_mailbox_lock=flick\n')
v('locked-flock', ['a'], conf='virtual_mailbox_lock=flock\n', setup='touch /vmail/a; chown vm /vmail/a; (flock /vmail/a sleep 5 >/dev/null 2>&1 </dev/null &) ; sleep 0.3')
v('locked-fcntl', ['a'], setup='''touch /vmail/a; chown vm /vmail/a
(python3 -c "
import fcntl,time
f=open('/vmail/a','r+');fcntl.lockf(f,fcntl.LOCK_EX);time.sleep(5)" >/dev/null 2>&1 </dev/null &) ; sleep 0.3''')
v('limit', ['a'], conf='message_size_limit=10000\nvirtual_mailbox_limit=20000\n', setup='head -c 19950 /dev/zero | tr "\\0" x >/vmail/a; chown vm:vm /vmail/a')
v('limit-small', ['a'], conf='message_size_limit=10000\nvirtual_mailbox_limit=2000\n')
v('limit-unlimited-message', ['a'], conf='message_size_limit=0\n')
v('limit-none', ['a'], conf='virtual_mailbox_limit=0\n')
v('full', ['full'], conf='virtual_mailbox_maps=inline:{full@v.test=full/x}\n', setup='mkdir /vmail/full; mount -t tmpfs -o size=4k,uid=2003,mode=755 t /vmail/full; head -c 4000 /dev/zero >/vmail/full/x; chown vm /vmail/full/x')
v('full-maildir', ['full'], conf='virtual_mailbox_maps=inline:{full@v.test=full/}\n', setup='mkdir /vmail/full; mount -t tmpfs -o size=4k,uid=2003,mode=755 t /vmail/full; head -c 4096 /dev/zero >/vmail/full/x')
v('fifo', ['a'], setup='mkfifo /vmail/a; chown vm /vmail/a; (sleep 4 >/dev/null 2>&1 </vmail/a &); sleep 0.1')
v('fifo-closed', ['a'], setup='mkfifo /vmail/a; chown vm /vmail/a')
v('dir', ['a'], setup='mkdir /vmail/a; chown vm /vmail/a')
v('owner', ['a'], setup='touch /vmail/a; chown joe /vmail/a; chmod 666 /vmail/a')
v('owner-ok', ['a'], conf='strict_mailbox_ownership=no\n', setup='touch /vmail/a; chown joe /vmail/a; chmod 666 /vmail/a')
v('denied', ['a', 'b'], setup='chown root /vmail; chmod 755 /vmail')
v('readonly', ['a'], setup='touch /vmail/a; chown root /vmail/a')
v('hardlink', ['a'], setup='touch /vmail/a; chown vm /vmail/a; ln /vmail/a /vmail/z')
v('symlink', ['a'], setup='touch /vmail/t; chown vm /vmail/t; ln -s t /vmail/a; chown -h vm /vmail/a')
v('symlink-root', ['a'], setup='touch /vmail/t; chown vm /vmail/t; ln -s t /vmail/a; chown root /vmail')
v('symlink-dangling', ['a'], setup='ln -s t /vmail/a')
v('maildir-denied-new', ['b'], setup='mkdir -p /vmail/b/tmp /vmail/b/new /vmail/b/cur; chown vm /vmail/b/tmp; chmod 755 /vmail/b')
v('maildir-file', ['b'], setup='touch /vmail/b')
v('no-original', ['a', 'b'], conf='enable_original_recipient=no\n')
v('orig', ['Ali'], conf='virtual_alias_maps=inline:{ali@v.test=A@v.test}\n')
v('probe', ['a', 'b', 'nosuch'], args=['-bv'])
v('verbose', ['a', 'b'], args=['-v'])
v('filter', ['nosuch'], conf='virtual_delivery_status_filter=regexp:{{/^5(.*)/ 4$1 (later)}}\n')
v('soft', ['nosuch'], conf='soft_bounce=yes\n')
v('content', ['a'], body='Subject: x\n\n.\nFrom x\n>From x\n' + 'z' * 5000)
v('args', ['a'], master='virtual unix - n n - - virtual extra\n')
v('null-content', ['a', 'b'], body='')
