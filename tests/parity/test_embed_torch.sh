#!/usr/bin/env bash
# The embeddings of a random BERT written by PyTorch are within 1e-5 of PyTorch's own mean pooling,
# for 1,000 sentences of 3 to 128 tokens, on one rank and on three.
set -euo pipefail
if ! /usr/bin/python3 -c 'import torch, numpy' 2>/dev/null; then
    echo "skipped: python3-torch and python3-numpy are absent"
    exit 77
fi
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
/usr/bin/python3 "$here/embed_torch.py" "$dir/torch"
timeout 120 "$MTTRAIN" embed "$dir/torch/model" --in "$dir/torch/sentences.txt" --out "$dir/one.npy"
timeout 120 mpirun -np 3 "$MTTRAIN" embed "$dir/torch/model" --in "$dir/torch/sentences.txt" \
    --out "$dir/three.npy"
cmp "$dir/one.npy" "$dir/three.npy"
/usr/bin/python3 "$here/embed_torch.py" --compare "$dir/torch" "$dir/one.npy"
