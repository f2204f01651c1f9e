#!/usr/bin/env python3
"""harness.py MODULE [SCENARIO...]: runs the scenarios of MODULE against the
mail system of the machine it is in and prints, under "## NAME" and masked:
what the delivery agents logged, every file below ROOTS with mode, owner and
content (bounces and forwarded mail arrive in /capture), and the queue.
SHARD=i/n in the environment runs only that part of them.

A scenario is a dict: name; conf and master: lines for main.cf and master.cf;
aliases; setup: shell; mail: a list of messages with to, from, args, body."""
import importlib, os, pwd, grp, re, subprocess, sys, time
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
scenarios = importlib.import_module(sys.argv[1])

LOG = '/var/log/mail.log'

def sh(cmd, check=False):
    r = subprocess.run(['bash', '-c', cmd], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    if check and r.returncode: print('SETUP FAILED', cmd, r.stdout)
    return r.stdout

def prepare():
    sh("sed -i -e '/^alice:/d' -e '/^bob:/d' /etc/passwd /etc/group")
    sh(scenarios.PREPARE)
    sh('cp /etc/postfix/main.cf /etc/postfix/main.cf.base; cp /etc/postfix/master.cf /etc/postfix/master.cf.base')

MASKS = [
    (r'\b[0-9A-F]{6,12}\b', 'QID'), (r'delay=[\d.]+, delays=[\d./]+', 'delay=T'), (r'\[\d+\]', '[PID]'),
    (r'(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [^\n]*?(\(UTC\)|20\d\d)', 'DATE'),
    (r'DATE \d\d:\d\d:\d\d \+0000 \(UTC\)', 'DATE'), (r'[\w.+-]+/mail\.example\.com', 'BOUNDARY'), (r'\d{10}\.V[0-9a-f]+I[0-9a-f]+M\d+\.[\w.-]+', 'MAILDIRNAME'),
    (r'/tmp/\d+\.P[\dQ]+\.[\w.-]+', '/tmp/TMPNAME'), (r'QID\.[\w/]+', 'QID'), (r'\b\d{10}\b', 'EPOCH'),
    (r'Message-Id: <[^>]*>', 'Message-Id: <X>'), (r'<\d{14}\.QID@', '<X@'), (r'Date: .*', 'Date: DATE'),
    (r'x{200,}', 'XX'), (r'connect #\d', 'connect #N'),
    (r'Arrival-Date: .*', 'Arrival-Date: DATE'), (r'pid=\d+', 'pid=N'), (r'command-line.*?process id \d+', 'X'),
]
def mask(s):
    for a, b in MASKS: s = re.sub(a, b, s)
    return s

def idle(pos):
    last, since, end = None, time.time(), time.time() + 30
    while time.time() < end:
        q = sum(len(files) for d in ('active', 'incoming', 'maildrop') for _, _, files in os.walk('/var/spool/postfix/' + d))
        size = os.path.getsize(LOG) if os.path.exists(LOG) else 0
        if (q, size) != last: last, since = (q, size), time.time()
        if q == 0 and time.time() - since > 0.35: return
        if time.time() - since > 1 and ' fatal: ' in open(LOG, errors='replace').read()[pos:]: return
        time.sleep(0.05)
    print(q, 'files in the queue for half a minute:', sys.argv[1], file=sys.stderr)

def tree():
    out = []
    for root in scenarios.ROOTS:
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

def settings(*texts):
    """One main.cf of several, without the entries that later ones override."""
    lines = [l for t in texts for l in t.split('\n') if l.strip() and not l.startswith('#')]
    name = lambda l: l.split('=')[0].strip() if '=' in l and not l[0].isspace() else None
    last = {name(l): i for i, l in enumerate(lines)}
    return '\n'.join(l for i, l in enumerate(lines) if name(l) is None or last[name(l)] == i) + '\n'

def run(s):
    began = time.time()
    sh(scenarios.WIPE)
    open('/etc/postfix/main.cf', 'w').write(settings(open('/etc/postfix/main.cf.base').read(), scenarios.BASE, s.get('conf', '')))
    open('/etc/aliases', 'w').write('postmaster: /dev/null\n' + s.get('aliases', ''))
    open('/etc/postfix/master.cf', 'w').write(open('/etc/postfix/master.cf.base').read() + s.get('master', ''))
    os.utime('/etc/postfix/main.cf', (began - 10, began - 10)) # a file changed just now is read until it keeps still
    sh('postalias hash:/etc/aliases 2>&1; kill -HUP $(cat /var/spool/postfix/pid/master.pid); sleep 0.15')
    if 'setup' in s: sh(s['setup'], True)
    pos = os.path.getsize(LOG)
    for m in s['mail']:
        body = m.get('body', 'Subject: t\n\nFrom here\n>From there\n.dot\nlast')
        cmd = ['sendmail'] + m.get('args', []) + ['-f', m.get('from', scenarios.SENDER), '-i', '--'] + m['to']
        subprocess.run(cmd, input=body.encode('utf-8', 'surrogateescape'))
        idle(pos)
    print('##', s['name'])
    lines = open(LOG, errors='replace').read()[pos:].split('\n')
    lines = [mask(re.sub(r'^.*? postfix/', '', l)) for l in lines if re.search(scenarios.LOGGED, l) and 'overriding earlier' not in l]
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
    want = sys.argv[2:]
    part, parts = map(int, os.environ.get('SHARD', '0/1').split('/'))
    try:
        for i, s in enumerate(scenarios.ALL):
            if s['name'] in want or not want and i * parts // len(scenarios.ALL) == part: run(s)
    finally:
        print(sh('grep -E "panic|fatal|bad command startup|exit status|killed" %s | grep -v "execvp" | sed "s/.*postfix/postfix/" | head -20' % LOG), file=sys.stderr)
        sh('postfix stop')
main()
