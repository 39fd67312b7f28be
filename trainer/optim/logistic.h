/*
 * logistic: the loss of multinomial logistic regression on rows of fixed features, with gradient.
 *
 *     value = sum_i weight(y_i) * -log softmax(W z_i + b)[y_i]  +  l2/2 * |W|^2
 *
 * over chosen rows, z = (feature - mean) * scale.  Parameters are one vector of `parameter_count`
 * doubles in panels of LOGISTIC_LANE classes, [panels][dim + 1][LOGISTIC_LANE], the bias behind the
 * last feature; classes that fill up the last panel stay 0.  Ask logistic_index for a place in it.
 */
#ifndef MT_OPTIM_LOGISTIC_H
#define MT_OPTIM_LOGISTIC_H

#include "comm/pool.h"

enum {
    LOGISTIC_LANE = 4,
    LOGISTIC_GROUP_ROWS = 8,
    LOGISTIC_BLOCK_ROWS = 32,
    LOGISTIC_PARTS_MAX = 16
};

struct logistic {
    const float *features; /* borrowed, [rows,dim] */
    const int64_t *rows;   /* borrowed, [row_count]: which of them */
    const int32_t *labels; /* borrowed, [row_count]: class of rows[i]; NULL = scores only */
    const double *weights; /* borrowed, [classes]; NULL = all 1 */
    struct pool *pool;     /* borrowed; NULL = the calling thread alone; the same bits */
    int64_t row_count;
    int32_t dim, classes, panels;
    int32_t parts; /* of the rows, added up on their own; a function of the sizes */
    int64_t parameter_count;
    double l2;
    double *mean, *scale; /* [dim] */
    double *x;            /* [threads][block / group][dim][group] standardised rows, turned */
    double *scores;       /* [threads][panels][block][lane] */
    double *part;         /* [parts - 1][parameter_count] gradients of all parts but the first */
    double part_loss[LOGISTIC_PARTS_MAX];
};

/* Local.  Needs features, rows, labels, weights, row_count, dim, classes set; the rest zero.  With
 * `standardise`, mean and scale are those of the rows (a feature that does not vary gets scale 0);
 * otherwise 0 and 1.  Owns its work space.  Errors: NOMEM; DATA where a feature is not finite. */
mt_status logistic_init(struct logistic *l, bool standardise) MT_CHECKED;
void logistic_release(struct logistic *l);

static inline int64_t logistic_index(const struct logistic *l, int32_t k, int32_t d)
{
    return ((int64_t)(k / LOGISTIC_LANE) * (l->dim + 1) + d) * LOGISTIC_LANE + k % LOGISTIC_LANE;
}

/* Local.  The value; gradient[parameter_count] is set.  `context` is a struct logistic: fits
 * lbfgs_problem.evaluate. */
double logistic_evaluate(void *context, const double *parameters, double *gradient);

/* Local.  Scores W z + b of rows first .. first+count-1 (count <= LOGISTIC_BLOCK_ROWS), left in
 * l->scores; see logistic_score. */
void logistic_score_block(struct logistic *l, const double *parameters, int64_t first,
                          int32_t count);
static inline double *logistic_score(const struct logistic *l, int32_t row, int32_t k)
{
    int64_t panel = k / LOGISTIC_LANE;
    return l->scores + (panel * LOGISTIC_BLOCK_ROWS + row) * LOGISTIC_LANE + k % LOGISTIC_LANE;
}

#endif
