/*
 * One function for all float products, with our own two ways behind it (by the matrix unit and by
 * vectors), CBLAS (dgemm in the derivative tests) and oneDNN.
 *
 * Row-major operands are passed as they lie; transposition is a flag, so nothing is copied.
 * dW uses beta = 1 and lands in the flat gradient block directly.
 * Refused: threads inside a product (two single-threaded batches side by side are faster than one
 * product on two threads, and their bits do not depend on the thread count); choosing by a
 * measurement at the start (a busy machine would choose other bits at a resume: the rule is our
 * own, by the matrix unit where there is one).
 */
#include "trainer/model/gemm.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

#include "trainer/model/gemm_amx.h"
#include "trainer/model/gemm_dnnl.h"
#include "trainer/model/gemm_native.h"
#include "trainer/model/gemm_split.h"

enum library { AUTO, AMX, NATIVE, OPENBLAS, ONEDNN, LIBRARIES };

static const char *const library_name[LIBRARIES] = {"auto", "amx", "native", "openblas", "onednn"};

static enum library wanted = AUTO;
static bool avoid_amx; /* also where the processor has it */

static enum library library(void)
{
    if (wanted != AUTO)
        return wanted;
    return gemm_amx_has()          ? AMX
           : gemm_native_is_fast() ? NATIVE
           : gemm_dnnl_built()     ? ONEDNN
                                   : OPENBLAS;
}

void gemm_init(void)
{
    openblas_set_num_threads(1);
}

mt_status gemm_choose(const char *name)
{
    enum library l = AUTO;
    while (l < LIBRARIES && strcmp(name, library_name[l]) != 0)
        l++;
    if (l == LIBRARIES)
        return MT_FAIL(MT_CONFIG,
                       "products by \"%s\": choose auto, amx, native, openblas or "
                       "onednn",
                       name);
    if (l == AMX && !gemm_amx_has())
        return MT_FAIL(MT_CONFIG, "products by amx: the processor has none, or the system does not "
                                  "let this process use it; choose auto or native");
    if (l == ONEDNN && !gemm_dnnl_built())
        return MT_FAIL(MT_CONFIG, "products by onednn: this mttrain was built without oneDNN; "
                                  "install libdnnl-dev and build again, or choose openblas");
    wanted = l;
    return MT_OK;
}

const char *gemm_chosen(void)
{
    return library_name[library()];
}

const char *gemm_description(void)
{
    static _Thread_local char text[160];
    if (library() == ONEDNN)
        return gemm_dnnl_description();
    if (library() == AMX)
        return "amx, three bf16 a number";
    if (library() == NATIVE)
        snprintf(text, sizeof text, "native %s", gemm_native_set());
    else
        snprintf(text, sizeof text, "%s (%s)", openblas_get_config(), openblas_get_corename());
    return text;
}

const char *gemm_identity(void)
{
    enum library l = library();
    return l == AMX || l == NATIVE ? library_name[l] : gemm_description();
}

bool gemm_has_bf16(const char **why)
{
#if defined(MT_REAL_double)
    *why = "the model is compiled for double";
    return false;
#endif
    *why = gemm_amx_has()          ? ""
           : !gemm_dnnl_built()    ? "the processor has no AMX, and this mttrain was built without "
                                     "oneDNN (libdnnl-dev)"
           : !gemm_dnnl_has_bf16() ? "the processor has neither avx512_bf16 nor AMX"
                                   : "";
    return **why == '\0';
}

mt_status gemm_choose_bf16(const char *name)
{
    bool onednn = strcmp(name, "onednn") == 0, amx = strcmp(name, "amx") == 0;
    if (!onednn && !amx && strcmp(name, "auto") != 0)
        return MT_FAIL(MT_CONFIG, "bf16 products by \"%s\": choose auto, amx or onednn", name);
    if (amx && !gemm_amx_has())
        return MT_FAIL(MT_CONFIG, "bf16 products by amx: the processor has none, or the system "
                                  "does not let this process use it");
    if (onednn && !gemm_dnnl_has_bf16())
        return MT_FAIL(MT_CONFIG, "bf16 products by onednn: it is not built in, or the processor "
                                  "has neither avx512_bf16 nor AMX");
    avoid_amx = onednn;
    return MT_OK;
}

bool gemm_by_amx(void)
{
    return !avoid_amx && gemm_amx_has();
}

const char *gemm_chosen_bf16(void)
{
    return gemm_by_amx() ? "amx" : gemm_dnnl_has_bf16() ? "onednn" : "";
}

/* An operand as it lies in memory. */
struct gemm_view {
    const real *at;
    int64_t stride;
    bool transposed; /* the product uses its transpose */
};

/* c[m,n] = op(a) op(b) + bias, or adds op(a) op(b) to c. */
struct product {
    real *c;
    bool adds;
    struct gemm_view a, b;
    int64_t m, n, k;
    const real *bias; /* NULL: none */
};

/* Not by a library of others. */
static bool by_ours(void)
{
#if defined(MT_REAL_double)
    return false;
#else
    return library() == NATIVE || library() == AMX;
#endif
}

/* One product, or several of the same a. */
static void multiply_by_ours(const struct product *p, int count)
{
#if defined(MT_REAL_double)
    (void)p, (void)count;
#else
    struct gemm_product all[GEMM_LAYERS] = {{0}};
    for (int i = 0; i < count; i++, p++)
        all[i] = (struct gemm_product){.c = p->c,
                                       .c_stride = p->n,
                                       .a = p->a.at,
                                       .a_row = p->a.transposed ? 1 : p->a.stride,
                                       .a_k = p->a.transposed ? p->a.stride : 1,
                                       .b = p->b.at,
                                       .b_k = p->b.transposed ? 1 : p->b.stride,
                                       .b_column = p->b.transposed ? p->b.stride : 1,
                                       .m = p->m,
                                       .n = p->n,
                                       .k = p->k,
                                       .add = p->adds,
                                       .bias = p->bias};
    if (library() == AMX)
        gemm_split(all, count);
    else
        gemm_native(all, count);
#endif
}

static void multiply_by_library(const struct product *p)
{
    const struct gemm_view *a = &p->a, *b = &p->b;
#if defined(MT_REAL_double)
    cblas_dgemm(CblasRowMajor, a->transposed ? CblasTrans : CblasNoTrans,
                b->transposed ? CblasTrans : CblasNoTrans, (int)p->m, (int)p->n, (int)p->k, 1,
                a->at, (int)a->stride, b->at, (int)b->stride, p->adds ? 1 : 0, p->c, (int)p->n);
#else
    if (library() == ONEDNN)
        gemm_dnnl_float(
            p->c, p->n, p->adds, (struct gemm_dnnl_matrix){a->at, a->stride, a->transposed},
            (struct gemm_dnnl_matrix){b->at, b->stride, b->transposed}, p->m, p->n, p->k);
    else
        cblas_sgemm(CblasRowMajor, a->transposed ? CblasTrans : CblasNoTrans,
                    b->transposed ? CblasTrans : CblasNoTrans, (int)p->m, (int)p->n, (int)p->k, 1,
                    a->at, (int)a->stride, b->at, (int)b->stride, p->adds ? 1 : 0, p->c, (int)p->n);
#endif
    for (int64_t i = 0; p->bias && i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++)
            p->c[i * p->n + j] += p->bias[j];
}

/* Products that have a, m and k in common. */
static void multiply(const struct product *p, int count)
{
    if (by_ours()) {
        multiply_by_ours(p, count);
        return;
    }
    for (int i = 0; i < count; i++)
        multiply_by_library(&p[i]);
}

static struct gemm_view whole(const real *at, int64_t columns, bool transposed)
{
    return (struct gemm_view){at, columns, transposed};
}

void gemm_forward(real *y, const real *x, const real *w, int64_t rows, int64_t in, int64_t out)
{
    gemm_forward_layers(&(struct gemm_layer){.y = y, .w = w, .out = out}, 1, x, rows, in);
}

static struct product product_of(real *c, bool adds, struct gemm_view a, struct gemm_view b,
                                 int64_t m, int64_t n, int64_t k)
{
    return (struct product){.c = c, .adds = adds, .a = a, .b = b, .m = m, .n = n, .k = k};
}

void gemm_forward_layers(const struct gemm_layer *layer, int count, const real *x, int64_t rows,
                         int64_t in)
{
    struct product all[GEMM_LAYERS] = {{0}};
    for (int i = 0; i < count; i++) {
        all[i] = product_of(layer[i].y, false, whole(x, in, false), whole(layer[i].w, in, true),
                            rows, layer[i].out, in);
        all[i].bias = layer[i].bias;
    }
    multiply(all, count);
}

void gemm_backward_input(real *dx, bool add, const real *dy, const real *w, int64_t rows,
                         int64_t in, int64_t out)
{
    struct product p =
        product_of(dx, add, whole(dy, out, false), whole(w, in, false), rows, in, out);
    multiply(&p, 1);
}

void gemm_backward_weight(real *dw, bool add, const real *dy, const real *x, int64_t rows,
                          int64_t in, int64_t out)
{
    struct product p =
        product_of(dw, add, whole(dy, out, true), whole(x, in, false), out, in, rows);
    multiply(&p, 1);
}

static struct gemm_amx_matrix half(const uint16_t *at, int64_t columns, bool transposed)
{
    return (struct gemm_amx_matrix){at, NULL, columns, transposed, false};
}

/* The derivative tests, in double, have no bf16: model_set_precision refuses it. */
#if defined(MT_REAL_double)
#define FLOAT_ONLY(call) __builtin_trap()
#else
#define FLOAT_ONLY(call) call
#endif

void gemm_forward_bf16(real *y, const uint16_t *x, const uint16_t *w, int64_t rows, int64_t in,
                       int64_t out)
{
    if (gemm_by_amx())
        gemm_amx_full((struct gemm_amx_full){y, out, false, NULL}, half(x, in, false),
                      half(w, in, true), rows, out, in);
    else
        FLOAT_ONLY(gemm_dnnl_bf16_forward(y, x, w, rows, in, out));
}

void gemm_backward_input_bf16(real *dx, bool add, const uint16_t *dy, const uint16_t *w,
                              int64_t rows, int64_t in, int64_t out)
{
    if (gemm_by_amx())
        gemm_amx_full((struct gemm_amx_full){dx, in, add, NULL}, half(dy, out, false),
                      half(w, in, false), rows, in, out);
    else
        FLOAT_ONLY(gemm_dnnl_bf16_input(dx, add, dy, w, rows, in, out));
}

void gemm_backward_weight_bf16(real *dw, const uint16_t *dy, const uint16_t *x, int64_t rows,
                               int64_t in, int64_t out)
{
    if (gemm_by_amx())
        gemm_amx_full((struct gemm_amx_full){dw, in, false, NULL}, half(dy, out, true),
                      half(x, in, false), out, in, rows);
    else
        FLOAT_ONLY(gemm_dnnl_bf16_weight(dw, dy, x, rows, in, out));
}
