umask 022
cat >al <<'X'
# aliases
postmaster: root
Root:	joe, "|/bin/x y", :include:/a/b
"quo ted": a@b
cc: x@y.z (comment), <d@e>
no colon
: x
y:
z: ,
a,b: c
a@b: c
per%cent: c
dup: 1
dup: 2
src: x@y: z
 long:
   folded,
   text   "a  b"   <x@y>
fé: é
b\a: x\y
grp: a b c
(comment) com: z
bad utf: é
X
printf 'l\xff: x\n' >>al
postalias hash:al; echo rc=$?; postalias -s hash:al | grep -v YP_LAST | sort; 
printf 'root\ncc\nnope\nFÉ\n' | postalias -q - hash:al; echo rc=$?
postalias -q YP_MASTER_NAME hash:al; postalias -f -q YP_MASTER_NAME hash:al; postalias -nfq YP_MASTER_NAME hash:al;postalias -q @ hash:al; postalias -q '"quo ted"' hash:al; postalias -q 'quo ted' hash:al
echo 'new: one' | postalias -i hash:al; postalias -s hash:al | grep -v YP_LAST | sort;  postalias -x; postalias; postalias -m al; postalias -d dup hash:al; echo $?; printf 'src\ngrp\n' | postalias -d - hash:al; echo $?;  printf 'src\n' | postalias -d - hash:al; echo $?;postalias -s hash:al | grep -v YP_LAST | sort
postalias -n btree:al; postalias -s btree:al | grep -v YP_L; rm al.db; postalias cdb:al; postalias -q root cdb:al; postalias -s cdb:al; postalias -w hash:al; postalias -q dup hash:al; postalias -r hash:al; postalias -q dup hash:al; postalias al; postalias -q root al
echo == flags; cp al t; printf 'A 1\nb 2\nb 3\nÄ x\nß y\n' >t
for f in -f -n -N -w -r -u -U -p -o -nN; do rm -f t.db; postmap $f t; echo rc=$?; postmap -s t; postmap -fs t; for k in a A b Ä ä SS ß; do postmap -q $k t; postmap -fq $k t;  postmap -uq $k t; done; done
chmod 600 t; rm -f t.db; postmap t; ls -l t.db | cut -c1-10; chmod 664 t; rm -f t.db; postmap t; ls -l t.db | cut -c1-10;  rm -f t.db; postmap -p t; ls -l t.db | cut -c1-10; chmod 600 t; rm t.db; postmap -p t; ls -l t.db | cut -c1-10;
echo == F; echo one >v1; printf two >v2; printf 'k1 v1\nk2 v1, v2\nk3 nosuch\nk4 ,\n' >fs; postmap -F hash:fs; postmap -s hash:fs; postmap -Fs hash:fs; postmap -Fq k2 hash:fs; postmap -q k2 hash:fs; postmap -Fq k1 t; for ty in "static:v2" "inline:{k1=v1}" "randmap:{v1}"; do postmap -Fq k1 $ty; echo rc=$?;postmap -q k1 $ty; done; postmap -F hash:t; echo 'x notb64!' >bb; postmap bb; postmap -Fq x bb
postmap -Fq k9 static:nosuch; postmap -Fq k9 "inline:{k=nosuch}"; echo "/a/ nosuch" >rr; postmap -Fq k9 regexp:rr; echo "/a/ v1" >rr; postmap -Fq a regexp:rr; echo "1.1.1.1 v1" >rr; postmap -Fq 1.1.1.1 cidr:rr; echo "1.1.1.1 nov" >rr; postmap -Fq 1.1.1.1 cidr:rr; postmap -Fq a "randmap:{nov}"
echo == msg; printf 'Subject: hi\n there\nContent-Type: multipart/mixed; boundary=bb\nFrom: x\n\npre\n--bb\nContent-Type: message/rfc822\n\nSubject: inner\nX-y: z\n\nbody1\n--bb\nContent-Type: text/plain\n\nbody2\n--bb--\nepi\n' >m
for o in -h -b -hb -hm -bm -hbm -m; do echo "o=$o"; postmap $o -q - 'regexp:{{/(.*)/ x}}' <m; echo rc=$?; done; postmap -h -q - static: <m
printf 'x  \n   y z\n' >bad; postmap hash:bad; printf '  indented first line is very long indeed, is it not? yes\nk v\n' >bad; postmap hash:bad; postmap -s hash:bad; printf 'k\0k v\0v\nl v' >nul; postmap hash:nul; postmap -s hash:nul; printf 'k v\r\n' >crlf; postmap hash:crlf; postmap -s hash:crlf | od -c | head -3
printf 'e1 \n"e 2" ""\n e3 x\n' | postmap -i hash:new; postmap -s hash:new; postmap -q 1.1.1.1 cidr:{{1.1.1.1/33' 'x}}; postmap -q 1.1.1.1 "cidr:{{1.1.1.1/32 x},{if ::/129},{[::1]/99999999999 x}}"
postmap -q x inline:'{ "a b"=c, {"x"  =  y z }, x = 3 }'; postmap -q x inline:'{ {x = } }'; postmap -q x inline:'{ x= }';  postmap -q x inline:'{ {= v} }'; postmap -q x inline:'{ {"x = v} }'; postmap -q x inline:'{ {x=v }'; postmap -q x inline:'{ {x=v}y }'; postmap -q x inline:'{ x=v, x=w }'; postmap -q X inline:'{ X=v }'; postmap -fq X inline:'{ X=v }'; postmap -q '' static:a; echo $?; postmap -q x static:'{a'; postmap -q x static:'{ a }b'; postmap -q x static:'{ }'; echo $?;  postmap -q x static:'{}'; echo $?; postmap -q x 'unionmap:{static:a,foo:b}'; postmap -q x 'unionmap:{static:a,fail:b}'; postmap -q x 'unionmap:{}'; postmap -q x 'pipemap:{static:a,inline:{b=c}}'; echo $?; postmap -q x 'randmap:{}'; postmap -q x 'randmap:{{ a b }}'; postmap -q x 'unionmap:{static:a'; postmap -d a regexp:rr; postmap -s regexp:rr; postmap -q x "inline:{a=b"; postmap -q b "inline:{a=b c=d, b=ü}"; postmap -s 'inline:{b=c,a=d}'
