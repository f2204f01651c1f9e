
for ty in static:x 'inline:{a=b}' regexp:/dev/null pcre:/dev/null cidr:/dev/null texthash:/dev/null 'randmap:{a}' 'unionmap:{static:a}' 'pipemap:{static:a}' tcp:x:1 socketmap:inet:x:1:m environ:x internal:x fail:x; do echo "== $ty"; postmap -d a $ty; echo rc=$?; postmap -s $ty; echo rc=$?; done
cat >re <<'X'
# comment
/^(a+)(b*)$/   got $1-$2.${1}$(2)$$
/ic/i  caseful
/x.y/m  nl
/b\(c\)/x  basic $1
/p1/!/p2/  first not second
/q1/!!/q2/ both
!/zz/z neg
!/nomatch[/ x
/bad(/ v
/nores/
/a/ $2
/a/ $x
/a/ $0
/a/ ${1
/(a)/ $99999999999
!/(a)/ $1
noslash x
/unclosed
if /^if/
/^if1/ one
if !/2$/
/^if/ not2
endif
endif
endif
if /x/ extra
/never/ z
1abc
/a/q v
* foo
  /indented/ x
/[[:alpha:]]{3,2}/ v
/a**/ v
/*a/ v
/a{1/ v
/a{1,x}/ v
/[[:foo:]]/ v
/[b-a]/ v
/\/ x
/(a)\2/ v
/a|*b/ v
/a)b/ paren
/()x/ emptygroup
/^*q/ starq
/\<word\>/ word
/(x)\1/ backref $1
/é/ utf
/[^é]É/ hm
X
for k in aaabb ic IC x "xay" "bc" "b(c)" p1 p1p2 q1 q1q2 if1 if2 if3 "a)b" "x" "xx" word "-word-" "É" "aé" "A)B"  "aÉ" "^q" q; do echo "k=$k"; postmap -q "$k" regexp:re 2>/dev/null; done
postmap -q zzz regexp:re
head -3 re >re2; sed 's/^!.zz.*//' re >re3;  for k in "a)b" x xx word "-word-" "É" "aé" "aÉ" "^q" q hello IF1 if2 "x
y"; do echo "k=$k"; postmap -q "$k" regexp:re3 2>/dev/null; done
postmap -q x "regexp:{ {/a/ b}, {/x(.*)/ y\$1z} }"; postmap -q x 'regexp:{ /x/ b }'; postmap -q x 'regexp:{ {/x b }'; postmap -q x 'pcre:{{/x/ b}, {bad}}'; 
cat >pc <<'X'
/^(a+)(b*)$/   got $1-$2.${1}$(2)$$
/ic/i  caseful
/x.y/s  nodotall
/m^b/m multi
!/(zz)/ $1
/a(?=b)/ look
/(?<n>x+)(y)\k<n>/ named $1 $2
/u(.*)c(.*)/U ungreedy $1
/anch/A anchored
/e$/E end
/p++a/ poss
/\d{3}-\w+\s\h/ cls
/[[:upper:]][^[:digit:]]/i upper
/\Qa.b\E/ quoted
/(?i)X(?-i)y/ inl
/bad(/ v
/bad[/ v
/*x/ v
/x{2}?/X obsolete
/(a)/ $2
/(a)/ $0
/[b-a]/ v
/(?P<z>a)(?P=z)/ pz $1
/unclosed
foo
/nores/
/\x41\101\t/ esc
/a b # c/x ext
/(opt)?k/ opt[$1]
X
for k in aab ic IC "x
y" ab xyx  ucc uaacaac anch xanch e 'e
' ppa "123-ab  " "Ab" "aa" a.b Xy XY xx "AA	" optk k é ; do echo "k=$k"; postmap -q "$k" pcre:pc 2>/dev/null; done; postmap -q zzz pcre:pc
cat >ci <<'X'
1.2.3.4 host
10.0.0.0/8 net
!192.168.0.0/16 notrfc
::1 lo6
[2001:db8::]/32 doc
2001:db8::/129 bad
1.2.3.4/24 bad
1.2.3/24 bad
[1.2.3.4 x
[1.2.3.4]x x
1.2.3.4
abc x
1.2.3.4/a x
1.2.3.4/ x
/24 x
if 1.0.0.0/8
1.0.0.0/8 one
endif
endif
endif x
if ::/0
0::/0 any6
if 1.1.1.1 foo
! 
if
X
for k in 1.2.3.4 10.1.1.1 192.168.1.1 8.8.8.8 ::1 2001:db8::5 2002::1 1.9.9.9 foo 1.2.3 1.2.3.04 ::ffff:1.2.3.4; do echo "k=$k"; postmap -q "$k" cidr:ci 2>/dev/null; done; postmap -q foo cidr:ci;  postmap -q 1.1.1.1 "cidr:{{1.1.1.1 x}}"; postmap -q 1.1.1.1 "cidr:{1.1.1.1 x}"
