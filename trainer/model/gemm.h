/*
 * gemm: the matrix products of the model, behind one interface that several libraries can serve.
 *
 * All matrices are dense and row-major.  Bits: one shape gives the same bits at any alignment and
 * from any thread.  With openblas and onednn the rows of a product may change when its number of
 * rows changes; with amx and native no element depends on what is computed beside it, nor on the
 * machine (gemm_split.h, gemm_native.h).
 */
#ifndef MT_MODEL_GEMM_H
#define MT_MODEL_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/base/status.h"
#include "trainer/model/real.h"

/* Local.  Bounds the libraries to one thread a call: threads of the program own whole batches.
 * To be called before products run at the same time; model_init does. */
void gemm_init(void);

/* Local.  Which library multiplies, for the whole process and before products run: "amx" (our own,
 * by the matrix unit), "native" (our own, by vectors), "openblas", "onednn", or "auto" = amx where
 * the processor has it, else native where the processor multiplies and adds in one vector operation
 * (AVX2, AVX-512, NEON), else the first of onednn, openblas that was built in.  The choice is part
 * of the bits.  Without a call: auto.  bf16 products have a choice of their own.
 * Errors: CONFIG for another name, for amx where the processor lacks it, or for onednn where it is
 * not built in. */
mt_status gemm_choose(const char *name) MT_CHECKED;

/* Local.  "amx", "native", "openblas" or "onednn"; static. */
const char *gemm_chosen(void);

/* Local.  The library that multiplies, and its kernels ("native avx512"). */
const char *gemm_description(void);

/* Local.  What the bits of products depend on: "amx" or "native", which have the same everywhere,
 * or the description of another library. */
const char *gemm_identity(void);

/* Local.  Whether this machine multiplies bf16 in hardware and a library here can use it; where
 * not, *why (static) says what is missing. */
bool gemm_has_bf16(const char **why);

/* Local.  The same choice for bf16: "amx" (trainer/model/gemm_amx.h), "onednn", or "auto" = the
 * first of the two that this machine has.  Without a call: auto.
 * Errors: CONFIG for another name, or for one that this machine has not. */
mt_status gemm_choose_bf16(const char *name) MT_CHECKED;

/* Local.  "amx", "onednn", or "" where there is neither; static. */
const char *gemm_chosen_bf16(void);

/* Local.  Whether that is "amx": products that round, add and go on into what follows. */
bool gemm_by_amx(void);

/* The three products of a dense layer with weights w[out,in]; none allocates or fails. */

/* Local.  y[rows,out] = x[rows,in] w^T. */
void gemm_forward(real *y, const real *x, const real *w, int64_t rows, int64_t in, int64_t out);

/* One of several dense layers of one input. */
enum { GEMM_LAYERS = 3 };
struct gemm_layer {
    real *y;          /* [rows,out] */
    const real *w;    /* [out,in] */
    const real *bias; /* [out]; NULL: none */
    int64_t out;
};

/* Local.  y = x[rows,in] w^T + bias of each of layer[count], at most GEMM_LAYERS. */
void gemm_forward_layers(const struct gemm_layer *layer, int count, const real *x, int64_t rows,
                         int64_t in);

/* Local.  dx[rows,in] = dy[rows,out] w, or adds that to dx. */
void gemm_backward_input(real *dx, bool add, const real *dy, const real *w, int64_t rows,
                         int64_t in, int64_t out);

/* Local.  dw[out,in] = dy[rows,out]^T x[rows,in], or adds that to dw. */
void gemm_backward_weight(real *dw, bool add, const real *dy, const real *x, int64_t rows,
                          int64_t in, int64_t out);

/* Local.  The same products of operands in bf16 (trainer/model/bf16.h), with float sums and result;
 * only where gemm_has_bf16.  dw is set, not added to. */
void gemm_forward_bf16(real *y, const uint16_t *x, const uint16_t *w, int64_t rows, int64_t in,
                       int64_t out);
void gemm_backward_input_bf16(real *dx, bool add, const uint16_t *dy, const uint16_t *w,
                              int64_t rows, int64_t in, int64_t out);
void gemm_backward_weight_bf16(real *dw, const uint16_t *dy, const uint16_t *x, int64_t rows,
                               int64_t in, int64_t out);

#endif
