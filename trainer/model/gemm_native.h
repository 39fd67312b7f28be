/*
 * gemm_native: float products of our own, for gemm.c and for kernels that stand on gemm_tile.h.
 *
 * Bits: every element of c is ONE chain of fused multiply-adds over k in ascending order, which
 * begins with +0, with its column's bias or, where the product is added, with the element.  So an
 * element depends on its row of a and its column of b alone: not on the rows and columns around it,
 * nor on alignment, blocks, threads, or the instruction set.
 */
#ifndef MT_MODEL_GEMM_NATIVE_H
#define MT_MODEL_GEMM_NATIVE_H

#include <stdbool.h>
#include <stdint.h>

/* c[m,n] = a b, or c + a b where add.  No two elements of c are one, and c lies apart from a and b.
 */
struct gemm_product {
    float *c; /* rows c_stride apart */
    int64_t c_stride;
    const float *a; /* element (i,l) at a[i * a_row + l * a_k]; one of the two is 1 */
    int64_t a_row, a_k;
    const float *b; /* element (l,j) at b[l * b_k + j * b_column]; one of the two is 1 */
    int64_t b_k, b_column;
    int64_t m, n, k;
    bool add;
    const float *bias; /* [n], added to each row; NULL: none; not where add */
};

/* Local.  Whether the processor multiplies and adds in one operation of a set known here; where
 * not, products are right but slow. */
bool gemm_native_is_fast(void);

/* Local.  The instruction set that multiplies: "avx512", "avx2", "neon" or "portable"; static. */
const char *gemm_native_set(void);

/* Local.  For tests, before products run: that set, or the best one for NULL.  False, and nothing
 * changed, where the processor or the program lacks it. */
bool gemm_native_force(const char *set);

/* Local.  Any thread.  `count` products that have a, m and k in common: a is packed once for all of
 * them.  Packs in the thread's workspace.h. */
void gemm_native(const struct gemm_product *p, int64_t count);

/* The sets.  Where the program has no such set it traps.  For gemm_native.c. */
void gemm_avx512(const struct gemm_product *p, int64_t count);
void gemm_avx2(const struct gemm_product *p, int64_t count);
void gemm_neon(const struct gemm_product *p, int64_t count);
void gemm_portable(const struct gemm_product *p, int64_t count);

#endif
