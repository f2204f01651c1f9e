#!/usr/bin/env python3
"""same.py A B: the scenarios in which two outputs of run.py differ, with the
lines that only one has; the order of lines within a scenario does not count."""
import sys
from collections import Counter

def load(name):
    found, lines = {}, []
    for l in open(name, errors='replace').read().split('\n'):
        if l.startswith('## '): lines = found.setdefault(l[3:], [])
        elif not l.startswith('NOT IDLE'): lines.append(l)
    return found

a, b = load(sys.argv[1]), load(sys.argv[2])
bad = [n for n in {**a, **b} if Counter(a.get(n, [])) != Counter(b.get(n, []))]
for n in bad:
    x, y = Counter(a.get(n, [])), Counter(b.get(n, []))
    print('##', n)
    for l in x - y: print('-', l)
    for l in y - x: print('+', l)
print(len(a), 'scenarios,', len(bad), 'differ')
sys.exit(bool(bad))
