"""Files of the source tree, for the checks of this folder: those git knows or would add, or, where
there is no git, all that is not a build or run folder."""

import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED = {".git", "build", "runs", "spool", ".cache", "__pycache__"}


def all_files():
    """Paths relative to the root, sorted."""
    try:
        out = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, capture_output=True).stdout.decode()
        names = [n for n in out.split("\0") if n]
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, folders, files in os.walk(ROOT):
            folders[:] = [f for f in folders if f not in SKIPPED]
            names += [os.path.relpath(os.path.join(folder, f), ROOT) for f in files]
    return sorted(set(n for n in names if os.path.isfile(os.path.join(ROOT, n))))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def without_comments(text):
    """C source with comments and the insides of strings blanked, line numbers kept."""
    out, i, n = [], 0, len(text)
    while i < n:
        two = text[i:i + 2]
        if two == "/*":
            end = text.find("*/", i + 2)
            end = n if end < 0 else end + 2
            out.append("".join(c if c == "\n" else " " for c in text[i:end]))
            i = end
        elif two == "//":
            end = text.find("\n", i)
            i = n if end < 0 else end
        elif text[i] in "\"'":
            quote, start = text[i], i
            i += 1
            while i < n and text[i] not in (quote, "\n"):
                i += 2 if text[i] == "\\" else 1
            i += 1
            out.append(quote + " " * max(0, i - start - 2) + quote)
        else:
            out.append(text[i])
            i += 1
    return "".join(out)


def report(problems, checked, what):
    """Prints the problems; the exit code of the check."""
    for p in problems:
        print(p)
    if checked == 0:
        print(f"{what}: nothing was checked")
        return 1
    print(f"{what}: {checked} checked, {len(problems)} problems")
    return 1 if problems else 0
