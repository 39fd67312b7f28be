/* See curve.h.  When the buckets are full, neighbours melt together and each takes twice as many
 * values from then on: O(1) a value, and the same buckets however the values arrive. */
#include "io/curve.h"

#include <math.h>

#include "comm/base/memory.h"

enum { FIRST_BUCKETS = 64 };

static struct curve_bucket melt(struct curve_bucket a, struct curve_bucket b)
{
    a.last = b.last;
    a.sum += b.sum;
    a.low = fmin(a.low, b.low);
    a.high = fmax(a.high, b.high);
    a.values += b.values;
    a.finite += b.finite;
    return a;
}

/* Buckets of several values are drawn with two points each. */
static int32_t buckets_max(const struct curve *c)
{
    return c->stride == 1 ? CURVE_POINTS_MAX : CURVE_POINTS_MAX / 2;
}

static void halve(struct curve *c)
{
    int32_t half = 0;
    for (int32_t i = 0; i < c->count; i += 2, half++)
        c->bucket[half] = i + 1 < c->count ? melt(c->bucket[i], c->bucket[i + 1]) : c->bucket[i];
    c->count = half;
    c->stride *= 2;
}

mt_status curve_add(struct curve *c, double x, double y)
{
    if (!isfinite(x))
        return MT_OK;
    if (c->stride == 0)
        c->stride = 1;
    while (c->count > 0 && c->bucket[c->count - 1].last >= x)
        c->count--;
    struct curve_bucket one = {.first = x,
                               .last = x,
                               .sum = isfinite(y) ? y : 0,
                               .low = isfinite(y) ? y : INFINITY,
                               .high = isfinite(y) ? y : -INFINITY,
                               .values = 1,
                               .finite = isfinite(y)};
    if (c->count > 0 && c->bucket[c->count - 1].values < c->stride) {
        c->bucket[c->count - 1] = melt(c->bucket[c->count - 1], one);
        return MT_OK;
    }
    while (c->count >= buckets_max(c))
        halve(c);
    if (c->count == c->capacity) {
        int32_t capacity = c->capacity > 0 ? 2 * c->capacity : FIRST_BUCKETS;
        MT_TRY(mt_grow(&c->bucket, c->capacity, capacity, sizeof *c->bucket, "points of a curve"));
        c->capacity = capacity;
    }
    c->bucket[c->count++] = one;
    return MT_OK;
}

void curve_release(struct curve *c)
{
    mt_free(&c->bucket);
    c->count = c->capacity = 0;
    c->stride = 0;
}

int32_t curve_means(const struct curve *c, double *x, double *y)
{
    for (int32_t i = 0; i < c->count; i++) {
        const struct curve_bucket *b = &c->bucket[i];
        x[i] = 0.5 * (b->first + b->last);
        y[i] = b->finite > 0 ? b->sum / (double)b->finite : NAN;
    }
    return c->count;
}

int32_t curve_extremes(const struct curve *c, double *x, double *y)
{
    if (c->stride <= 1)
        return curve_means(c, x, y);
    for (int32_t i = 0; i < c->count; i++) {
        const struct curve_bucket *b = &c->bucket[i];
        x[2 * i] = b->first;
        x[2 * i + 1] = b->last;
        y[2 * i] = b->finite > 0 ? b->low : NAN;
        y[2 * i + 1] = b->finite > 0 ? b->high : NAN;
    }
    return 2 * c->count;
}

void curve_smooth(double *smooth, const double *y, int32_t count, int32_t reach)
{
    for (int32_t i = 0; i < count; i++) {
        double sum = 0;
        int32_t finite = 0;
        for (int32_t j = i - reach; j <= i + reach; j++) {
            if (j >= 0 && j < count && isfinite(y[j])) {
                sum += y[j];
                finite++;
            }
        }
        smooth[i] = finite > 0 && isfinite(y[i]) ? sum / finite : NAN;
    }
}
