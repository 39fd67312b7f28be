"""Include arrows as include_rules.txt has them; unique file names; a README in each folder."""

import os
import re
import sys

from source_files import ROOT, all_files, read, report

HEADINGS = ["Promise", "May include", "Files in reading order", "Decisions"]
README_FOLDERS = ["comm", "comm/base", "io", "schedules", "jobs", "trainer", "trainer/model",
                  "trainer/optim"]


def read_rules():
    rules, everywhere = {}, set()
    for line in read("tests/lint/include_rules.txt").splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        fields = [f.strip() for f in line.split(":")]
        if fields[0] == "everywhere":
            everywhere = set(fields[1].split())
        else:
            rules[fields[0]] = (set(fields[1].split()), fields[2].split())
    return rules, everywhere


def folder_of(path, rules):
    fits = [f for f in rules if path.startswith(f + "/")]
    return max(fits, key=len) if fits else None


def check_file(path, rules, everywhere, once):
    problems = []
    folder = folder_of(path, rules)
    if folder is None:
        return [f"{path}: a C file outside the folders of include_rules.txt"]
    folders, outside = rules[folder]
    outside_names = {name.split("!")[0] for name in outside}
    for number, line in enumerate(read(path).splitlines(), 1):
        where = f"{path}:{number}"
        m = re.match(r'\s*#\s*include\s*([<"])([^">]+)[">]', line)
        if not m:
            continue
        name = m.group(2)
        if m.group(1) == '"':
            target = folder_of(name, rules)
            if target is None or not os.path.isfile(os.path.join(ROOT, name)):
                problems.append(f'{where}: "{name}" is not a file written from the root')
            elif target not in folders:
                problems.append(f"{where}: {folder} may not include {target} ({name})")
        elif name not in everywhere and name not in outside_names:
            problems.append(f"{where}: <{name}> is not allowed in {folder}")
        elif name + "!once" in outside:
            once.setdefault(name, set()).add(path)
    return problems


def check_readme(folder, files):
    path = f"{folder}/README.md"
    if path not in files:
        return [f"{path}: absent"]
    text = read(path)
    headings = re.findall(r"^#+\s+(.*?)\s*$", text, re.M)
    problems = [f"{path}: no heading '{h}'" for h in HEADINGS if h not in headings]
    for name in files:
        inside = os.path.dirname(name) == folder
        if inside and name.endswith(".h") and os.path.basename(name)[:-2] not in text:
            problems.append(f"{path}: does not name {os.path.basename(name)}")
    return problems


def main():
    rules, everywhere = read_rules()
    files = all_files()
    sources = [f for f in files if f.endswith((".c", ".h"))]
    problems, once, seen = [], {}, {}
    for path in sources:
        problems += check_file(path, rules, everywhere, once)
        base = os.path.basename(path)
        if re.match(r"tests/\w+/test_\w+\.c$", path):
            continue  # one module may have tests of several kinds
        if base in seen:
            problems.append(f"{path}: the same file name as {seen[base]}")
        seen[base] = path
    for header, users in once.items():
        if len(users) > 1:
            problems.append(f"<{header}> belongs in one file: {', '.join(sorted(users))}")
    for folder in README_FOLDERS:
        problems += check_readme(folder, files)
    return report(problems, len(sources), "includes")


sys.exit(main())
