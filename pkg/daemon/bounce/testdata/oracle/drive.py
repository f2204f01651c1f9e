import os,socket,subprocess,sys,time,re,shutil,json
Q='/var/spool/postfix'
os.chdir(Q)
def sh(c): return subprocess.run(c,shell=True,capture_output=True,text=True,errors='surrogateescape').stdout
import pwd
PU=pwd.getpwnam('postfix')
def rec(t,d):
    if isinstance(d,str): d=d.encode('utf-8','surrogateescape')
    n=len(d); out=bytes([ord(t)])
    while True:
        b=n&0x7f; n>>=7
        out+=bytes([b|(0x80 if n else 0)])
        if not n: break
    return out+d
def own(p,mode):
    os.chown(p,PU.pw_uid,PU.pw_gid); os.chmod(p,mode)
def mkmsg(qid,rcpts,body,sender='s@send.test',size=None,T=1795329240):
    env=b''
    for (k,v) in [('T','%d 123456'%T),('A','create_time=%d'%T),('S',sender)]: env+=rec(k,v)
    offs=[]
    base=97
    for r in rcpts:
        offs.append(base+len(env)); env+=rec('R',r)
    env+=rec('M','')
    cont=b''
    for l in body:
        if isinstance(l,tuple): cont+=rec(*l)
        else: cont+=rec('N',l)
    dataoff=97+len(env)
    sz=len(cont) if size is None else size
    head=rec('C','%15d %15d %15d %15d %15d %15d'%(sz,dataoff,len(rcpts),0,sz,0))
    data=head+env+cont+rec('X','')+rec('E','')
    p='active/'+qid
    open(p,'wb').write(data); own(p,0o700)
    lastq[0]=base64.b64encode(data).decode()
    return offs
lastlog=[None]
lastq=[None]
cases=[]
curconf=[{}]
import base64
def log(service,qid,text):
    lastlog[0]=text
    p=service+'/'+(qid[0]+'/' if service=='defer' else '')+qid
    os.makedirs(os.path.dirname(p),exist_ok=True); own(os.path.dirname(p),0o700)
    open(p,'wb').write(text.encode('utf-8','surrogateescape')); own(p,0o600)
def request(service,attrs):
    s=socket.socket(socket.AF_UNIX); s.connect('private/'+service); s.settimeout(30)
    buf=b''
    while b'\0\0' not in buf: buf+=s.recv(4096)
    out=b''
    for k,v in attrs: out+=k.encode()+b'\0'+str(v).encode('utf-8','surrogateescape')+b'\0'
    s.sendall(out+b'\0')
    buf=b''
    try:
        while True:
            d=s.recv(4096)
            if not d: break
            buf+=d
    except Exception as e: buf+=repr(e).encode()
    return buf.replace(b'\0',b'|').decode()
def E(rcpt,reason='it failed',orig=None,offset=None,dsn_orig=None,notify=0,status='5.7.77',action='failed',diag=None,mta=None,old=True):
    t='\n'
    if old: t+='<%s>: %s\n'%(rcpt,reason)
    t+='recipient=%s\n'%(rcpt or '<>')
    if orig: t+='original_recipient=%s\n'%orig
    if offset: t+='offset=%d\n'%offset
    if dsn_orig: t+='dsn_orig_rcpt=%s\n'%dsn_orig
    if notify: t+='notify_flags=%d\n'%notify
    if status: t+='status=%s\n'%status
    t+='action=%s\n'%action
    if diag: t+='diag_type=%s\ndiag_text=%s\n'%diag
    if mta: t+='mta_type=%s\nmta_mname=%s\n'%mta
    t+='reason=%s\n\n'%reason
    return t
def msgattrs(n,qid,flags=0,queue='active',enc='',utf8=0,sender='s@send.test',envid='',ret=0):
    return [('nrequest',n),('flags',flags),('queue_name',queue),('queue_id',qid),('encoding',enc),('smtputf8',utf8),('sender',sender),('envelope_id',envid),('ret_flags',ret)]
def rcptattrs(orig,rcpt,off=-1,dsnorig='',notify=0,status='5.1.1',dt='',dx='',mt='',mn='',action='failed',reason='no such user'):
    return [('original_recipient',orig),('recipient',rcpt),('offset',off),('dsn_orig_rcpt',dsnorig),('notify_flags',notify),('status',status),('diag_type',dt),('diag_text',dx),('mta_type',mt),('mta_mname',mn),('action',action),('reason',reason)]
BODY=['Received: from x by y','\tid 1; now','Subject: test','Message-Id: <orig.1@send.test>','From: s@send.test','','Hello','.dot','From here','X: y',('L','part one '),'part two']
logpos=[0]
def newlog():
    t=open('/var/log/mail.log',errors='surrogateescape').read()
    r=t[logpos[0]:]; logpos[0]=len(t)
    return r
def mask(t,ids):
    for i,q in enumerate(ids): t=t.replace(q,'NEWID%d'%(i+1))
    t=re.sub(r'\w\w\w, [ \d]\d \w\w\w \d{4} \d\d:\d\d:\d\d \+0000 \(UTC\)',lambda m:m.group(0) if ('06:34:00' in m.group(0)) else 'DATE',t)
    t=re.sub(r'\b(ABC[0-9A-F]+)\.\d{10}/',r'\1.UNIXTIME/',t)
    t=re.sub(r'<\d{14}\.NEWID',r'<TIME.NEWID',t)
    t=re.sub(r'(message_arrival_time|create_time|named_attribute: create_time)[:=].*',r'\1 T',t)
    return t
res=open(sys.argv[1],'w',errors='surrogateescape')
n=[0]
def run(name,service,attrs,qid=None,keep=False):
    newlog()
    rep=request(service,attrs)
    time.sleep(0.25)
    for _ in range(100):
        lg=newlog_acc()
        ids=re.findall(r'notification: ([0-9A-F]{6,})',lg)
        alln=re.findall(r'cleanup\[\d+\]: ([0-9A-F]+): message-id',lg)
        done=[i for i in alln if re.search(r'qmgr\[\d+\]: %s: from=.*'%i,lg)]
        if len(done)==len(alln): break
        time.sleep(0.05)
    lg=newlog_acc(final=True)
    res.write('######## %s\nreply: %s\n'%(name,rep))
    ids=alln
    for l in lg.splitlines():
        m=re.match(r'.*? postfix(?:/[\w-]+)*?/?([\w-]+)\[\d+\]: (.*)',l)
        if m and m.group(1) in ('bounce',): res.write('log: '+mask(m.group(2),ids)+'\n')
    if qid:
        res.write('orig: '+''.join(re.findall(r'\b(?:recipient|done_recipient): \S+ ?',sh('postcat -e active/%s'%qid)))+'\n')
        for sv in ('bounce','defer','trace'):
            p=sv+'/'+(qid[0]+'/' if sv=='defer' else '')+qid
            if os.path.exists(p): res.write('log file %s: %r\n'%(p,open(p,errors='surrogateescape').read()))
    case=dict(name=name,config=dict(curconf[0]),service=service,qid=qid or '',queue=lastq[0] or '',log=lastlog[0] or '',request=[[str(a),str(b)] for a,b in attrs],reply=rep,notices=[],warnings=[])
    lastlog[0]=None; lastq[0]=None; cases.append(case)
    for i,q in enumerate(ids):
        time.sleep(0.05)
        env=sh('postcat -eq %s'%q)
        if 'sender:' in env: case['notices'].append(dict(sender=re.search(r'^sender: (.*)$',env,re.M).group(1),rcpt=re.search(r'^original_recipient: (.*)$',env,re.M).group(1),text=mask(sh('postcat -hbq %s'%q),ids)))
        res.write('---- notice %d\n'%(i+1))
        t=sh('postcat -q %s'%q)
        res.write(mask(re.sub(r'\*\*\* .*\n','',t).replace('message_size:','message_size:'),ids))
        sh('postsuper -d %s'%q)
    if qid and not keep:
        for p in ['active/'+qid,'bounce/'+qid,'defer/'+qid[0]+'/'+qid,'trace/'+qid]:
            if os.path.exists(p): os.remove(p)
    res.flush()
acc=['']
def newlog_acc(final=False):
    acc[0]+=newlog()
    r=acc[0]
    if final: acc[0]=''
    return r
cnt=[0]
def Qid():
    cnt[0]+=1; return 'ABC%05X'%cnt[0]
def conf(kv):
    curconf[0].update(kv)
    for k,v in kv.items(): subprocess.run(['postconf','-e','%s=%s'%(k,v)])
    sh('postfix reload'); time.sleep(1.2)
exec(open('/tmp/bo/scenarios.py').read())

json.dump(cases,open(sys.argv[1]+'.json','w'),indent=1)
