"""Every function that a header of the listed folders offers says Local, Collective or Root.

A contract is the comment right above a group of prototypes (no blank line in between) or beside
one, or a sentence "Functions here are Local" (or Collective, Root) in the head of the header.  In
folders without MPI a function that cannot fail needs none.
"""

import re
import sys

from source_files import all_files, read, report, without_comments

WITH_MPI = ("comm/", "trainer/")
WITHOUT_MPI = ("comm/base/", "io/", "schedules/", "jobs/", "trainer/model/", "trainer/optim/")
WORD = re.compile(r"\b(Local|Collective|Root)\b")
PROTOTYPE = re.compile(r"^(?!typedef|static|#|\s|struct \w+ \{|enum|union)[A-Za-z_][\w \*]*?\b(\w+)\(")


def is_comment(line):
    return line.startswith(("/*", " *", "//"))


def check_header(path):
    text = read(path)
    lines, bare = text.splitlines(), without_comments(text).splitlines()
    head = text[:text.find("#ifndef")] if "#ifndef" in text else ""
    if re.search(r"[Ff]unctions here are (Local|Collective|Root)\b", head):
        return 1, []
    all_need_it = path.startswith(WITH_MPI) and not path.startswith(WITHOUT_MPI)
    problems, count, covered = [], 0, False
    for i, line in enumerate(lines):
        if not line.strip():
            covered = False
        elif WORD.search(line) and (is_comment(line) or "/*" in line):
            covered = True
        m = PROTOTYPE.match(bare[i]) if i < len(bare) else None
        if not m:
            continue
        count += 1
        may_fail = bare[i].startswith("mt_status ")
        if not covered and (all_need_it or may_fail):
            problems.append(f"{path}:{i + 1}: {m.group(1)} says none of Local, Collective, Root")
    return count, problems


def main():
    problems, checked = [], 0
    for path in all_files():
        if path.endswith(".h") and path.startswith(WITH_MPI + WITHOUT_MPI):
            count, found = check_header(path)
            checked += count
            problems += found
    return report(problems, checked, "contracts")


sys.exit(main())
