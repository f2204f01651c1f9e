#!/usr/bin/env python3
"""Runs scenarios.py against one pipe(8) and virtual(8) inside a private namespace and prints
what happened, masked; see README.  Called by compare.sh as root."""
import glob, os, pwd, grp, re, subprocess, sys, time
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
sys.dont_write_bytecode = True
import scenarios

LOG = '/var/log/mail.log'
ROOTS = ['/vmail', '/capture', '/out']

def sh(cmd, check=False):
    r = subprocess.run(['bash', '-c', cmd], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    if check and r.returncode: print('SETUP FAILED', cmd, r.stdout)
    return r.stdout

def prepare():
    sh("""
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
cp /etc/postfix/main.cf /etc/postfix/main.cf.base; cp /etc/postfix/master.cf /etc/postfix/master.cf.base
""")

BASE = """
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
"""

def wipe():
    sh("""umount /vmail/full 2>/dev/null; rm -rf /vmail/* /vmail/.[a-z]* /capture/* /out/* /jail/*; chmod 777 /capture; chmod 1777 /out; chown vm:vm /vmail; chmod 755 /vmail /jail
printf 'a@v.test a\\nb@v.test b/\\nsub@v.test sub/box\\nsubm@v.test sub/er/md/\\n"q x"@v.test q\\ne@v.test e/\\n' >/etc/postfix/vmap; chmod 644 /etc/postfix/vmap""")

MASKS = [
    (r'\b[0-9A-F]{6,12}\b', 'QID'), (r'delay=[\d.]+, delays=[\d./]+', 'delay=T'), (r'\[\d+\]', '[PID]'),
    (r'(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [^\n]*?(\(UTC\)|20\d\d)', 'DATE'),
    (r'DATE \d\d:\d\d:\d\d \+0000 \(UTC\)', 'DATE'), (r'[\w.+-]+/mail\.example\.com', 'BOUNDARY'), (r'\d{10}\.V[0-9a-f]+I[0-9a-f]+M\d+\.[\w.-]+', 'MAILDIRNAME'),
    (r'/tmp/\d+\.P[\dQ]+\.[\w.-]+', '/tmp/TMPNAME'), (r'QID\.[\w/]+', 'QID'), (r'\b\d{10}\b', 'EPOCH'),
    (r'Message-Id: <[^>]*>', 'Message-Id: <X>'), (r'<\d{14}\.QID@', '<X@'), (r'Date: .*', 'Date: DATE'),
    (r'Arrival-Date: .*', 'Arrival-Date: DATE'), (r'pid=\d+', 'pid=N'), (r'command-line.*?process id \d+', 'X'),
]
def mask(s):
    for a, b in MASKS: s = re.sub(a, b, s)
    return s

def idle(pos):
    last, since, end = None, time.time(), time.time() + 30
    while time.time() < end:
        q = sh('find /var/spool/postfix/active /var/spool/postfix/incoming /var/spool/postfix/maildrop -type f | wc -l').strip()
        size = os.path.getsize(LOG) if os.path.exists(LOG) else 0
        if (q, size) != last: last, since = (q, size), time.time()
        if q == '0' and time.time() - since > 0.35: return
        if time.time() - since > 1 and ' fatal: ' in open(LOG, errors='replace').read()[pos:]: return
        time.sleep(0.05)
    print('NOT IDLE', q)

def tree():
    out = []
    for root in ROOTS:
        for d, dirs, files in os.walk(root):
            dirs.sort()
            for n in sorted(dirs + files):
                p = os.path.join(d, n); st = os.lstat(p)
                def name(f, i):
                    try: return f(i)[0]
                    except KeyError: return str(i)
                kind = {1: 'p', 2: 'c', 4: 'd', 8: 'f', 10: 'l'}.get(st.st_mode >> 12, '?')
                if kind == 'd' and (root == '/home' and d == '/home'): continue
                line = '%s%o %s:%s %s' % (kind, st.st_mode & 0o7777, name(pwd.getpwuid, st.st_uid), name(grp.getgrgid, st.st_gid), mask(p))
                body = ''
                if kind == 'f' and st.st_size < 20000 and not p.endswith('.db'):
                    body = ''.join('    | ' + l + '\n' for l in mask(open(p, errors='replace').read()).split('\n')[:-1])
                elif kind == 'f': body = '    size %d\n' % st.st_size
                out.append(line + '\n' + body)
    return ''.join(sorted(out))

def run(s):
    began = time.time()
    wipe()
    open('/etc/postfix/main.cf', 'w').write(open('/etc/postfix/main.cf.base').read() + BASE + s.get('conf', ''))
    open('/etc/aliases', 'w').write('postmaster: /dev/null\n' + s.get('aliases', ''))
    open('/etc/postfix/master.cf', 'w').write(open('/etc/postfix/master.cf.base').read() + s.get('master', ''))
    sh('postalias hash:/etc/aliases 2>&1; kill -HUP $(cat /var/spool/postfix/pid/master.pid); sleep 0.15')
    if 'setup' in s: sh(s['setup'], True)
    pos = os.path.getsize(LOG)
    for m in s['mail']:
        body = m.get('body', 'Subject: t\n\nFrom here\n>From there\n.dot\nlast')
        cmd = ['sendmail'] + m.get('args', []) + ['-f', m.get('from', 'S@sink.test'), '-i', '--'] + m['to']
        subprocess.run(cmd, input=body.encode('utf-8', 'surrogateescape'))
        idle(pos)
    print('##', s['name'])
    lines = open(LOG, errors='replace').read()[pos:].split('\n')
    lines = [mask(re.sub(r'^.*? postfix/', '', l)) for l in lines if re.search(r' postfix/(pipe|virtual|tp)\b|status=deferred', l) and 'overriding earlier' not in l]
    if len(s['mail'][0]['to']) > 1: lines.sort()
    print('\n'.join(lines))
    print(tree())
    print(mask(re.sub(r'(?m)^[0-9A-F]{6}.*\d\d:\d\d:\d\d', 'QUEUED', sh('postqueue -p | grep -v "^-"'))))
    sys.stdout.flush()
    print(s['name'], round(time.time() - began, 1), file=sys.stderr)
    sh('postsuper -d ALL 2>/dev/null')
    if ' fatal: ' in open(LOG, errors='replace').read()[pos:]: time.sleep(1.2)

def main():
    prepare()
    sh('postfix start; sleep 1')
    want = sys.argv[1:]
    part, parts = map(int, os.environ.get('SHARD', '0/1').split('/'))
    try:
        for i, s in enumerate(scenarios.ALL):
            if s['name'] in want or not want and i * parts // len(scenarios.ALL) == part: run(s)
    finally:
        print(sh('grep -E "panic|fatal|bad command startup|exit status|killed" %s | grep -v "execvp" | sed "s/.*postfix/postfix/" | head -20' % LOG), file=sys.stderr)
        sh('postfix stop')
main()
