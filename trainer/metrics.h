/*
 * metrics: accuracy, macro F1 and Matthews correlation from counts per class.
 *
 * Only integers are counted and added (over batches, lanes and ranks, in any order); the division
 * happens once, at the end.  The three counts of all classes are one flat block of 3 K numbers, so
 * a sum over ranks is one reduction of it.
 *
 *     int64_t block[CLASS_COUNTS_WIDTH * 3] = {0};
 *     struct class_counts c = class_counts_view(block, 3);
 *     class_counts_add(&c, label, prediction);               // for every sentence
 *     struct class_metrics m = class_counts_metrics(&c);
 */
#ifndef MT_TRAINER_METRICS_H
#define MT_TRAINER_METRICS_H

#include "comm/base/status.h"

enum { CLASS_COUNTS_WIDTH = 3 };

struct class_counts {
    int32_t classes;         /* K */
    int64_t *true_positives; /* [K] */
    int64_t *predicted;      /* [K] p_k */
    int64_t *actual;         /* [K] t_k */
};

struct class_metrics {
    int64_t count;   /* labelled sentences; with 0 the three numbers are 0 */
    double accuracy; /* 0..1 */
    double f1_macro; /* 0..1, mean over the classes that occur in labels or predictions */
    double mcc;      /* -1..1, 0 where labels or predictions are of one class only */
};

/* Local.  A view of block[CLASS_COUNTS_WIDTH * K], which is not touched.  Borrows block. */
struct class_counts class_counts_view(int64_t *block, int32_t classes);

/* Local.  Counts one sentence.  label < 0 = no label: skipped.  Both below K otherwise. */
void class_counts_add(struct class_counts *c, int32_t label, int32_t prediction);

/* Local.  Adds a confusion table [K][K] of counts, row = label, column = prediction. */
void class_counts_add_confusion(struct class_counts *c, const int64_t *confusion);

/* Local.  Source: scikit-learn's accuracy_score, f1_score(average="macro") and matthews_corrcoef;
 * the last is R_K of Gorodkin, "Comparing two K-category assignments by a K-category correlation
 * coefficient", Comput. Biol. Chem. 28 (2004). */
struct class_metrics class_counts_metrics(const struct class_counts *c);

#endif
