#!/usr/bin/python3
"""Golden numbers of a tiny BERT, computed by PyTorch (Debian: python3-torch, python3-numpy).

    /usr/bin/python3 tests/golden/make_golden.py     # rewrites tests/golden/tiny_bert.safetensors

The model is written here in plain torch, one sentence at a time, so nothing is padded.  Parameters are
drawn in float32; everything expected is computed in float64 and stored so.  The same computation in
torch's own float32 is done beside it, and its distance from float64 stands in the file's metadata: the
yardstick for the thresholds of tests/parity/test_golden_model.c.
"""
import json
import math
import os
import struct

import numpy as np
import torch
import torch.nn.functional as F

L, H, A, FF, V, P, TYPES = 3, 32, 4, 64, 97, 16, 2
LENGTHS = [7, 1, 12, 4, 16, 2]
CLASSES = {"alpha": 3, "beta": 5}
LABELS = {"alpha": [2, 0, -1, 1, 1, 0], "beta": [4, -1, 0, 3, -1, 1]}
SMOOTHING = {"alpha": 0.1, "beta": 0.0}
CLASS_WEIGHT = {"alpha": None, "beta": [0.5, 1.0, 2.0, 1.5, 0.75]}
STEPS, LR, DECAY, EPS, CLIP = 10, 1e-3, 0.01, 1e-8, 1.0


def names():
    yield "embeddings.word_embeddings.weight", (V, H)
    yield "embeddings.position_embeddings.weight", (P, H)
    yield "embeddings.token_type_embeddings.weight", (TYPES, H)
    yield "embeddings.LayerNorm.weight", (H,)
    yield "embeddings.LayerNorm.bias", (H,)
    for i in range(L):
        for part, shape in [
            ("attention.self.query", (H, H)), ("attention.self.key", (H, H)),
            ("attention.self.value", (H, H)), ("attention.output.dense", (H, H)),
            ("attention.output.LayerNorm", (H,)), ("intermediate.dense", (FF, H)),
            ("output.dense", (H, FF)), ("output.LayerNorm", (H,)),
        ]:
            yield f"encoder.layer.{i}.{part}.weight", shape
            yield f"encoder.layer.{i}.{part}.bias", (shape[0],)
    yield "pooler.dense.weight", (H, H)
    yield "pooler.dense.bias", (H,)
    for task, k in CLASSES.items():
        yield f"heads.{task}.weight", (k, H)
        yield f"heads.{task}.bias", (k,)


def draw():
    """Larger than BERT's own start, so that no term is lost in another; biases and norms not trivial."""
    torch.manual_seed(20240607)
    params = {}
    for name, shape in names():
        base = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        params[name] = base + 0.2 * torch.randn(shape, dtype=torch.float32)
    ids = [torch.randint(1, V, (t,)) for t in LENGTHS]
    ids[2][5] = 0  # the padding id inside a sentence: its row has no gradient
    ids[4][3] = ids[4][9]
    types = [(torch.arange(t) >= (t + 1) // 2).long() if b % 2 else torch.zeros(t, dtype=torch.long)
             for b, t in enumerate(LENGTHS)]
    return params, ids, types


def norm(p, x, name):
    return F.layer_norm(x, (H,), p[name + ".weight"], p[name + ".bias"], 1e-12)


def dense(p, x, name):
    return x @ p[name + ".weight"].T + p[name + ".bias"]


def layer(p, x, name):
    t = x.shape[0]
    q, k, v = (dense(p, x, f"{name}.attention.self.{n}").view(t, A, H // A).transpose(0, 1)
               for n in ("query", "key", "value"))
    probs = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(H // A), dim=-1)
    c = (probs @ v).transpose(0, 1).reshape(t, H)
    h = norm(p, dense(p, c, name + ".attention.output.dense") + x, name + ".attention.output.LayerNorm")
    g = F.gelu(dense(p, h, name + ".intermediate.dense"))
    return norm(p, dense(p, g, name + ".output.dense") + h, name + ".output.LayerNorm")


def encode(p, ids, types):
    """Hidden states of one sentence after the embeddings and after each layer."""
    e = (F.embedding(ids, p["embeddings.word_embeddings.weight"], padding_idx=0)
         + p["embeddings.token_type_embeddings.weight"][types]
         + p["embeddings.position_embeddings.weight"][: len(ids)])
    states = [norm(p, e, "embeddings.LayerNorm")]
    for i in range(L):
        states.append(layer(p, states[-1], f"encoder.layer.{i}"))
    return states


def pooled_of(p, h, mode):
    t = h.shape[0]
    w = torch.arange(1, t + 1, dtype=h.dtype)[:, None]
    return {"mean": lambda: h.mean(0), "cls": lambda: h[0], "max": lambda: h.max(0)[0],
            "mean_sqrt": lambda: h.sum(0) / math.sqrt(t),
            "weightedmean": lambda: (h * w).sum(0) / w.sum(),
            "pooler": lambda: torch.tanh(dense(p, h[0], "pooler.dense"))}[mode]()


def forward(p, ids, types):
    states = [encode(p, i, t) for i, t in zip(ids, types)]
    hidden = [torch.cat([s[d] for s in states]) for d in range(L + 1)]
    pooled = torch.stack([pooled_of(p, s[-1], "mean") for s in states])
    logits = {task: dense(p, pooled, f"heads.{task}") for task in CLASSES}
    return states, hidden, logits


def losses(logits):
    """Per task: sum of losses and the divisor that torch's mean would use."""
    out = {}
    for task, z in logits.items():
        y = torch.tensor(LABELS[task])
        w = CLASS_WEIGHT[task]
        w = torch.tensor(w, dtype=z.dtype) if w else torch.ones(CLASSES[task], dtype=z.dtype)
        divisor = w[y[y >= 0]].sum()
        mean = F.cross_entropy(z, y, weight=w, ignore_index=-1, label_smoothing=SMOOTHING[task])
        out[task] = (mean * divisor, divisor)
    return out


def compute(start, ids, types, dtype):
    p = {n: v.to(dtype).clone().requires_grad_() for n, v in start.items()}
    states, hidden, logits = forward(p, ids, types)
    out = {f"hidden.{d}": h for d, h in enumerate(hidden)}
    for mode in ("mean", "cls", "max", "mean_sqrt", "weightedmean", "pooler"):
        out[f"pooled.{mode}"] = torch.stack([pooled_of(p, s[-1], mode) for s in states])
    for task, z in logits.items():
        out[f"logits.{task}"] = z
    sums = losses(logits)
    for task, (loss, weight) in sums.items():
        out[f"loss.{task}"] = torch.stack([loss, weight])
    sum(loss for loss, _ in sums.values()).backward()
    used = [n for n in p if not n.startswith("pooler")]
    for n in used:
        out[f"grad.{n}"] = p[n].grad.clone()

    no_decay = [p[n] for n in used if n.endswith(".bias") or "LayerNorm" in n]
    decay = [p[n] for n in used if not (n.endswith(".bias") or "LayerNorm" in n)]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": DECAY},
                                   {"params": no_decay, "weight_decay": 0.0}], lr=LR, eps=EPS)
    norms = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        sums = losses(forward(p, ids, types)[2])
        (sum(s for s, _ in sums.values()) / sum(w for _, w in sums.values())).backward()
        norms.append(torch.nn.utils.clip_grad_norm_([p[n] for n in used], CLIP))
        optimizer.step()
    out["norms"] = torch.stack(norms)
    for n in used:
        out[f"after.{n}"] = p[n]
    return {n: v.detach() for n, v in out.items()}


def distance(a, b, kind):
    """Largest difference of a kind of tensors, relative to each tensor's largest element.  Gradients of
    key biases are zero in exact arithmetic, so Adam makes noise of them: left out of `after`."""
    worst = 0.0
    for n in a:
        if n.startswith(kind + ".") and not (kind in ("grad", "after") and "self.key.bias" in n):
            scale = 1.0 if kind == "after" else max(b[n].abs().max().item(), 1e-30)
            worst = max(worst, ((a[n].double() - b[n]).abs().max() / scale).item())
    return worst


def write(path, tensors, metadata):
    kinds = {np.dtype("f8"): "F64", np.dtype("f4"): "F32", np.dtype("i4"): "I32"}
    header, data = {"__metadata__": metadata}, b""
    for name, t in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        raw = np.ascontiguousarray(t).tobytes()
        header[name] = {"dtype": kinds[t.dtype], "shape": list(t.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def main():
    torch.set_num_threads(1)
    start, ids, types = draw()
    exact = compute(start, ids, types, torch.float64)
    single = compute(start, ids, types, torch.float32)
    tensors = {n: v.numpy() for n, v in exact.items()}
    tensors.update({f"param.{n}": v.numpy() for n, v in start.items()})
    tensors["ids"] = torch.cat(ids).numpy().astype("i4")
    tensors["types"] = torch.cat(types).numpy().astype("i4")
    tensors["offsets"] = np.cumsum([0] + LENGTHS).astype("i4")
    for task in CLASSES:
        tensors[f"labels.{task}"] = np.array(LABELS[task], dtype="i4")
    tensors["class_weight.beta"] = np.array(CLASS_WEIGHT["beta"], dtype="f8")
    metadata = {"format": "pt", "torch": torch.__version__}
    for kind in ("hidden", "pooled", "logits", "grad", "after"):
        metadata[f"float32_{kind}"] = "%.3g" % distance(single, exact, kind)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny_bert.safetensors")
    write(path, tensors, metadata)
    print(path, os.path.getsize(path), "bytes", metadata)


main()
