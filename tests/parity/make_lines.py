#!/usr/bin/env python3
"""Writes a corpus of mixed scripts for comparing tokenizers, a text or a pair (TAB) a line.

usage: make_lines.py VOCAB SEED LINES > CORPUS        SEED "all": every code point, alone and between
letters, instead of random lines.  No line holds LF, nor a TAB other than the pair's.
"""
import random
import sys
import unicodedata

SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c not in (9, 10)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NEAR_SPECIAL = ["[mask]", "[MASK", "MASK]", "[[MASK]]", "[CLS][SEP]", "[UNK]x", "x[UNK]", "[ SEP ]",
                "[MASK]\u0301", "e[SEP]\u0301", "\u0301[CLS]"]
MARKS = [c for c in SCALARS if unicodedata.category(chr(c)) in ("Mn", "Mc", "Me")]
ORDERED = [c for c in MARKS if unicodedata.combining(chr(c))]
DECOMPOSED = [c for c in SCALARS if unicodedata.normalize("NFD", chr(c)) != chr(c)]
CASED = [c for c in SCALARS if chr(c).lower() != chr(c) or chr(c).upper() != chr(c)]
PUNCTUATION = [c for c in SCALARS if unicodedata.category(chr(c))[0] in "PS"]
CONTROL = [c for c in SCALARS if unicodedata.category(chr(c)) in ("Cc", "Cf")]
SPACES = [0x20, 0xA0, 0x1680, 0x2000, 0x2003, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0x85, 0x0B, 0x0C,
          0x0D, 0x180E, 0x200B, 0xFEFF]
BLOCKS = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x590, 0x6FF), (0x700, 0xDFF),
          (0xE00, 0x10FF), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x2BFF), (0x2C00, 0x2E7F),
          (0x3000, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA640, 0xABFF), (0xAC00, 0xD7A3),
          (0xF900, 0xFDFF), (0xFE00, 0xFFFD), (0x10000, 0x11FFF), (0x16E00, 0x16FFF), (0x1D000, 0x1D7FF),
          (0x1E000, 0x1EFFF), (0x1F000, 0x1FAFF), (0x20000, 0x2CEAF), (0x2CEB0, 0x2FA1F), (0xE0000, 0xE01EF)]


def text(r, codes, low, high):
    return "".join(chr(r.choice(codes)) for _ in range(r.randint(low, high)))


def block(r):
    first, last = r.choice(BLOCKS)
    return "".join(chr(r.randint(first, last)) for _ in range(r.randint(1, 12)))


def marked(r):
    """Letters under stacks of marks."""
    return "".join(chr(r.choice(DECOMPOSED if r.random() < 0.5 else CASED)) +
                   text(r, ORDERED if r.random() < 0.7 else MARKS, 0, 5) for _ in range(r.randint(1, 5)))


def long_word(r, words):
    """Words around the limit of 100 characters, counted before or after normalising."""
    unit = r.choice(["a", "B", "\u00e9", "\u1e69", "\uac01", "\u0130", "\u00df", r.choice(words).lstrip("#") or "x"])
    return (unit * r.randint(30, 260))[:r.choice([99, 100, 101, 102, 110, 300])] + text(r, MARKS, 0, 3)


def piece(r, words):
    kind = r.random()
    if kind < 0.40:
        w = r.choice(words)
        w = w[2:] if w.startswith("##") and r.random() < 0.8 else w
        return r.choice([w, w, w.upper(), w.capitalize(), w + r.choice(words).lstrip("#")])
    if kind < 0.60:
        return block(r)
    if kind < 0.70:
        return marked(r)
    if kind < 0.75:
        return text(r, SCALARS, 1, 4)
    if kind < 0.80:
        return text(r, PUNCTUATION, 1, 4)
    if kind < 0.84:
        return r.choice("abcXYZ") + text(r, CONTROL, 1, 3) + r.choice("abcXYZ")
    if kind < 0.89:
        return text(r, CASED, 1, 8)
    if kind < 0.94:
        return r.choice(SPECIAL if r.random() < 0.6 else NEAR_SPECIAL)
    if kind < 0.955:
        return long_word(r, words)
    if kind < 0.97:
        return text(r, ORDERED, 1, 260) if r.random() < 0.1 else text(r, ORDERED, 1, 9)
    return text(r, SPACES, 1, 3)


def line(r, words):
    glue = ["", "", " ", " ", " ", "\u3000", "-"]
    parts = [piece(r, words) + r.choice(glue) for _ in range(r.randint(0, 14))]
    out = "".join(parts).replace("\n", " ").replace("\t", " ")
    if r.random() < 0.25:
        at = r.randint(0, len(out))
        out = out[:at] + "\t" + out[at:]
    return out


def main():
    out = sys.stdout.buffer
    with open(sys.argv[1], encoding="utf-8") as f:
        words = [w for w in f.read().split("\n") if w]
    if sys.argv[2] == "all":
        for c in SCALARS:
            x = chr(c)
            out.write(("%s a %s b a%sb A%s\u0334\u0301c \u0345%s\u0316\n" % (x, x, x, x, x)).encode("utf-8"))
        return
    r = random.Random(sys.argv[2])
    for _ in range(int(sys.argv[3])):
        out.write((line(r, words) + "\n").encode("utf-8"))


main()
