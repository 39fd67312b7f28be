#!/usr/bin/env python3
"""Prints the tables of io/unicode_hf.c from the reference tokenizer's own answers.

usage: make_unicode_tables.py MEASURED
MEASURED is what measure_unicode.js printed: for every scalar value what cleaning, decomposing,
stripping, lowering and splitting make of it, and its combining class.
"""
import sys


def ranges(codes):
    out = []
    for c in sorted(codes):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def show(name, codes):
    print("static const struct code_range %s[] = {" % name)
    print("    " + ", ".join("{0x%04X, 0x%04X}" % tuple(r) for r in ranges(codes)) + ",")
    print("};\n")


rows = [line.rstrip("\n").split("\t") for line in open(sys.argv[1], encoding="ascii")]
rows = [(int(r[0], 16),) + tuple(r[1:]) for r in rows]
# code, cleaned, decomposed, stripped, lowered, parts, class
show("control_ranges", [r[0] for r in rows if r[1] == "" and r[0] not in (0, 0xFFFD)])
show("punctuation_ranges", [r[0] for r in rows if r[5] == "3"])
marks = {r[0] for r in rows if r[3] == ""}
show("mark_ranges", marks)
kept = []
for code, order in [(r[0], int(r[6])) for r in rows if r[6] != "0" and r[0] not in marks]:
    if kept and kept[-1][1] == code - 1 and kept[-1][2] == order:
        kept[-1][1] = code
    else:
        kept.append([code, code, order])
print("static const struct class_range class_ranges[] = {")
print("    " + ", ".join("{0x%04X, 0x%04X, %d}" % tuple(k) for k in kept) + ",\n};\n")
