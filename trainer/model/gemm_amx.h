/*
 * gemm_amx: products of bf16 operands by the processor's matrix unit (AMX), for gemm.c and dense.c.
 *
 * Sums are float.  Bits: an element is a function of its row of a, its column of b and k alone, not
 * of the numbers of rows and columns, of alignment or thread.  One thread a product.
 */
#ifndef MT_MODEL_GEMM_AMX_H
#define MT_MODEL_GEMM_AMX_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/model/real.h"

/* Local.  Whether processor and system have the unit and let this process use it. */
bool gemm_amx_has(void);

/* Local.  `rounds` rounds of multiplications in registers, of GEMM_AMX_SPIN operations each: as
 * fast as the unit goes with these tiles of bf16. */
void gemm_amx_spin(int64_t rounds, const uint16_t x[4][512]);
enum { GEMM_AMX_SPIN = 4 * 2 * 16 * 16 * 32 };

/* A matrix to multiply: bf16, or float that is rounded when it is packed. */
struct gemm_amx_matrix {
    const uint16_t *half; /* NULL: full */
    const real *full;
    int64_t stride;  /* in blocks: the number of columns */
    bool transposed; /* the product uses its transpose */
    bool blocked;    /* half lies in blocks */
};

enum { GEMM_AMX_PANEL = 32, GEMM_AMX_BLOCK = GEMM_AMX_PANEL * GEMM_AMX_PANEL };

/* A matrix in blocks: squares of 32 x 32, each in one piece, as the unit loads them.  Rows of
 * blocks follow one another; columns of the last block beyond the matrix are zeros, its rows beyond
 * are anything. */
static inline int64_t gemm_amx_blocks(int64_t n)
{
    return (n + GEMM_AMX_PANEL - 1) / GEMM_AMX_PANEL;
}

/* Local.  Elements that x[rows,columns] takes in blocks. */
static inline int64_t gemm_amx_blocked(int64_t rows, int64_t columns)
{
    return gemm_amx_blocks(rows) * gemm_amx_blocks(columns) * GEMM_AMX_BLOCK;
}

/* Local.  Where the block of (row, column), both multiples of 32, begins. */
static inline int64_t gemm_amx_block_at(int64_t columns, int64_t row, int64_t column)
{
    return (row / GEMM_AMX_PANEL * gemm_amx_blocks(columns) + column / GEMM_AMX_PANEL) *
           GEMM_AMX_BLOCK;
}

/* Local.  Row `row` of a matrix in blocks from x[columns], rounded. */
void gemm_amx_block_row(uint16_t *blocks, int64_t row, const real *x, int64_t columns);

/* Where complete sums go.  A callback is given sums[32][32] of the rows from `row` and the columns
 * from `column`, of which `rows` and `columns` are of the matrix; it may write into sums.  A column
 * is finished from its first row to its last. */
struct gemm_amx_result {
    void (*finish)(void *context, real *sums, int64_t row, int64_t rows, int64_t column,
                   int64_t columns);
    void *context;
};

/* Local.  op(a) op(b), with op(a) of [m,k] and op(b) of [k,n]. */
void gemm_amx(struct gemm_amx_result to, struct gemm_amx_matrix a, struct gemm_amx_matrix b,
              int64_t m, int64_t n, int64_t k);

/* Local.  Rows of a panel, each plus bias[columns] (NULL: none), rounded into to[rows,columns],
 * rows `stride` apart, past the caches where whole lines allow it. */
void gemm_amx_store_half(uint16_t *to, int64_t stride, const real *panel, const real *bias,
                         int64_t rows, int64_t columns);

/* A matrix in float as a result. */
struct gemm_amx_full {
    real *at;
    int64_t stride;
    bool add;         /* to what is there, after the sum is complete */
    const real *bias; /* [n] or NULL: added to each row */
};

/* Local.  c[m,n] = op(a) op(b) + bias, or adds that. */
void gemm_amx_full(struct gemm_amx_full c, struct gemm_amx_matrix a, struct gemm_amx_matrix b,
                   int64_t m, int64_t n, int64_t k);

#endif
