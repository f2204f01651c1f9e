import sys,re,difflib
def load(p):
    d={};cur=None
    for l in open(p,errors='replace'):
        if l.startswith('######## '): cur=l[9:].strip(); d[cur]=[]
        elif cur: d[cur].append(l)
    return d
def norm(ls):
    out=[]
    for l in ls:
        l=re.sub(r'^(message_size: +)\d+ +\d+( +\d+ +\d+) +\d+',r'\1S O\2 S',l)
        l=re.sub(r'^(warning_message_time: ).*',r'\1T',l)
        out.append(l)
    return out
a,b=load(sys.argv[1]),load(sys.argv[2])
same=0
for k in a:
    if k not in b: print('MISSING',k); continue
    x,y=norm(a[k]),norm(b[k])
    if x==y: same+=1; continue
    print('#### DIFF',k)
    sys.stdout.writelines(difflib.unified_diff(x,y,'debian','ours',n=1))
print('same',same,'of',len(a))
