/*
 * curve: a series of any length, kept in a bounded number of buckets while it is read.
 *
 * Up to CURVE_POINTS_MAX values stand as they are.  Beyond, neighbours share a bucket of their
 * mean, smallest and largest, so a spike in a long run can still be seen.
 */
#ifndef MT_IO_CURVE_H
#define MT_IO_CURVE_H

#include "comm/base/status.h"

enum { CURVE_POINTS_MAX = 2000 };

struct curve_bucket {
    double first, last;    /* positions */
    double sum, low, high; /* of the finite values */
    int64_t values, finite;
};

struct curve {
    struct curve_bucket *bucket;
    int32_t count, capacity;
    int64_t stride; /* values a bucket takes; 0 = nothing was added yet */
};

/* Local.  Adds y at x; what stood at x or behind it is dropped first: the later one wins.  A y that
 * is not finite makes a gap; an x that is not finite is passed over.  A zeroed curve is empty.
 * Errors: NOMEM. */
mt_status curve_add(struct curve *c, double x, double y) MT_CHECKED;
void curve_release(struct curve *c);

/* Local.  Into x[CURVE_POINTS_MAX] and y[CURVE_POINTS_MAX]; answers how many points: the means;
 * both ends of each bucket's range, in turn, where buckets hold several values. */
int32_t curve_means(const struct curve *c, double *x, double *y);
int32_t curve_extremes(const struct curve *c, double *x, double *y);

/* Local.  A centred moving mean of y over 2 reach + 1 points, gaps left out. */
void curve_smooth(double *smooth, const double *y, int32_t count, int32_t reach);

#endif
