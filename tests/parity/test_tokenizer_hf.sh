#!/usr/bin/env bash
# Ids of a mixed-script corpus, lower and cased, with and without truncation, against those of
# Hugging Face's own tokenizer (npm package tokenizers 0.23.2).  Needs node, ../shared (or
# MT_SHARED) and a folder where `npm install tokenizers@0.23.2` was run: MT_HF_TOKENIZERS, by default
# $TMPDIR/hftok.  MT_HF_LINES and MT_HF_SEEDS ("1 2 all") choose a longer run; the seed "all" is
# every code point.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
shared=${MT_SHARED:-$here/../../../shared}
package=${MT_HF_TOKENIZERS:-${TMPDIR:-/tmp}/hftok}
binary=$(dirname "${MTTRAIN:-./mttrain}")/tests/parity_tokenizer_lines
[ -x "$binary" ] || binary=./parity_tokenizer_lines
skip() { echo "skipped: $1"; exit 77; }

command -v node >/dev/null || skip "node absent"
command -v python3 >/dev/null || skip "python3 absent"
[ -d "$package/node_modules/tokenizers" ] || skip "$package/node_modules/tokenizers absent"
[ -f "$shared/tools/hf-tokenize.js" ] || skip "$shared/tools/hf-tokenize.js absent"
[ -x "$binary" ] || { echo "$binary is not built"; exit 1; }
shared=$(cd "$shared" && pwd)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# The package now and then never answers one of its promises, so it gets the lines in parts, each
# with time and tries.
reference() {
    local part try
    rm -f "$work"/part.*
    split -l 20000 -a 4 "$work/lines" "$work/part." || return 1
    for part in "$work"/part.*; do
        for try in 1 2 3 4; do
            [ "$try" -lt 4 ] || { echo "the reference does not answer" >&2; return 1; }
            (cd "$package" && timeout 120 node "$shared/tools/hf-tokenize.js" "$@") \
                <"$part" >"$work/answer" && break
        done
        cat "$work/answer"
    done >"$work/expected"
}

failed=0
for seed in ${MT_HF_SEEDS:-1}; do
    for form in uncased:lower: cased:cased: uncased:lower:16 cased:cased:10 uncased:lower:5; do
        IFS=: read -r model mode max <<<"$form"
        count=${MT_HF_LINES:-100000}
        [ -z "$max" ] || count=$((count / 5))
        vocab=$shared/data/vocab/bert-base-$model-vocab.txt
        python3 "$here/make_lines.py" "$vocab" "$seed" "$count" >"$work/lines" || exit 1
        # shellcheck disable=SC2086
        reference "$vocab" "$mode" $max || exit 1
        # shellcheck disable=SC2086
        "$binary" "$vocab" "$mode" $max <"$work/lines" >"$work/got" || exit 1
        differ=$(diff "$work/expected" "$work/got" | grep -c '^[<>]')
        echo "seed $seed, $mode${max:+, at most $max tokens}: $(wc -l <"$work/got") lines, $differ differ"
        [ "$differ" = 0 ] || failed=1
    done
done
exit $failed
