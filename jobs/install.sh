#!/usr/bin/env bash
# install.sh [--tests | --all-tests]: the Debian packages that mttrain is built from, by apt-get.
#
# --tests adds what only the tests need.  Says nothing and needs no network or rights where every
# package is there already.
set -euo pipefail

packages=(
    build-essential cmake ninja-build pkg-config
    libopenmpi-dev openmpi-bin
    libopenblas-dev
    libdnnl-dev
    libhdf5-dev hdf5-tools
    libutf8proc-dev libconfig-dev libjansson-dev
)
test_packages=(libcmocka-dev python3 clang-format)

# For fuzzing and a SLURM cluster: tests that lack them say so and are skipped.
optional_packages=(clang libclang-rt-dev slurmctld slurmd slurm-client munge iproute2)

optional=()
case "${1-}" in
'') ;;
--tests)
    packages+=("${test_packages[@]}")
    ;;
--all-tests)
    packages+=("${test_packages[@]}")
    optional=("${optional_packages[@]}")
    ;;
-h | --help)
    sed -n '2,5s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
*)
    echo "install.sh: unknown option $1 (there are --tests and --all-tests)" >&2
    exit 2
    ;;
esac

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
done
wanted=() # only root is asked for them, and nothing fails without
[ "$(id -u)" -eq 0 ] || optional=()
for package in "${optional[@]}"; do
    is_installed "$package" || wanted+=("$package")
done
[ $((${#missing[@]} + ${#wanted[@]})) -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    [ ${#missing[@]} -gt 0 ] || exit 0
    echo "install.sh: this is not a Debian system; please install the counterparts of:" >&2
    echo "  ${missing[*]}" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        [ ${#missing[@]} -gt 0 ] || exit 0
        echo "install.sh: not root and no sudo; please have installed: ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "installing: ${missing[*]} ${wanted[*]}"
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"
}
for attempt in 1 2 3; do
    if apt update && { [ ${#missing[@]} -eq 0 ] ||
        apt install -y --no-install-recommends "${missing[@]}" >/dev/null; }; then
        for package in "${wanted[@]}"; do
            apt install -y --no-install-recommends "$package" >/dev/null 2>&1 ||
                echo "install.sh: no $package here, so some tests will be skipped" >&2
        done
        exit 0
    fi
    echo "install.sh: attempt $attempt of 3 failed" >&2
    sleep $((5 * attempt))
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "install.sh: could not install: ${missing[*]}" >&2
exit 1
