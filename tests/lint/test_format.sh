#!/usr/bin/env bash
# Every C file stands as clang-format leaves it.  Other versions than Debian 12's decide otherwise in
# corners, so they are not asked.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
formatter=$(command -v clang-format-14 || command -v clang-format)
if [ -z "$formatter" ]; then
    echo "skipped: clang-format absent"
    exit 77
fi
if ! "$formatter" --version | grep -q 'version 14\.'; then
    echo "skipped: $("$formatter" --version), not version 14"
    exit 77
fi
cd "$root" || exit 1
python3 -B - <<'EOF' | xargs -0 "$formatter" --dry-run -Werror
import sys
sys.path.insert(0, "tests/lint")
from source_files import all_files
print("\0".join(f for f in all_files()
                if f.endswith((".c", ".h")) and not f.startswith("tests/golden/")), end="")
EOF
