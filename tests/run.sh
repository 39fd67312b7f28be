#!/usr/bin/env bash
# run.sh [--fast] [CTEST OPTIONS]: builds mttrain and runs its tests; exit code 0 = all passed.
#
# Installs missing Debian packages, builds the preset "asan" and runs the unit, gradient and
# message-passing tests of that, then builds the preset "ci" and runs every test of it; fuzzing
# (needs clang) and a SLURM cluster on this machine (needs root) say so where they are skipped.
# --fast leaves the sanitizers, the fuzzing and the cluster away.  Options of ctest narrow the
# choice: tests/run.sh --fast -R unit.sampler
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1-}" in
-h | --help)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
fast=no beyond='^$' install=--all-tests
if [ "${1-}" = --fast ]; then
    fast=yes beyond='^(slurm|fuzz)$' install=--tests
    shift
fi

./jobs/install.sh $install

# A container runs as root and has fewer cores than a test has ranks.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none
export OPENBLAS_NUM_THREADS=1

jobs=$(nproc)
build() {
    cmake --preset "$1" --log-level=WARNING
    cmake --build --preset "$1" --parallel "$jobs"
}
run_tests() {
    local folder=$1
    shift
    ctest --test-dir "$folder" --output-on-failure --no-tests=error --parallel "$jobs" "$@"
}

if [ "$fast" = no ]; then
    build asan
    # Whole runs and parity take minutes there; ranks beyond the cores show nothing new.
    run_tests build/asan --label-regex '^(unit|grad|mpi)$' --exclude-regex '\.np[348]$|\.np8\.|hosts[34]$' "$@"
fi
build ci
run_tests build/ci --label-exclude "$beyond" "$@"
