"""Scenarios for local(8): mailboxes, commands, aliases, .forward files."""
SENDER = 's@sink.test'
ROOTS = ['/home', '/var/mail', '/capture', '/out']
LOGGED = r' postfix/local\b'

PREPARE = r'''
for d in /home /capture /out /root; do mkdir -p $d; mount -t tmpfs -o mode=755 t $d; done
groupadd -g 8 mail 2>/dev/null; chgrp mail /var/mail; chmod 2775 /var/mail
n=2001; for u in joe bob ann carl dora mike owner-x; do echo "$u:x:$n:$n:$u:/home/$u:/bin/sh" >>/etc/passwd; echo "$u:x:$n:" >>/etc/group; n=$((n+1)); done
echo 'nohome:x:2020:2001:x:/home/missing:/bin/sh' >>/etc/passwd
cat >/usr/local/capture <<'X'
#!/bin/sh
{ echo "=== $1 <- $2"; cat; } >>/capture/all
X
chmod 755 /usr/local/capture
printf 'capture unix - n n - 1 pipe flags=X user=nobody argv=/usr/local/capture ${recipient} ${sender}\n' >>/etc/postfix/master.cf
'''

BASE = '''
transport_maps = inline:{sink.test=capture:,remote.test=capture:}
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
mydomain = example.com
myorigin = $myhostname
append_dot_mydomain = no
smtp_tls_security_level = none
notify_classes =
biff = no
deliver_lock_attempts = 2
deliver_lock_delay = 1s
local_recipient_maps =
recipient_delimiter =
minimal_backoff_time = 1000s
capture_destination_recipient_limit = 1
local_destination_concurrency_limit = 1
'''

WIPE = r'''for u in joe bob ann carl dora mike owner-x; do chattr -i /home/$u 2>/dev/null; rm -rf /home/$u; mkdir -p /home/$u; chown $u:$u /home/$u; chmod 755 /home/$u; done
rm -rf /home/missing /var/mail/* /capture/* /out/* ; chmod 2775 /var/mail; chgrp mail /var/mail; chown root /var/mail; chmod 777 /capture; chmod 1777 /out
'''

H = '@mail.example.com'
ALL = []
def add(name, to=None, conf='', aliases='', setup='', mail=None, **m):
    if mail is None: mail = [dict(to=[t + H for t in to], **m)]
    s = dict(name=name, conf=conf, aliases=aliases, mail=mail)
    if setup: s['setup'] = setup
    ALL.append(s)
def fwd(user, text, mode='644', name='.forward'):
    return "printf '%%s\\n' '%s' >/home/%s/%s; chown %s:%s /home/%s/%s; chmod %s /home/%s/%s\n" % (text, user, name, user, user, user, name, mode, user, name)

add('mbox', ['joe'])
add('mbox-case', ['JoE'])
add('mbox-append', mail=[dict(to=['joe' + H]), dict(to=['joe' + H], **{'from': ''})])
add('mbox-nospool-group', ['joe'], setup='chmod 755 /var/mail')
add('mbox-world-spool', ['joe'], setup='chmod 1777 /var/mail')
add('mbox-missing-spool', ['joe'], conf='mail_spool_directory=/var/mail/none\n')
add('mbox-home', ['joe'], conf='home_mailbox=Mailbox\n')
add('mbox-home-sub-missing', ['joe'], conf='home_mailbox=mail/Mailbox\n')
add('maildir', ['joe', 'bob'], conf='home_mailbox=Maildir/\n')
add('maildir-existing', mail=[dict(to=['joe'+H]), dict(to=['joe'+H])], conf='home_mailbox=Maildir/\n')
add('maildir-no-access', ['joe'], conf='home_mailbox=Maildir/\n', setup='chown root /home/joe; chmod 755 /home/joe')
add('maildir-spool', ['joe'], conf='mail_spool_directory=/var/mail/\n')
add('maildir-spool-ok', ['joe'], conf='mail_spool_directory=/var/mail/\n', setup='chmod 777 /var/mail')
add('home-missing', ['nohome'], conf='home_mailbox=Mailbox\n')
add('home-missing-maildir', ['nohome'], conf='home_mailbox=Maildir/\n')
add('home-required', ['nohome'], conf='require_home_directory=yes\n')
add('mbox-locked-dot', ['joe'], setup='touch /var/mail/joe.lock')
add('mbox-locked-stale', ['joe'], conf='stale_lock_time=1s\n', setup='touch /var/mail/joe.lock; sleep 2.2')
add('mbox-locked-fcntl', ['joe'], setup='''touch /var/mail/joe; chown joe:mail /var/mail/joe
(python3 -c "
import fcntl,time
f=open('/var/mail/joe','r+');fcntl.lockf(f,fcntl.LOCK_EX);time.sleep(6)" >/dev/null 2>&1 </dev/null &) ; sleep 0.3''')
add('mbox-locked-flock', ['joe'], conf='mailbox_delivery_lock=flock\n', setup='''touch /var/mail/joe; chown joe:mail /var/mail/joe
(flock /var/mail/joe sleep 6 >/dev/null 2>&1 </dev/null &) ; sleep 0.3''')
add('mbox-symlink', ['joe'], setup='ln -s /home/joe/target /var/mail/joe; touch /home/joe/target; chown joe /home/joe/target; chown -h joe /var/mail/joe')
add('mbox-symlink-root', ['joe'], setup='chmod 755 /var/mail; ln -s /home/joe/target /var/mail/joe; touch /home/joe/target; chown joe /home/joe/target')
add('mbox-symlink-dangling', ['joe'], setup='ln -s /home/joe/target /var/mail/joe')
add('mbox-hardlink', ['joe'], setup='touch /var/mail/joe; chown joe /var/mail/joe; ln /var/mail/joe /var/mail/other')
add('mbox-directory', ['joe'], setup='mkdir /var/mail/joe')
add('mbox-fifo', ['joe'], setup='mkfifo /var/mail/joe; chown joe /var/mail/joe')
add('mbox-other-owner', ['joe'], setup='chmod 755 /var/mail; touch /var/mail/joe; chown bob /var/mail/joe')
add('mbox-other-owner-ok', ['joe'], conf='strict_mailbox_ownership=no\n', setup='touch /var/mail/joe; chown bob /var/mail/joe; chmod 666 /var/mail/joe')
add('mbox-read-only', ['joe'], setup='touch /var/mail/joe; chown joe /var/mail/joe; chmod 400 /var/mail/joe; chown root /var/mail/joe')
add('mbox-full', ['joe'], conf='message_size_limit=10000\nmailbox_size_limit=20000\n', setup='head -c 19950 /dev/zero | tr "\\0" x >/var/mail/joe; chown joe:mail /var/mail/joe')
add('maildir-full', ['joe'], conf='home_mailbox=Maildir/\n', setup='mount -t tmpfs -o size=4k,uid=2001,mode=755 t /home/joe; head -c 4096 /dev/zero >/home/joe/x; true', mail=None)
add('maildir-after-full', ['joe'], conf='home_mailbox=Maildir/\n', setup='umount /home/joe')
add('no-original', ['joe'], conf='enable_original_recipient=no\n')
add('no-delivered', ['joe'], conf='prepend_delivered_header=\n')
add('root', ['root'])
add('unknown', ['nosuch'])
add('unknown-weird', mail=[dict(to=['"no such"' + H]), dict(to=['""' + H])])
add('postmaster-missing', ['mailer-daemon'])
add('ext', ['joe+x', 'joe+'], conf='recipient_delimiter=+\n')
add('ext-two', ['joe-x', 'bob+y-z', 'owner-x', 'x-request'], conf='recipient_delimiter=+-\n')
add('ext-slash', ['joe+a/b'], conf='recipient_delimiter=+\n')
add('unknown-ext', ['nosuch+x'], conf='recipient_delimiter=+\n')
add('luser', ['nosuch'], conf='luser_relay=joe\n')
add('luser-remote', ['nosuch+x'], conf='luser_relay=$user+$extension.$domain@remote.test\nrecipient_delimiter=+\n')
add('luser-self', ['nosuch'], conf='luser_relay=$local\n')
add('luser-unknown', ['nosuch'], conf='luser_relay=nobodyhere\n')
add('fallback-transport', ['nosuch'], conf='fallback_transport=capture:x\n')
add('fallback-maps', ['nosuch', 'other'], conf='fallback_transport_maps=inline:{nosuch=capture:}\n')
add('mailbox-transport', ['joe', 'nosuch'], conf='mailbox_transport=capture:\n')
add('mailbox-transport-maps', ['joe', 'bob'], conf='mailbox_transport_maps=inline:{joe=capture:}\n')
add('alias', ['list'], aliases='list: joe, bob, carl\n')
add('alias-dup', ['list'], aliases='list: joe, joe, l2, JOE\nl2: joe, bob\n')
add('alias-nested', ['a'], aliases='a: b, joe\nb: c\nc: bob\n')
add('alias-self', ['joe'], aliases='joe: joe, bob\n')
add('alias-backslash', ['joe'], aliases='joe: \\joe, bob\n')
add('alias-loop', ['a'], aliases='a: b\nb: a\n')
add('alias-remote', ['a'], aliases='a: x@remote.test, y@remote.test, joe\n')
add('alias-unknown', ['a'], aliases='a: nosuch, joe\n')
add('alias-empty', ['a'], aliases='a: ()\n')
add('alias-case', ['LiSt'], aliases='list: Joe\n')
add('alias-ext', ['list+x'], conf='recipient_delimiter=+\n', aliases='list: joe, x@remote.test\n')
add('alias-ext-propagate', ['list+x'], conf='recipient_delimiter=+\npropagate_unmatched_extensions=alias,forward,include\n', aliases='list: joe, x@remote.test\n')
add('alias-ext-full', ['list+x', 'list+y'], conf='recipient_delimiter=+\n', aliases='list: joe\nlist+x: bob\n')
add('alias-owner', ['list'], aliases='list: joe, x@remote.test, nosuch, "|exit 1"\nowner-list: dora\n')
add('alias-owner-expand', ['list'], conf='expand_owner_alias=yes\n', aliases='list: x@remote.test, joe\nowner-list: dora@remote.test\n')
add('alias-owner-off', ['list'], conf='owner_request_special=no\n', aliases='list: x@remote.test, joe\nowner-list: dora\n')
add('alias-owner-reset', ['list'], conf='reset_owner_alias=yes\n', aliases='list: l2\nl2: joe, x@remote.test\nowner-list: dora\n')
add('alias-owner-keep', ['list'], aliases='list: l2\nl2: joe, x@remote.test\nowner-list: dora\n')
add('alias-owner-dsn', ['list'], aliases='list: joe, x@remote.test\nowner-list: dora\n', args=['-N', 'success,failure', '-V', 'env1', '-R', 'hdrs'])
add('alias-dsn', ['list'], aliases='list: joe, x@remote.test\n', args=['-N', 'success', '-V', 'env1'])
add('alias-soft-bounce', ['list'], conf='soft_bounce=yes\n', aliases='list: joe, nosuch\n')
add('alias-file', ['f'], aliases='f: /out/file, "/out/with space"\n')
add('alias-file-null', ['f'], aliases='f: /dev/null\n')
add('alias-file-exec', ['f'], aliases='f: /out/exe\n', setup='touch /out/exe; chmod 777 /out/exe')
add('alias-file-missing-dir', ['f'], aliases='f: /out/none/x\n')
add('alias-file-denied', ['f'], aliases='f: /home/joe/x\n')
add('alias-file-maildir', ['f'], aliases='f: /out/md/\n')
add('alias-file-symlink', ['f'], aliases='f: /out/l\n', setup='ln -s /etc/passwd /out/l')
add('alias-file-dir', ['f'], aliases='f: /out/d\n', setup='mkdir /out/d')
add('alias-file-restricted', ['f'], conf='allow_mail_to_files=forward\n', aliases='f: /out/x, joe\n')
add('alias-file-owner-bounce', ['f'], aliases='f: /out/none/x\nowner-f: bob\n')
add('alias-tilde', ['f', 'g'], aliases='f: ~/x\ng: ~joe/x\n')
add('alias-user-owned', ['a'], conf='alias_maps=hash:/out/al\n', aliases='', setup='printf "a: ~/af, \\"|id >/home/joe/id; env|sort >>/home/joe/id\\", joe\\n" >/out/al; postalias /out/al; chown joe:joe /out/al*; sleep 0.1')
add('alias-db-error', ['a'], conf='alias_maps=hash:/etc/nonexist, hash:/etc/aliases\n')
add('alias-noowner-uid', ['a'], conf='alias_maps=hash:/out/al\n', setup='printf "a: joe\\n" >/out/al; postalias /out/al; chown 4444 /out/al*')
add('command', ['c'], aliases='c: "|cat >/out/cmd; env | sort >/out/env; id >/out/id; pwd >>/out/id; umask >>/out/id"\n', setup='chmod 777 /out')
for n in (1, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 99):
    add('exit-%d' % n, ['c'], aliases='c: "|exit %d"\n' % n)
add('exit-output', ['c'], aliases='c: "|echo some text; echo more >&2; exit 67"\n')
add('exit-dsn', ['c'], aliases='c: "|echo 5.7.9 go away; exit 67"\n')
add('exit-dsn4', ['c'], aliases='c: "|echo 4.7.9 come back; exit 67"\n')
add('exit-dsn2', ['c'], aliases='c: "|echo 2.7.9 odd; exit 67"\n')
add('exit-signal', ['c'], aliases='c: "|kill -9 \\$\\$"\n')
add('exit-signal-text', ['c'], aliases='c: "|echo hello; kill -15 \\$\\$"\n')
add('exit-plain-missing', ['c'], aliases='c: |/nonexistent/cmd\n')
add('exit-plain-notexec', ['c'], aliases='c: |/etc/passwd\n')
add('exit-plain-nopath', ['c'], aliases='c: |nosuchcommand\n')
add('exit-script-noshebang', ['c'], aliases='c: |/out/s\n', setup='echo "cat >/dev/null; echo \\$0 >/out/ran" >/out/s; chmod 755 /out/s; chmod 777 /out')
add('command-noread', ['c'], aliases='c: |/bin/true\n', body='Subject: big\n\n' + 'x' * 70 + '\n' + ('y' * 70 + '\n') * 3000)
add('command-binary-output', ['c'], aliases='c: "|printf \'a\\\\tb\\\\001c\\\\351d\\\\n\'; exit 1"\n')
add('command-restricted', ['c'], conf='allow_mail_to_commands=\n', aliases='c: "|true"\n')
add('command-timeout', ['c'], conf='command_time_limit=2s\n', aliases='c: "|echo begin; sleep 30"\n')
add('command-shell', ['c'], conf='local_command_shell=/bin/echo shell\n', aliases='c: "|exit 1"\n')
add('command-export', ['c'], conf='export_environment=TZ FOO=bar\n', aliases='c: "|env | sort >/out/env"\n', setup='chmod 777 /out')
add('command-two', ['c'], aliases='c: "|echo x >>/out/n", d\nd: "|echo x >>/out/n"\n', setup='chmod 777 /out')
add('command-filter', mail=[dict(to=['"c;x"' + H], **{'from': '"a;b"@sink.test'})], aliases='c;x: "|env | sort >/out/env"\n', setup='chmod 777 /out')
add('command-owner-bounce', ['c'], aliases='c: "|exit 67"\nowner-c: bob\n')
add('default-privs', ['c'], conf='default_privs=mike\n', aliases='c: "|id >/out/id", /out/f\n', setup='chmod 777 /out')
add('mailbox-command', ['joe'], conf='mailbox_command=cat >"$HOME/box $USER $EXTENSION $DOMAIN"; pwd >>$HOME/pwd; env|sort >$HOME/env\n')
add('mailbox-command-ext', ['joe+Ex'], conf='recipient_delimiter=+\nmailbox_command=env|sort >$HOME/env\n')
add('mailbox-command-fail', ['joe'], conf='mailbox_command=echo nope; exit 75\n')
add('mailbox-command-maps', ['joe', 'bob'], conf='mailbox_command_maps=inline:{{joe=cat >/home/joe/viamap}}\n')
add('mailbox-command-root', ['root'], conf='mailbox_command=id >/out/id\n', setup='chmod 777 /out')
add('command-dir', ['joe'], conf='mailbox_command=pwd >/home/joe/pwd\ncommand_execution_directory=$home\n')
add('command-dir-missing', ['nohome'], conf='mailbox_command=pwd >/out/pwd\ncommand_execution_directory=$home\n')
add('fwd', ['joe'], setup=fwd('joe', 'bob'))
add('fwd-remote', ['joe'], setup=fwd('joe', 'x@remote.test, y@remote.test, \\joe'))
add('fwd-self', ['joe'], setup=fwd('joe', 'joe, x@remote.test'))
add('fwd-lines', ['joe'], setup=fwd('joe', '# comment\nx@remote.test\n\n  "/home/joe/f i"  \n|cat >>/home/joe/cmd\n~/tilde\n~bob/x'))
add('fwd-loop', ['joe'], setup=fwd('joe', 'bob') + fwd('bob', 'joe'))
add('fwd-loop-ext', ['joe+1'], conf='recipient_delimiter=+\n', setup=fwd('joe', 'joe+2'))
add('fwd-empty', ['joe'], setup=': >/home/joe/.forward; chown joe /home/joe/.forward')
add('fwd-comment', ['joe'], setup=fwd('joe', '# nothing'))
add('fwd-world', ['joe'], setup=fwd('joe', 'bob', '666'))
add('fwd-group', ['joe'], setup=fwd('joe', 'bob', '664'))
add('fwd-owner', ['joe'], setup=fwd('joe', 'bob') + 'chown carl /home/joe/.forward')
add('fwd-root-owner', ['joe'], setup=fwd('joe', 'bob') + 'chown root /home/joe/.forward')
add('fwd-unreadable', ['joe'], setup=fwd('joe', 'bob', '000'))
add('fwd-dir', ['joe'], setup='mkdir /home/joe/.forward')
add('fwd-symlink', ['joe'], setup=fwd('joe', 'bob', name='real') + 'ln -s real /home/joe/.forward')
add('fwd-home-locked', ['joe'], setup=fwd('joe', 'bob') + 'chown root /home/joe; chmod 700 /home/joe')
add('fwd-ext', ['joe+x', 'joe+y'], conf='recipient_delimiter=+\n', setup=fwd('joe', 'bob') + fwd('joe', 'carl', name='.forward+x'))
add('fwd-ext-propagate', ['joe+x'], conf='recipient_delimiter=+\npropagate_unmatched_extensions=forward\n', setup=fwd('joe', 'bob, x@remote.test'))
add('fwd-path', ['joe'], conf='forward_path=/out/fwd.$user.$domain${extension?.$extension}, $shell.x, $home/.f\n', setup='echo bob >/out/fwd.joe.mail.example.com; chown joe /out/fwd.joe.mail.example.com')
add('fwd-path-ext', ['joe+z'], conf='recipient_delimiter=+\nforward_path=/out/fwd.$user${extension?.$extension}\n', setup='echo bob >/out/fwd.joe.z; chown joe /out/fwd.joe.z')
add('fwd-path-none', ['joe'], conf='forward_path=\n', setup=fwd('joe', 'bob'))
add('fwd-command', ['joe'], setup=fwd('joe', '"|id >/home/joe/id; pwd >>/home/joe/id; env | sort >>/home/joe/id"'))
add('fwd-command-exit', ['joe'], setup=fwd('joe', '"|exit 77"'))
add('fwd-file-denied', ['joe'], setup=fwd('joe', '/home/bob/x'))
add('fwd-dsn', ['joe'], setup=fwd('joe', 'x@remote.test'), args=['-N', 'success,delay', '-V', 'e2'])
add('fwd-thaw', ['joe'], conf='frozen_delivered_to=no\n', aliases='a: joe\n', setup=fwd('joe', 'x@remote.test'))
add('fwd-alias-frozen', ['a'], aliases='a: joe\n', setup=fwd('joe', 'x@remote.test'))
add('fwd-alias-thaw', ['a'], conf='frozen_delivered_to=no\n', aliases='a: joe\n', setup=fwd('joe', 'x@remote.test'))
add('fwd-partial-defer', ['joe'], setup=fwd('joe', 'x@remote.test, "|exit 75", /home/joe/f'))
add('fwd-partial-defer-2', ['joe'], setup=fwd('joe', 'x@remote.test, /home/joe/f\n"|exit 75"\n/home/joe/g'))
add('fwd-badaddr', ['joe'], setup=fwd('joe', 'x@, @y, <z'))
add('loop-header', ['joe'], body='Received: x\nDelivered-To: JOE@mail.example.com\nSubject: l\n\nx\n')
add('loop-header-owner', ['list'], aliases='list: joe\nowner-list: bob\n', body='Delivered-To: list@mail.example.com\n\nx\n')
add('loop-header-body', ['joe'], body='Subject: l\n\nDelivered-To: joe@mail.example.com\n')
add('include', ['i'], aliases='i: :include:/out/inc\n', setup='printf "joe\\n# c\\nbob, x@remote.test\\n" >/out/inc')
add('include-user', ['i'], aliases='i: :include:/out/inc\n', setup='printf "joe\\n/home/joe/f\\n~/t\\n" >/out/inc; chown joe /out/inc')
add('include-user-files', ['i'], conf='allow_mail_to_files=alias,forward,include\nallow_mail_to_commands=alias,forward,include\n', aliases='i: :include:/out/inc\n', setup='printf "/home/joe/f\\n~/t\\n\\"|id >/home/joe/id\\"\\n" >/out/inc; chown joe /out/inc')
add('include-command', ['i'], aliases='i: :include:/out/inc\n', setup='printf "\\"|true\\"\\n" >/out/inc')
add('include-nested', ['i'], aliases='i: :INCLUDE:/out/a\n', setup='printf ":include:/out/b\\n" >/out/a; printf ":include:/out/a, joe\\n" >/out/b')
add('include-missing', ['i'], aliases='i: :include:/out/none, joe\n')
add('include-relative', ['i'], aliases='i: :include:none\n')
add('include-dir', ['i'], aliases='i: :include:/out\n')
add('include-world', ['i'], aliases='i: :include:/out/w\n', setup='echo joe >/out/w; chmod 666 /out/w')
add('include-unreadable', ['i'], aliases='i: :include:/out/w\n', conf='alias_maps=hash:/out/al\n', setup='printf "i: :include:/out/w\\n" >/out/al; postalias /out/al; chown bob /out/al*; echo joe >/out/w; chmod 600 /out/w; chown joe /out/w')
add('include-nouser', ['i'], aliases='i: :include:/out/w\n', setup='echo joe >/out/w; chown 4545 /out/w')
add('include-self', ['joe'], aliases='joe: :include:/out/w\n', setup='echo joe >/out/w')
add('include-ext', ['i+x'], conf='recipient_delimiter=+\npropagate_unmatched_extensions=alias,include\n', aliases='i: :include:/out/inc\n', setup='printf "joe\\n" >/out/inc')
add('include-ext-no', ['i+x'], conf='recipient_delimiter=+\npropagate_unmatched_extensions=alias\n', aliases='i: :include:/out/inc\n', setup='printf "joe\\n" >/out/inc')
add('include-owner', ['i'], aliases='i: :include:/out/inc\nowner-i: dora\n', setup='printf "joe, x@remote.test\\n" >/out/inc')
add('fwd-include', ['joe'], setup=fwd('joe', ':include:/home/joe/inc') + fwd('joe', 'x@remote.test, bob', name='inc'))
add('verbose', ['joe', 'list'], aliases='list: bob, nosuch\n', args=['-v'])
add('probe-bv', ['joe', 'list', 'nosuch', 'f', 'c', 'bob'], aliases='list: carl, x@remote.test\nf: /out/f, /out/m/\nc: "|true"\n', args=['-bv'], setup=fwd('bob', 'x@remote.test'))
add('probe-bv-maildir', ['joe'], conf='home_mailbox=Maildir/\n', args=['-bv'])
add('filter', ['nosuch'], conf='local_delivery_status_filter=regexp:{{/^5(.1.1 .*)/ 4$1}}\n')
add('noeol', ['joe'], body='Subject: x\n\nno newline at end')
add('long-line', ['joe'], body='Subject: x\n\n' + 'a' * 5000 + '\nFrom b\n' + 'c' * 2048 + 'From d\n')
add('eight-bit', ['joe'], body='Subject: \u00e9\n\n\u00e9\u00e8\n')
add('dup-off', ['l'], conf='duplicate_filter_limit=1\n', aliases='l: joe, bob, joe, carl\n')
add('biff', ['joe'], conf='biff=yes\n')

add('mailbox-transport-bad', ['joe'], conf='mailbox_transport=nosuchtransport:\nipc_timeout=2s\n')
