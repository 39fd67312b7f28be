# shellcheck shell=bash
# Sourced by the measuring scripts of this folder:  . "$(dirname "$0")/common.sh"
#
# source_dir, mttrain (the program; $MTTRAIN) and shared (data and the peer; $MT_SHARED), and what
# mpirun wants as root and on a machine with fewer cores than ranks.  read_options USAGE "$@" reads
# the words of a script that compares in pairs: -np RANKS into np, -n PAIRS into pairs, -a, where USAGE
# names it, into all, and what follows -- into rest.
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mttrain=${MTTRAIN:-$source_dir/build/release/mttrain}
shared=${MT_SHARED:-$source_dir/../shared}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1
[ -x "$mttrain" ] || {
    echo "no mttrain at $mttrain: cmake --preset release && cmake --build --preset release," \
        "or name it by MTTRAIN=..." >&2
    exit 2
}

np=2 pairs=5 all="" rest=()
read_options() { # USAGE WORD...
    local usage=$1 word
    shift
    while [ $# -gt 0 ]; do
        word=$1
        case "$word $usage" in
        "-np "*) np=${2:?"$usage"} && shift 2 ;;
        "-n "*) pairs=${2:?"$usage"} && shift 2 ;;
        "-a "*"[-a]"*) all=1 && shift ;;
        "-- "*) shift && break ;;
        *) echo "usage: $0 $usage" >&2 && exit 2 ;;
        esac
    done
    rest=("$@")
}
