#!/usr/bin/env bash
# The checks of this folder find what they are for: a small tree with one fault of each kind.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{tests/lint,comm/base,io,extra}
cp "$here"/*.py "$here"/include_rules.txt "$tree/tests/lint"

cat >"$tree/io/first.c" <<'EOF'
#include <stdio.h>
#include <mpi.h>
#include "comm/agree.h"
#include "first.h"
EOF
cat >"$tree/comm/agree.h" <<'EOF'
#ifndef A
/* Collective.  Both of a group have it. */
mt_status agree_one(int a,
                    int b);
int agree_two(void);

int agree_bare(void);
#endif
EOF
cat >"$tree/io/first.h" <<'EOF'
mt_status first_bare(void);
int first_cannot_fail(void);
EOF
touch "$tree/extra/first.c"
# Written in two halves, so that this file itself holds none of the words.
printf '%s%s: see ..%s\nint n = ato%s("7");\n' TO DO /shared/x i >"$tree/io/words.c"
printf '%s\n' '// for' ' now' | tr -d '\n' >"$tree/comm/words.c"
seq 701 >"$tree/comm/long.c"

failures=0
expect() { # expect CHECK MESSAGE...
    local check=$1 out code=0
    shift
    out=$(python3 -B "$tree/tests/lint/check_$check.py") || code=$?
    if [ "$code" -eq 0 ]; then
        echo "check_$check.py passes a tree full of faults"
        failures=1
    fi
    for message; do
        if ! grep -qF -- "$message" <<<"$out"; then
            echo "check_$check.py does not say: $message"
            failures=1
        fi
    done
    if grep -E 'agree_one|agree_two|cannot_fail|stdio' <<<"$out"; then
        echo "check_$check.py finds fault with what is right"
        failures=1
    fi
}

expect includes 'io/first.c:2: <mpi.h> is not allowed in io' 'io/first.c:3: io may not include comm' \
    'io/first.c:4: "first.h" is not a file written from the root' \
    'extra/first.c: a C file outside' 'first.c: the same file name as' 'io/README.md: absent'
expect contracts 'comm/agree.h:7: agree_bare' 'io/first.h:1: first_bare'
expect words 'io/words.c:1:' "only tests and .ci" 'io/words.c:2:' 'comm/words.c:1:' \
    'comm/long.c: 701 lines'
exit $failures
