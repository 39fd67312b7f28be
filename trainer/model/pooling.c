/* A mode that is a weighted sum is a row of the table: the weight of token t of T.  max stands
 * apart. Sums run over tokens in order. */
#include "trainer/model/pooling.h"

#include <string.h>

#include "trainer/model/vector_math.h"

static real weight_mean(int64_t t, int64_t T)
{
    (void)t;
    return 1 / (real)T;
}

static real weight_first(int64_t t, int64_t T)
{
    (void)T;
    return t == 0;
}

static real weight_mean_sqrt(int64_t t, int64_t T)
{
    (void)t;
    return 1 / real_sqrt((real)T);
}

static real weight_linear(int64_t t, int64_t T)
{
    return (real)(t + 1) / ((real)T * (real)(T + 1) / 2);
}

static const struct {
    const char *name;
    real (*weight)(int64_t t, int64_t T); /* NULL: not a weighted sum */
} modes[POOL_COUNT] = {
    [POOL_MEAN] = {"mean", weight_mean},
    [POOL_CLS] = {"cls", weight_first},
    [POOL_MAX] = {"max", NULL},
    [POOL_MEAN_SQRT] = {"mean_sqrt", weight_mean_sqrt},
    [POOL_WEIGHTEDMEAN] = {"weightedmean", weight_linear},
    [POOL_POOLER] = {"pooler", weight_first},
};

const char *pooling_name(enum pooling p)
{
    return modes[p].name;
}

bool pooling_parse(enum pooling *out, const char *name)
{
    for (int i = 0; i < POOL_COUNT; i++) {
        if (strcmp(modes[i].name, name) == 0) {
            *out = (enum pooling)i;
            return true;
        }
    }
    return false;
}

static void sum_rows(real (*weight)(int64_t, int64_t), int64_t T, int64_t H, const real *x,
                     real *restrict out)
{
    memset(out, 0, (size_t)H * sizeof *out);
    for (int64_t t = 0; t < T; t++) {
        const real *restrict row = x + t * H;
        real f = weight(t, T);
        if (f == 0)
            continue;
        for (int64_t j = 0; j < H; j++)
            out[j] += f * row[j];
    }
}

static void spread_rows(real (*weight)(int64_t, int64_t), int64_t T, int64_t H,
                        const real *restrict dout, real *dx)
{
    for (int64_t t = 0; t < T; t++) {
        real *restrict row = dx + t * H;
        real f = weight(t, T);
        for (int64_t j = 0; j < H; j++)
            row[j] = f * dout[j];
    }
}

static void max_rows(int64_t T, int64_t H, const real *x, real *restrict out,
                     int32_t *restrict where)
{
    for (int64_t j = 0; j < H; j++) {
        out[j] = x[j];
        where[j] = 0;
    }
    for (int32_t t = 1; t < T; t++) {
        const real *restrict row = x + t * H;
        for (int64_t j = 0; j < H; j++) {
            bool above = row[j] > out[j];
            out[j] = above ? row[j] : out[j];
            where[j] = above ? t : where[j];
        }
    }
}

static void scatter_max(int64_t T, int64_t H, const real *dout, const int32_t *where, real *dx)
{
    memset(dx, 0, (size_t)(T * H) * sizeof *dx);
    for (int64_t j = 0; j < H; j++)
        dx[where[j] * H + j] = dout[j];
}

void pooling_forward(enum pooling pooling, const struct batch *batch, int64_t H, const real *hidden,
                     real *out, int32_t *where)
{
    for (int32_t s = 0; s < batch->B; s++) {
        int64_t begin = batch->offsets[s] - batch->offsets[0];
        int64_t T = batch->offsets[s + 1] - batch->offsets[s];
        if (modes[pooling].weight)
            sum_rows(modes[pooling].weight, T, H, hidden + begin * H, out + s * H);
        else
            max_rows(T, H, hidden + begin * H, out + s * H, where + s * H);
    }
}

void pooling_backward(enum pooling pooling, const struct batch *batch, int64_t H, const real *dout,
                      const int32_t *where, real *dhidden)
{
    for (int32_t s = 0; s < batch->B; s++) {
        int64_t begin = batch->offsets[s] - batch->offsets[0];
        int64_t T = batch->offsets[s + 1] - batch->offsets[s];
        if (modes[pooling].weight)
            spread_rows(modes[pooling].weight, T, H, dout + s * H, dhidden + begin * H);
        else
            scatter_max(T, H, dout + s * H, where + s * H, dhidden + begin * H);
    }
}
