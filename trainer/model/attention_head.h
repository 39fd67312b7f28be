/*
 * attention_head: one head of one sentence, by kernels that exist once for each width of vectors.
 *
 * The kernels of AVX-512 and of AVX2 give the same bits; the plain ones do not, for want of FMA.
 */
#ifndef MT_MODEL_ATTENTION_HEAD_H
#define MT_MODEL_ATTENTION_HEAD_H

#include "trainer/model/dropout.h"
#include "trainer/model/real.h"

enum { ATTENTION_BLOCK = 48, ATTENTION_BLOCK_AMX = 128 }; /* queries at a time */

struct attention_head {
    int64_t T, D, H, A;
    const real *q, *k, *v;     /* [T,D], rows H apart */
    const uint16_t *half[3];   /* the same in bf16, for AMX */
    real *row_max, *row_scale; /* [T], A apart */
    const struct dropout *drop;
    int64_t sample, first; /* of its dropout */
    int64_t next;          /* elements to the head that comes next */
    real scale;            /* 1 / sqrt(D) */
    real *room;            /* attention_head_room(T, D) */
};

/* T or D in whole panels of any width of vectors. */
static inline int64_t attention_padded(int64_t n)
{
    return (n + 31) / 32 * 32;
}

/* Local.  Elements of `room`, for any kernels. */
int64_t attention_head_room(int64_t T, int64_t D);

struct attention_kernels {
    const char *name;
    /* context[T,D], rows H apart */
    void (*forward)(const struct attention_head *h, real *context);
    /* d: gradient of context -> dq; sets dk and dv; all [T,D], rows H apart */
    void (*backward)(const struct attention_head *h, const real *context, real *d, real *dk,
                     real *dv);
};

/* Local.  Static tables; NULL where the program was built without them.  They may run only on
 * processors that have the instructions. */
const struct attention_kernels *attention_kernels_avx512(void);
const struct attention_kernels *attention_kernels_avx2(void);
const struct attention_kernels *attention_kernels_plain(void);

/* Local.  The widest that this machine can run. */
const struct attention_kernels *attention_kernels_best(void);

/* Local.  The same by AMX, where gemm_amx_has(): from and to matrices in bf16, operands of products
 * rounded to bf16, scores and sums in float. */
void attention_amx_forward(const struct attention_head *h, uint16_t *context);
void attention_amx_backward(const struct attention_head *h, const uint16_t *context, uint16_t *d,
                            uint16_t *dk, uint16_t *dv);

#endif
