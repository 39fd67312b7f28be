#!/usr/bin/env python3
"""compare_tensors.py BEFORE AFTER PATTERN: which tensors of two model folders differ.

Reads the safetensors files byte by byte, with nothing of mttrain. Prints one line: "same S changed
C", and exits with 1 where a tensor whose name the regular expression PATTERN finds (those trained)
has the same bytes, or another one has not. The pooler of mean pooling is never trained.
"""
import json
import re
import struct
import sys


def tensors(folder):
    found = {}
    for name in ("model.safetensors", "heads.safetensors"):
        with open(f"{folder}/{name}", "rb") as f:
            blob = f.read()
        (size,) = struct.unpack("<Q", blob[:8])
        header = json.loads(blob[8 : 8 + size])
        header.pop("__metadata__", None)
        for tensor, about in header.items():
            begin, end = about["data_offsets"]
            found[tensor] = (about["dtype"], about["shape"], blob[8 + size + begin : 8 + size + end])
    return found


def main():
    before, after, pattern = tensors(sys.argv[1]), tensors(sys.argv[2]), re.compile(sys.argv[3])
    bad = [] if before.keys() == after.keys() else ["the folders have different tensors"]
    changed = 0
    for name in sorted(before.keys() & after.keys()):
        differs = before[name] != after[name]
        trained = bool(pattern.search(name)) and "pooler" not in name
        changed += differs
        if differs != trained:
            bad.append(f"{name} is {'changed' if differs else 'as before'}")
    print(f"same {len(before) - changed} changed {changed}")
    for line in bad[:5]:
        print(line)
    sys.exit(1 if bad else 0)


main()
