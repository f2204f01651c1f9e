def std(name,rcpts,logtext,service='bounce',n=1,body=BODY,extra=[],mk=True,size=None,**kw):
    qid=Qid(); offs=[]
    if mk: offs=mkmsg(qid,rcpts,body,sender=kw.get('sender','s@send.test'),size=size)
    if callable(logtext): logtext=logtext(offs)
    if logtext is not None: log(service,qid,logtext)
    run(name,service,msgattrs(n,qid,**kw)+extra,qid if mk else None)
    if not mk:
        p=service+'/'+(qid[0]+'/' if service=='defer' else '')+qid
        if os.path.exists(p): os.remove(p)
LONG='host mx.example.test[192.0.2.1] said: 550 5.1.1 <user@example.test>: Recipient address rejected: User unknown in virtual mailbox table; please see http://www.example.test/a/very/long/url/that/does/not/break/at/all/because/it/has/no/blanks/whatsoever/in/it for more   information about the error (in reply to RCPT TO command)'
two=lambda o:E('a@fail.test',offset=o[0],dsn_orig='rfc822;a@fail.test')+E('b@fail.test',LONG,orig='list@here.test',offset=o[1],notify=4,diag=('smtp',LONG),mta=('dns','mx.example.test'),status='5.1.1')
ab=['a@fail.test','b@fail.test']
sh("postfix start"); time.sleep(1)
conf({'mydestination':'','default_transport':'retry:4.0.0 held','relay_transport':'retry:4.0.0 held','notify_classes':'bounce, 2bounce, delay','delay_warning_time':'4h'})
std('flush basic',ab,two)
std('flush with envid, ret hdrs',ab,two,envid='env+1',ret=2)
std('flush delrcpt',ab,two,flags=2)
std('flush defer log expired',ab,lambda o:E('a@fail.test',offset=o[0],status='4.4.1',action='delayed'),service='defer',flags=2)
std('flush no log',ab,None)
std('flush no queue file',ab,two(  [100,120]),mk=False)
std('flush null sender',ab,two,sender='')
std('flush double-bounce sender',ab,two,sender='double-bounce@mail.example.com')
std('flush notify never',ab,lambda o:E('a@fail.test',notify=1)+E('b@fail.test',notify=2))
std('flush notify some',ab,lambda o:E('a@fail.test',notify=1)+E('b@fail.test',notify=12))
std('flush utf8 flags 1',['j\u00f6@\u00fcber.test'],lambda o:E('j\u00f6@\u00fcber.test','gr\u00fcn',orig='\u00e4@x.test'),utf8=1,sender='s\u00e9@send.test')
std('flush utf8 flags 1 hdrs',['j\u00f6@\u00fcber.test'],lambda o:E('j\u00f6@\u00fcber.test','gr\u00fcn',dsn_orig='utf-8;j\u00f6@\u00fcber.test'),utf8=1,ret=2)
std('flush utf8 flags 2',['a@x.test'],lambda o:E('j\u00f6@x.test','gr\u00fcn'),utf8=2)
std('flush utf8 flags 0',['a@x.test'],lambda o:E('j\u00f6@x.test','gr\u00fcn'),sender='\u00e4@send.test')
std('flush utf8 flags 4',['a@x.test'],lambda o:E('a@x.test'),utf8=4)
std('flush odd encodings',ab,two,enc='8bit')
std('flush 7bit',ab,two,enc='7bit')
std('flush bogus encoding',ab,two,enc='base65')
std('flush quoted addresses',ab,lambda o:E('"a b"@fail.test','bad\ttab'),sender='a b@send.test')
std('flush empty recipient',ab,lambda o:E('','nobody'))
std('flush old style log',ab,'\n<old@fail.test>: an old reason\n\n')
std('flush damaged log',ab,'\nfoo\n=x\nunknown=1\nrecipient=z@fail.test\n\n\n\nreason=only reason\n\n\noriginal_recipient=o@x.test\nstatus=zzz\n\n')
std('flush sized out',ab,two,size=60000)
std('flush size zero',ab,two,size=0)
std('flush body starts odd',ab,two,body=['Not a header line','x: y','','foo'],ret=2)
std('flush header continued',ab,two,body=[('L','Subject: long '),('L','not: header'),'end',' cont',('L',' cont2'),'zzz','To: x','bad line','','foo'],ret=2)
std('warn',ab,lambda o:E('a@fail.test',status='4.4.1',action='delayed')+E('b@fail.test',LONG,status='4.4.1',action='delayed',notify=4),service='defer',n=2)
std('warn 8 only',ab,lambda o:E('a@fail.test',status='4.4.1',action='delayed',notify=4)+E('b@fail.test',LONG,status='4.4.1',action='delayed',notify=8,mta=('dns','x.test')),service='defer',n=2,envid='e')
std('warn null',ab,lambda o:E('a@fail.test',status='4.4.1',action='delayed'),service='defer',n=2,sender='')
std('warn double',ab,lambda o:E('a@fail.test',status='4.4.1',action='delayed'),service='defer',n=2,sender='DOUBLE-bounce@mail.example.com')
std('warn nolog',ab,None,service='defer',n=2)
std('warn no file',ab,E('a@fail.test',status='4.4.1',action='delayed'),service='defer',n=2,mk=False)
succ=lambda o:E('a@fail.test','delivery via x.test: 250 ok',status='2.0.0',action='relayed',diag=('smtp','250 ok'))+E('b@fail.test','alias expanded',status='2.0.0',action='expanded',notify=1)
std('trace success',ab,succ,service='trace',n=5)
std('trace verify',ab,succ,service='trace',n=5,flags=512)
std('trace record',ab,succ,service='trace',n=5,flags=1024)
std('trace delay cleared',ab,succ,service='trace',n=5,flags=8192,utf8=1)
std('trace null',ab,succ,service='trace',n=5,sender='')
std('trace double',ab,succ,service='trace',n=5,sender='double-bounce@mail.example.com')
std('trace nolog',ab,None,service='trace',n=5)
v=[('verp_delimiters','+=')]
std('verp',ab,two,n=3,extra=v,flags=2)
std('verp nolog',ab,None,n=3,extra=v)
std('verp null',ab,two,n=3,extra=v,sender='')
std('verp double',ab,two,n=3,extra=v,sender='double-bounce@mail.example.com')
std('verp bad',ab,two,n=3,extra=[('verp_delimiters','+')])
std('verp quoted',ab,lambda o:E('"a b"@fail.test',notify=1)+E('"c d"@fail.test')+E('nodomain'),n=3,extra=[('verp_delimiters','ab')],sender='x y@z.test')
std('verp nodomain sender',ab,lambda o:E('q@fail.test'),n=3,extra=[('verp_delimiters','%!')],sender='local')
std('one',ab,None,n=4,extra=rcptattrs('list@x.test','a@fail.test',dt='x-unix',dx='diag text',notify=0),sender='owner@x.test')
std('one same orig',ab,None,n=4,extra=rcptattrs('A@fail.test','a@fail.test',dsnorig='rfc822;foo',mt='dns',mn='m'),sender='owner@x.test',ret=2,envid='ee')
std('one equal orig',ab,None,n=4,extra=rcptattrs('a@fail.test','a@fail.test'),sender='owner@x.test')
std('one notify',ab,None,n=4,extra=rcptattrs('','a@fail.test',notify=1),sender='owner@x.test')
std('one null',ab,None,n=4,extra=rcptattrs('','a@fail.test'),sender='')
std('one double',ab,None,n=4,extra=rcptattrs('','a@fail.test'),sender='double-bounce@mail.example.com')
std('one quoted/empty',ab,None,n=4,extra=rcptattrs('x y@z','',status='4.9.9',action='delayed'),sender='owner@x.test')
std('one wrong service',ab,None,n=4,service='defer',extra=rcptattrs('','a@fail.test'))
def app(name,service,rc,flags=0,pre=None):
    qid=Qid(); mkmsg(qid,ab,BODY)
    if pre: log(service,qid,pre)
    run(name,service,[('nrequest',0),('flags',flags),('queue_id',qid)]+rc,qid)
app('append','bounce',rcptattrs('','a@fail.test'))
app('append full','defer',rcptattrs('o r@x','a b@fail.test',off=77,dsnorig='rfc822;x',notify=3,dt='smtp',dx='550 x',mt='dns',mn='m.test',action='delayed',status='4.1.1'))
app('append again','bounce',rcptattrs('A@fail.test','a@fail.test',off=0),pre=E('first@x'))
app('append ctl','trace',rcptattrs('','a\x01\x80\u00e9@fail.test',reason='tab\there\nnl\x7f',dt='x',dx='',mt='',mn='y',status=''))
app('append empty','bounce',rcptattrs('','',reason=''))
app('append halves','bounce',rcptattrs('','a@b',dt='',dx='x',mt='dns',mn=''))
app('append empty action','bounce',rcptattrs('','a@b',action=''))
def raw(name,service,attrs):
    run(name,service,attrs)
raw('bad number','bounce',[('nrequest',9),('flags',0)])
raw('no attrs','bounce',[('foo',1)])
raw('short flush','bounce',[('nrequest',1),('flags',0),('queue_name','active')])
raw('short append','bounce',[('nrequest',0),('flags',0),('queue_id','ABC1')])
raw('bad id','bounce',[('nrequest',0),('flags',0),('queue_id','../x')]+rcptattrs('','a'))
raw('bad queue','bounce',msgattrs(1,'ABC1',queue='a/b'))
raw('bad id flush','bounce',msgattrs(1,'A/BC1'))
raw('not a number','bounce',[('nrequest','x'),('flags',0)])
raw('unknown attrs skipped','bounce',[('zz','1'),('nrequest',9),('y',2),('flags',0)])
conf({'smtputf8_enable':'no','notify_classes':'resource','enable_threaded_bounces':'yes','header_from_format':'obsolete','bounce_size_limit':'400','mail_name':'My Mail (v.1)','backwards_bounce_logfile_compatibility':'no','maximal_queue_lifetime':'30m','delay_warning_time':'2000h'})
std('B flush basic',ab,two)
std('B flush 8bit',ab,two,enc='8bit')
std('B flush 7bit',ab,two,enc='7bit')
std('B flush bogus',ab,two,enc='bogus')
std('B flush utf8',ab,two,utf8=1)
std('B flush size limit',ab,two,size=401)
std('B flush size exact',ab,two,size=400)
std('B null',ab,two,sender='')
std('B warn',ab,lambda o:E('a@fail.test',status='4.4.1',action='delayed'),service='defer',n=2)
std('B warn null',ab,lambda o:E('a@fail.test',status='4.4.1',action='delayed'),service='defer',n=2,sender='')
std('B trace null',ab,succ,service='trace',n=5,sender='')
std('B trace',ab,succ,service='trace',n=5)
for i,h in enumerate(['Message-ID: foo','Message-ID:<a@b> (c)','MESSAGE-ID:   <a@b>  ','Message-ID: <a b@c>','Message-ID: <a@b> <c@d>','Message-ID:','Message-ID: <>','Message-ID:\n','Message-ID: <\u00e9@b>','Message-ID: <a>b>','Message-ID: (c) <a@b>','Message-ID: <"a b"@c>','X: y']):
    std('B msgid %d'%i,ab,lambda o:E('a@fail.test'),body=['Subject: x',h.strip('\n')]+([' <folded@id>'] if h.endswith('\n') else [])+['To: z','','body'])
std('B msgid two',ab,lambda o:E('a@fail.test'),body=['Message-ID: <1@x>','Message-ID: <2@x>','','b'])
std('B msgid body',ab,lambda o:E('a@fail.test'),body=['Subject: s','','Message-ID: <2@x>','b'])
app('B append','bounce',rcptattrs('x','a@b'))
open('/etc/postfix/b.cf','w').write('''# comment
failure_template = <<EOF
Charset: iso-8859-1
From: Mailer <x@y>
Subject: Custom failure
Postmaster-Subject: Custom pm

  Hi $myhostname, life $maximal_queue_lifetime_minutes ${mail_name?yes} 100$$
\u00e9

EOF
delay_template = <<EOF
Foo: x

y
EOF
success_template = <<EOF
Subject: ok

\u00e9
EOF
verify_template = <<EOF
Postmaster-Subject: x

y
EOF
other_template = x
''')
conf({'smtputf8_enable':'yes','notify_classes':'bounce','bounce_template_file':'/etc/postfix/b.cf','header_from_format':'standard','mail_name':'Postfix'})
std('C flush',ab,two)
std('C warn',ab,lambda o:E('a@fail.test',status='4.4.1',action='delayed'),service='defer',n=2)
std('C trace',ab,succ,service='trace',n=5)
std('C verify',ab,succ,service='trace',n=5,flags=512)
conf({'smtputf8_enable':'no'})
std('C flush noutf8',ab,two)
std('C flush noutf8 7bit',ab,two,enc='7bit')
std('C flush noutf8 8bit',ab,two,enc='8bit')
for i,t in enumerate(['failure_template = <<EOF\nSubject: x\n\nhi\n','failure_template=<<EOF\nSubject:\n\nx\nEOF\n','failure_template=<<EOF\nSubject: \u00e9\n\nx\nEOF\n','failure_template=<<EOF\nSubject: q\n\nEOF\n', 'failure_template=<<EOF\n\n$delay_warning_time_seconds\n$maximal_queue_lifetime_days\nEOF\n','failure_template=<<EOF\n\n$delay_warning_timeweeks\n$(delay_warning_time_weeks) $delay_warning_time\nEOF\n']):
    open('/etc/postfix/b.cf','w').write(t)
    sh('postfix reload'); time.sleep(1)
    std('D template %d'%i,ab,lambda o:E('a@fail.test'))
sh('postfix stop')
res.close()
