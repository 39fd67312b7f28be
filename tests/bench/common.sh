# Sourced by the measuring scripts of this folder:  . "$(dirname "$0")/common.sh"
#
# source_dir, mttrain (the program; $MTTRAIN) and shared (data and the peer; $MT_SHARED), and what
# mpirun wants as root and on a machine with fewer cores than ranks.
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
