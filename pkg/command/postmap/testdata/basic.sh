
printf 'key1 value one\n# c\nKEY2 v2\n cont\nbad\nkey1 dup\nal: x\n"q a" v\n"unb v\n\xff\xfe v\nempty  \n' >t
postmap hash:t; echo rc=$?; postmap -s hash:t
printf 'key1\nx\nKEY2\n\n' | postmap -q - hash:t; echo rc=$?
for ty in fail:x static:v 'static:{a b}' 'inline:{a=b, {c = d e}}' 'inline:{a}' 'inline:{}' 'inline:x' 'randmap:{v}' 'randmap:v' 'pipemap:{inline:{x=y},inline:{y=z}}' 'unionmap:{inline:{x=y},inline:{x=z}}' 'pipemap:x' foo:x unix:zz internal:x hash:/nope texthash:/nope regexp:/nope cidr:/nope cdb:/nope socketmap:x; do echo "== $ty"; postmap -q x "$ty" </dev/null; echo rc=$?; done
echo == create types; for ty in static:t foo:t fail:t proxy:hash:t pcre:t environ:t; do postmap $ty; echo rc=$?; done
postmap -s static:x; postmap -s proxy:hash:t;  postmap -s cdb:/nope; postmap -d a static:x; postmap -d nokey hash:t; echo rc=$?; postmap -d KEY1 hash:t; echo rc=$?; postmap -s hash:t
postmap -q a -s hash:t;  postmap -s -q a hash:t;  postmap -q a -d b hash:t; postmap -z; postmap -q a -q b; postmap; echo rc=$?; postmap -q a ; echo rc=$?; postmap -s; echo rc=$?; postmap -m -q - hash:t </dev/null; echo rc=$?; postmap -b hash:t;
echo 'new v' | postmap -i hash:t; echo 'new v2' | postmap -i hash:t;  echo 'new v2' | postmap -ir hash:t; postmap -s hash:t; : >z.db; echo a b >z; postmap hash:z; echo text >y.db; echo a b >y; postmap hash:y; echo rc=$?; postmap -q a hash:y
postmap -i cdb:t </dev/null; postmap nosuch; postmap hash:nosuch; postmap -q a :x
