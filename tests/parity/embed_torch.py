#!/usr/bin/python3
"""embed_torch.py OUT: a random BERT as a Hugging Face folder, 1,000 sentences of mixed length, and
their mean-pooled embeddings by PyTorch, in OUT/model, OUT/sentences.txt and OUT/expected.npy.
embed_torch.py --compare OUT FILE.npy: prints the largest difference; exit code 1 above 1e-5."""
import json
import math
import os
import random
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

V, H, L, A, I, P = 500, 96, 4, 6, 256, 128
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def parameters(seed):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g) * 0.08

    p = {"embeddings.word_embeddings.weight": normal(V, H),
         "embeddings.position_embeddings.weight": normal(P, H),
         "embeddings.token_type_embeddings.weight": normal(2, H)}
    norms = ["embeddings.LayerNorm"]
    for i in range(L):
        b = f"encoder.layer.{i}."
        for name, out, into in [("attention.self.query", H, H), ("attention.self.key", H, H),
                                ("attention.self.value", H, H), ("attention.output.dense", H, H),
                                ("intermediate.dense", I, H), ("output.dense", H, I)]:
            p[b + name + ".weight"] = normal(out, into)
            p[b + name + ".bias"] = normal(out)
        norms += [b + "attention.output.LayerNorm", b + "output.LayerNorm"]
    for n in norms:
        p[n + ".weight"] = 1 + normal(H)
        p[n + ".bias"] = normal(H)
    return p


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        size = tensors[name].numel() * 4
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape),
                        "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            f.write(tensors[name].contiguous().numpy().tobytes())


def encode(p, ids):
    """Last hidden states of one sentence, as BertModel computes them in evaluation mode."""
    def linear(x, name):
        return F.linear(x, p[name + ".weight"], p[name + ".bias"])

    def norm(x, name):
        return F.layer_norm(x, (H,), p[name + ".weight"], p[name + ".bias"], 1e-12)

    T = len(ids)
    x = p["embeddings.word_embeddings.weight"][ids] + p["embeddings.position_embeddings.weight"][:T]
    x = norm(x + p["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(L):
        b = f"encoder.layer.{i}."
        q, k, v = (linear(x, b + "attention.self." + n).view(T, A, H // A).transpose(0, 1)
                   for n in ("query", "key", "value"))
        w = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(H // A), -1)
        c = (w @ v).transpose(0, 1).reshape(T, H)
        x = norm(x + linear(c, b + "attention.output.dense"), b + "attention.output.LayerNorm")
        f = linear(F.gelu(linear(x, b + "intermediate.dense")), b + "output.dense")
        x = norm(x + f, b + "output.LayerNorm")
    return x


def make(out):
    rng = random.Random(7)
    words = SPECIAL + [f"w{i}" for i in range(V - len(SPECIAL))]
    os.makedirs(out + "/model")
    p = parameters(11)
    write_safetensors(out + "/model/model.safetensors", p)
    with open(out + "/model/config.json", "w") as f:
        json.dump({"architectures": ["BertModel"], "model_type": "bert", "vocab_size": V,
                   "hidden_size": H, "num_hidden_layers": L, "num_attention_heads": A,
                   "intermediate_size": I, "max_position_embeddings": P}, f)
    with open(out + "/model/vocab.txt", "w") as f:
        f.write("\n".join(words) + "\n")
    rows = []
    with open(out + "/sentences.txt", "w") as f:
        for _ in range(1000):
            n = rng.choice([1, 2, 5, 9, 17, 33, 60, 100, rng.randint(1, 126)])
            tokens = [rng.randrange(len(SPECIAL), V) for _ in range(n)]
            f.write(" ".join(words[t] for t in tokens) + "\n")
            with torch.no_grad():
                rows.append(encode(p, torch.tensor([2] + tokens + [3])).mean(0))
    np.save(out + "/expected.npy", torch.stack(rows).numpy())


def compare(out, path):
    want, got = np.load(out + "/expected.npy"), np.load(path)
    assert want.shape == got.shape, (want.shape, got.shape)
    worst = float(np.abs(want - got).max())
    print(f"{want.shape[0]} sentences, largest difference {worst:.2e}")
    return 0 if worst <= 1e-5 else 1


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        sys.exit(compare(*sys.argv[2:]))
    torch.set_num_threads(1)
    make(sys.argv[1])
