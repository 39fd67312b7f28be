#!/usr/bin/python3
"""The job of two_tasks.sh as a plain PyTorch loop (Debian: python3-torch, python3-numpy, hdf5-tools).

Same model, packed ids, batch size, sampling (every row of both sets once an epoch), AdamW, schedule,
clipping and dropout rates; other random bits. Sentences are padded to the longest of their batch.
Prints the dev accuracy of both tasks after the last epoch.
"""
import argparse
import glob
import os
import subprocess
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

LAYERS, H, HEADS, FF, VOCAB, POSITIONS = 4, 256, 4, 1024, 30522, 64
TASKS = {"trec": ("question", 6), "sst2": ("sentiment", 2)}
BATCH, LR, DECAY, CLIP, DROPOUT, WARMUP = 32, 3e-4, 0.01, 1.0, 0.1, 0.1


def dump(shard, name, dtype):
    with tempfile.NamedTemporaryFile() as f:
        subprocess.run(["h5dump", "-d", name, "-b", "LE", "-o", f.name, shard], check=True,
                       stdout=subprocess.DEVNULL)
        return np.fromfile(f.name, dtype=dtype).astype(np.int64)


def read_split(shards, data, split):
    """List of (ids, label) of one packed split."""
    (path,) = glob.glob(os.path.join(shards, f"{data}-{split}-*", "shard-00000.h5"))
    ids = dump(path, "/input_ids", "<u2")
    offsets = dump(path, "/offsets", "<i8")
    labels = dump(path, "/labels/" + TASKS[data][0], "<i1")
    return [(ids[a:b], int(y)) for a, b, y in zip(offsets[:-1], offsets[1:], labels)]


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(H, H) for _ in range(4))
        self.up, self.down = nn.Linear(H, FF), nn.Linear(FF, H)
        self.norm1, self.norm2 = nn.LayerNorm(H, eps=1e-12), nn.LayerNorm(H, eps=1e-12)

    def forward(self, x, bias):
        b, t, _ = x.shape
        q, k, v = (f(x).view(b, t, HEADS, H // HEADS).transpose(1, 2)
                   for f in (self.query, self.key, self.value))
        p = torch.softmax(q @ k.transpose(2, 3) * (H // HEADS) ** -0.5 + bias, dim=3)
        a = (F.dropout(p, DROPOUT, self.training) @ v).transpose(1, 2).reshape(b, t, H)
        x = self.norm1(x + F.dropout(self.output(a), DROPOUT, self.training))
        y = self.down(F.gelu(self.up(x)))
        return self.norm2(x + F.dropout(y, DROPOUT, self.training))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(VOCAB, H, padding_idx=0)
        self.position, self.segment = nn.Embedding(POSITIONS, H), nn.Embedding(2, H)
        self.norm = nn.LayerNorm(H, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.heads = nn.ModuleDict({d: nn.Linear(H, k) for d, (_, k) in TASKS.items()})
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.word.weight[0].zero_()

    def forward(self, ids, mask):
        t = ids.shape[1]
        x = self.word(ids) + self.position(torch.arange(t)) + self.segment.weight[0]
        x = F.dropout(self.norm(x), DROPOUT, self.training)
        bias = (1.0 - mask)[:, None, None, :] * -1e9
        for layer in self.layers:
            x = layer(x, bias)
        pooled = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return F.dropout(pooled, DROPOUT, self.training)


def collate(rows):
    longest = max(len(r[1]) for r in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest)
    for i, (_, words, _) in enumerate(rows):
        ids[i, :len(words)] = torch.from_numpy(words)
        mask[i, :len(words)] = 1
    return ids, mask


def evaluate(model, rows):
    model.eval()
    right = 0
    with torch.no_grad():
        for i in range(0, len(rows), 64):
            part = rows[i:i + 64]
            logits = model.heads[part[0][0]](model(*collate(part)))
            right += int((logits.argmax(1) == torch.tensor([r[2] for r in part])).sum())
    model.train()
    return right / len(rows)


def train(args):
    sets = {(d, s): [(d, ids, y) for ids, y in read_split(args.shards, d, s)]
            for d in TASKS for s in ("train", "dev")}
    rows = sets["trec", "train"] + sets["sst2", "train"]
    torch.manual_seed(args.seed)
    random = np.random.default_rng(args.seed)
    model = Model()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": DECAY},
                                   {"params": others, "weight_decay": 0.0}], lr=LR, eps=1e-8)
    steps = args.epochs * ((len(rows) + BATCH - 1) // BATCH)
    warmup = round(WARMUP * steps)
    step, begin = 0, time.time()
    for _ in range(args.epochs):
        order = random.permutation(len(rows))
        for first in range(0, len(rows), BATCH):
            batch = [rows[i] for i in order[first:first + BATCH]]
            factor = step / warmup if step < warmup else 1 - (step - warmup) / (steps - warmup)
            for group in optimizer.param_groups:
                group["lr"] = LR * factor
            pooled = model(*collate(batch))
            loss = 0.0
            for d in TASKS:
                at = [i for i, r in enumerate(batch) if r[0] == d]
                if at:
                    target = torch.tensor([batch[i][2] for i in at])
                    loss = loss + F.cross_entropy(model.heads[d](pooled[at]), target, reduction="sum")
            optimizer.zero_grad()
            (loss / len(batch)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            step += 1
    seconds = time.time() - begin
    print(f"PyTorch        seed {args.seed}: question {evaluate(model, sets['trec', 'dev']):.4f}  "
          f"sentiment {evaluate(model, sets['sst2', 'dev']):.4f}  {seconds:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # moments of words that do not occur fade out
    train(args)


main()
