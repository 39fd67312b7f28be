/* See metrics.h.  Products of counts are taken in double: squares of counts past 3e9 would not fit
 * 64 bits, and 53 bits are exact up to 9e7 sentences. */
#include "trainer/metrics.h"

#include <math.h>

struct class_counts class_counts_view(int64_t *block, int32_t classes)
{
    struct class_counts c = {.classes = classes,
                             .true_positives = block,
                             .predicted = block + classes,
                             .actual = block + 2 * (int64_t)classes};
    return c;
}

void class_counts_add(struct class_counts *c, int32_t label, int32_t prediction)
{
    if (label < 0)
        return;
    c->actual[label]++;
    c->predicted[prediction]++;
    if (label == prediction)
        c->true_positives[label]++;
}

void class_counts_add_confusion(struct class_counts *c, const int64_t *confusion)
{
    for (int32_t label = 0; label < c->classes; label++) {
        for (int32_t guess = 0; guess < c->classes; guess++) {
            int64_t n = confusion[(int64_t)label * c->classes + guess];
            c->actual[label] += n;
            c->predicted[guess] += n;
            if (label == guess)
                c->true_positives[label] += n;
        }
    }
}

struct class_metrics class_counts_metrics(const struct class_counts *c)
{
    struct class_metrics m = {0};
    int64_t right = 0;
    int32_t present = 0;
    double f1_sum = 0, cross = 0, predicted_squares = 0, actual_squares = 0;
    for (int32_t k = 0; k < c->classes; k++) {
        double p = (double)c->predicted[k], t = (double)c->actual[k];
        m.count += c->actual[k];
        right += c->true_positives[k];
        cross += p * t;
        predicted_squares += p * p;
        actual_squares += t * t;
        if (p + t > 0) {
            f1_sum += 2 * (double)c->true_positives[k] / (p + t);
            present++;
        }
    }
    if (m.count == 0)
        return m;
    double s = (double)m.count;
    double spread = (s * s - predicted_squares) * (s * s - actual_squares);
    m.accuracy = (double)right / s;
    m.f1_macro = f1_sum / present;
    if (spread > 0)
        m.mcc = ((double)right * s - cross) / sqrt(spread);
    return m;
}
