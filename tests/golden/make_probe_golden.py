#!/usr/bin/env python3
"""Writes probe_golden.h: a small data set and the optimum of multinomial logistic regression on it,
by Newton's method with exact second derivatives, in plain Python (no library).

    python3 tests/golden/make_probe_golden.py | clang-format > tests/golden/probe_golden.h

The objective is that of trainer/probe.h: standardised features, weighted cross-entropy summed over
the labelled rows, l2/2 |W|^2 in standardised space, biases free (their sum is 0)."""
import math
import random
import struct

N, D, K, L2 = 60, 4, 3, 0.5
WEIGHT = [1.0, 2.0, 0.5]
random.seed(20)


def f32(v):
    return struct.unpack("f", struct.pack("f", v))[0]


centre = [[0.0, 1.0, -0.5, 0.3], [0.8, -0.4, 0.6, 0.0], [-0.7, 0.0, 0.9, -0.6]]
scale, shift = [1.0, 10.0, 0.01, 3.0], [0.0, 50.0, -0.2, 1.0]
labels = [random.choice([0, 0, 1, 2, 2]) for _ in range(N)]
features = [[f32((centre[y][d] + random.gauss(0, 1)) * scale[d] + shift[d]) for d in range(D)]
            for y in labels]
labels = [-1 if i % 13 == 5 else y for i, y in enumerate(labels)]

rows = [i for i in range(N) if labels[i] >= 0]
mean = [sum(features[i][d] for i in rows) / len(rows) for d in range(D)]
deviation = [math.sqrt(sum((features[i][d] - mean[d]) ** 2 for i in rows) / len(rows))
             for d in range(D)]
z = {i: [(features[i][d] - mean[d]) / deviation[d] for d in range(D)] + [1.0] for i in rows}
P = K * (D + 1)


def evaluate(x):
    value, g = 0.0, [0.0] * P
    h = [[0.0] * P for _ in range(P)]
    for i in rows:
        s = [sum(x[k * (D + 1) + d] * z[i][d] for d in range(D + 1)) for k in range(K)]
        top = max(s)
        e = [math.exp(v - top) for v in s]
        p = [v / sum(e) for v in e]
        c = WEIGHT[labels[i]]
        value += c * (math.log(sum(e)) + top - s[labels[i]])
        for k in range(K):
            for d in range(D + 1):
                g[k * (D + 1) + d] += c * (p[k] - (k == labels[i])) * z[i][d]
                for j in range(K):
                    for f in range(D + 1):
                        h[k * (D + 1) + d][j * (D + 1) + f] += (
                            c * p[k] * ((k == j) - p[j]) * z[i][d] * z[i][f])
    for k in range(K):
        for d in range(D):
            n = k * (D + 1) + d
            value += 0.5 * L2 * x[n] ** 2
            g[n] += L2 * x[n]
            h[n][n] += L2
        h[k * (D + 1) + D][k * (D + 1) + D] += 1e-9  # the biases' common shift is free
    return value, g, h


def solve(a, b):
    n = len(b)
    a = [row[:] + [v] for row, v in zip(a, b)]
    for c in range(n):
        best = max(range(c, n), key=lambda r: abs(a[r][c]))
        a[c], a[best] = a[best], a[c]
        for r in range(c + 1, n):
            q = a[r][c] / a[c][c]
            for j in range(c, n + 1):
                a[r][j] -= q * a[c][j]
    x = [0.0] * n
    for r in reversed(range(n)):
        x[r] = (a[r][n] - sum(a[r][j] * x[j] for j in range(r + 1, n))) / a[r][r]
    return x


x = [0.0] * P
for _ in range(60):
    value, g, h = evaluate(x)
    step = solve(h, g)
    t = 1.0
    while evaluate([a - t * b for a, b in zip(x, step)])[0] > value + 1e-12 and t > 1e-6:
        t *= 0.5
    x = [a - t * b for a, b in zip(x, step)]
value, g, _ = evaluate(x)
assert max(map(abs, g)) < 1e-10, max(map(abs, g))
shift_b = sum(x[k * (D + 1) + D] for k in range(K)) / K
for k in range(K):
    x[k * (D + 1) + D] -= shift_b
raw_w = [[x[k * (D + 1) + d] / deviation[d] for d in range(D)] for k in range(K)]
raw_b = [x[k * (D + 1) + D] - sum(raw_w[k][d] * mean[d] for d in range(D)) for k in range(K)]


def table(name, kind, numbers, form):
    print("static const %s %s[] = {" % (kind, name))
    for i in range(0, len(numbers), 4):
        print("    " + " ".join(form % v + "," for v in numbers[i:i + 4]))
    print("};")


print("/* Made by make_probe_golden.py; see there. */")
print("enum { GOLDEN_ROWS = %d, GOLDEN_DIM = %d, GOLDEN_CLASSES = %d };" % (N, D, K))
print("static const double GOLDEN_L2 = %r;" % L2)
print("static const double GOLDEN_VALUE = %.17g;" % value)
table("GOLDEN_CLASS_WEIGHTS", "double", WEIGHT, "%r")
table("GOLDEN_FEATURES", "float", sum(features, []), "%.9gF")
table("GOLDEN_LABELS", "int32_t", labels, "%d")
table("GOLDEN_WEIGHT", "double", sum(raw_w, []), "%.17g")
table("GOLDEN_BIAS", "double", raw_b, "%.17g")
