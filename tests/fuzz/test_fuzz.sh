#!/usr/bin/env bash
# A short run of every fuzz target: what the seeds lead to holds. Longer runs: tests/fuzz/run.sh.
here=$(dirname "$0")
exec nice bash "$here/run.sh" --build "$PWD/fuzz-build" --seconds "${FUZZ_SECONDS:-3}" --jobs 1
