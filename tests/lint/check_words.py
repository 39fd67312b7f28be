"""No words of unfinished work, no machine paths, no file beyond the hard bound of its length."""

import re
import sys

from source_files import all_files, read, report

LINES_MAX = 700
CODE = (".c", ".h", ".sh", ".py", ".js", ".cmake", "CMakeLists.txt")
TEXT = CODE + (".md", ".cfg", ".sbatch", ".json", "run")

# Written so that no pattern matches this file.
WORDS = [
    (r"\b(T[O]DO|FIX[M]E|X{3}|HA[C]K)\b", "a word of unfinished work"),
    (r"\bfor[ ]now\b", "a word of unfinished work"),
    (r"\bnot (yet )?implemente[d]\b|\bstu[b](bed)?\b|\bplaceholde[r]\b", "a word of unfinished work"),
    (r"(?<![\w.}$])/(wor[k]|roo[t]|far[m])/", "a path of one machine"),
]
SHARED = (r"\.\./share[d]", "only tests and .ci may reach beside the source folder")
BANNED = (r"\b(strcpy|strcat|sprintf|strtok|atoi|atof|gets)\s*\(", "a banned call")


def check(path):
    problems, text = [], read(path)
    rules = list(WORDS)
    if not path.startswith(("tests/", ".ci/")):
        rules.append(SHARED)
    if path.endswith((".c", ".h")) and not path.startswith(("tests/", "comm/base/banned.h")):
        rules.append(BANNED)
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, why in rules:
            m = re.search(pattern, line)
            if m:
                problems.append(f"{path}:{number}: '{m.group(0)}': {why}")
    lines = text.count("\n")
    if path.endswith(CODE) and lines > LINES_MAX:
        problems.append(f"{path}: {lines} lines; the hard bound is {LINES_MAX}")
    return problems


def main():
    problems, checked = [], 0
    for path in all_files():
        if path.endswith(TEXT) and not path.startswith("tests/golden/"):
            checked += 1
            problems += check(path)
    return report(problems, checked, "words")


sys.exit(main())
