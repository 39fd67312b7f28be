/*
 * Float products go through dnnl_sgemm, which needs no object and adds into its result.  bf16
 * products are inner_product primitives with plain layouts: on the processors that have bf16 they
 * are thin covers over the same packed kernels.  The gradient of an input is a forward product with
 * the weight's transpose, since only forward products can add into their result.
 *
 * A primitive belongs to one row count.  oneDNN keeps the last PRIMITIVES of the process in a table
 * of its own, safe for threads: taking one from it costs 7-10 us, making one 65-100 us, against
 * milliseconds for the product.  Refused: a second table here; rounding row counts up (wasted rows
 * cost more than new primitives); packed weights (no faster, measured).
 *
 * Debian's oneDNN runs on OpenMP, whose thread count is a property of the calling thread.
 */
#include "trainer/model/gemm_dnnl.h"

#if defined(MT_ONEDNN) && !defined(MT_REAL_double)

#include <dnnl.h>
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/log.h"

enum { PRIMITIVES = 512 };

static dnnl_engine_t engine;
static pthread_once_t engine_once = PTHREAD_ONCE_INIT;
static _Thread_local bool single_threaded;

/* Only memory can be lacking here, and a product has no way to fail. */
static void check(dnnl_status_t st, const char *what)
{
    if (st == dnnl_success)
        return;
    log_error("oneDNN: %s failed with status %d (memory?); model.products = \"openblas\" and "
              "model.precision = \"fp32\" do without it",
              what, (int)st);
    __builtin_trap();
}

static void create_engine(void)
{
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "dnnl_engine_create");
    check(dnnl_set_primitive_cache_capacity(PRIMITIVES), "dnnl_set_primitive_cache_capacity");
}

static void enter(void)
{
    if (single_threaded)
        return;
    omp_set_num_threads(1);
    (void)pthread_once(&engine_once, create_engine);
    single_threaded = true;
}

bool gemm_dnnl_built(void)
{
    return true;
}

bool gemm_dnnl_has_bf16(void)
{
    unsigned have = (unsigned)dnnl_get_effective_cpu_isa(), want = dnnl_cpu_isa_avx512_core_bf16;
    return (have & want) == want;
}

static const char *isa_name(void)
{
    static const struct {
        unsigned isa;
        const char *name;
    } names[] = {{dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"},
                 {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
                 {dnnl_cpu_isa_avx512_core, "avx512_core"},
                 {dnnl_cpu_isa_avx2, "avx2"},
                 {dnnl_cpu_isa_avx, "avx"},
                 {dnnl_cpu_isa_sse41, "sse41"}};
    unsigned have = (unsigned)dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((have & names[i].isa) == names[i].isa)
            return names[i].name;
    return "portable";
}

const char *gemm_dnnl_description(void)
{
    static _Thread_local char text[64];
    const dnnl_version_t *v = dnnl_version();
    (void)snprintf(text, sizeof text, "oneDNN %d.%d.%d %s", v->major, v->minor, v->patch,
                   isa_name());
    return text;
}

void gemm_dnnl_float(float *c, int64_t c_stride, bool add, struct gemm_dnnl_matrix a,
                     struct gemm_dnnl_matrix b, int64_t m, int64_t n, int64_t k)
{
    enter();
    check(dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, 1, a.at, a.stride,
                     b.at, b.stride, add ? 1 : 0, c, c_stride),
          "dnnl_sgemm");
}

static dnnl_memory_desc_t describe(int64_t rows, int64_t columns, dnnl_data_type_t type,
                                   dnnl_format_tag_t layout)
{
    dnnl_memory_desc_t d;
    dnnl_dims_t dims = {rows, columns};
    check(dnnl_memory_desc_init_by_tag(&d, 2, dims, type, layout), "dnnl_memory_desc_init");
    return d;
}

/* The matrices of an inner product y[rows,out] = x[rows,in] w[out,in]^T. */
struct inner {
    dnnl_memory_desc_t x, w, y;
};

static dnnl_primitive_desc_t describe_forward(const struct inner *i, bool add)
{
    dnnl_inner_product_desc_t d;
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops;
    dnnl_primitive_desc_t pd;
    check(
        dnnl_inner_product_forward_desc_init(&d, dnnl_forward_training, &i->x, &i->w, NULL, &i->y),
        "dnnl_inner_product_forward_desc_init");
    check(dnnl_primitive_attr_create(&attr), "dnnl_primitive_attr_create");
    check(dnnl_post_ops_create(&ops), "dnnl_post_ops_create");
    if (add)
        check(dnnl_post_ops_append_sum(ops, 1), "dnnl_post_ops_append_sum");
    check(dnnl_primitive_attr_set_post_ops(attr, ops), "dnnl_primitive_attr_set_post_ops");
    check(dnnl_primitive_desc_create(&pd, &d, attr, engine, NULL), "dnnl_primitive_desc_create");
    (void)dnnl_post_ops_destroy(ops);
    (void)dnnl_primitive_attr_destroy(attr);
    return pd;
}

/* The gradient of w; oneDNN wants to see the forward product that it belongs to. */
static dnnl_primitive_desc_t describe_weight(const struct inner *i)
{
    dnnl_inner_product_desc_t d;
    struct inner of_forward = *i;
    of_forward.w.data_type = dnnl_bf16;
    dnnl_primitive_desc_t pd, forward = describe_forward(&of_forward, false);
    check(dnnl_inner_product_backward_weights_desc_init(&d, &i->x, &i->w, NULL, &i->y),
          "dnnl_inner_product_backward_weights_desc_init");
    check(dnnl_primitive_desc_create(&pd, &d, NULL, engine, forward), "dnnl_primitive_desc_create");
    (void)dnnl_primitive_desc_destroy(forward);
    return pd;
}

static dnnl_memory_t memory_of(const dnnl_memory_desc_t *d, const void *at)
{
    dnnl_memory_t m;
    void *handle;
    memcpy(&handle, &at, sizeof handle); /* oneDNN has one type for what it reads and writes */
    check(dnnl_memory_create(&m, d, engine, handle), "dnnl_memory_create");
    return m;
}

static void execute(dnnl_primitive_desc_t pd, dnnl_exec_arg_t arg[3])
{
    dnnl_primitive_t p;
    dnnl_stream_t stream;
    check(dnnl_primitive_create(&p, pd), "dnnl_primitive_create");
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "dnnl_stream_create");
    check(dnnl_primitive_execute(p, stream, 3, arg), "dnnl_primitive_execute");
    check(dnnl_stream_wait(stream), "dnnl_stream_wait");
    (void)dnnl_stream_destroy(stream);
    for (int i = 0; i < 3; i++)
        (void)dnnl_memory_destroy(arg[i].memory);
    (void)dnnl_primitive_destroy(p);
    (void)dnnl_primitive_desc_destroy(pd);
}

void gemm_dnnl_bf16_forward(float *y, const uint16_t *x, const uint16_t *w, int64_t rows,
                            int64_t in, int64_t out)
{
    enter();
    struct inner i = {describe(rows, in, dnnl_bf16, dnnl_ab), describe(out, in, dnnl_bf16, dnnl_ab),
                      describe(rows, out, dnnl_f32, dnnl_ab)};
    execute(describe_forward(&i, false), (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, memory_of(&i.x, x)},
                                                             {DNNL_ARG_WEIGHTS, memory_of(&i.w, w)},
                                                             {DNNL_ARG_DST, memory_of(&i.y, y)}});
}

void gemm_dnnl_bf16_input(float *dx, bool add, const uint16_t *dy, const uint16_t *w, int64_t rows,
                          int64_t in, int64_t out)
{
    enter();
    struct inner i = {describe(rows, out, dnnl_bf16, dnnl_ab),
                      describe(in, out, dnnl_bf16, dnnl_ba), describe(rows, in, dnnl_f32, dnnl_ab)};
    execute(describe_forward(&i, add), (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, memory_of(&i.x, dy)},
                                                           {DNNL_ARG_WEIGHTS, memory_of(&i.w, w)},
                                                           {DNNL_ARG_DST, memory_of(&i.y, dx)}});
}

void gemm_dnnl_bf16_weight(float *dw, const uint16_t *dy, const uint16_t *x, int64_t rows,
                           int64_t in, int64_t out)
{
    enter();
    struct inner i = {describe(rows, in, dnnl_bf16, dnnl_ab), describe(out, in, dnnl_f32, dnnl_ab),
                      describe(rows, out, dnnl_bf16, dnnl_ab)};
    execute(describe_weight(&i), (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, memory_of(&i.x, x)},
                                                     {DNNL_ARG_DIFF_DST, memory_of(&i.y, dy)},
                                                     {DNNL_ARG_DIFF_WEIGHTS, memory_of(&i.w, dw)}});
}

#else

bool gemm_dnnl_built(void)
{
    return false;
}

bool gemm_dnnl_has_bf16(void)
{
    return false;
}

const char *gemm_dnnl_description(void)
{
    return "";
}

void gemm_dnnl_float(float *c, int64_t c_stride, bool add, struct gemm_dnnl_matrix a,
                     struct gemm_dnnl_matrix b, int64_t m, int64_t n, int64_t k)
{
    (void)c, (void)c_stride, (void)add, (void)a, (void)b, (void)m, (void)n, (void)k;
    __builtin_trap();
}

void gemm_dnnl_bf16_forward(float *y, const uint16_t *x, const uint16_t *w, int64_t rows,
                            int64_t in, int64_t out)
{
    (void)y, (void)x, (void)w, (void)rows, (void)in, (void)out;
    __builtin_trap();
}

void gemm_dnnl_bf16_input(float *dx, bool add, const uint16_t *dy, const uint16_t *w, int64_t rows,
                          int64_t in, int64_t out)
{
    (void)dx, (void)add, (void)dy, (void)w, (void)rows, (void)in, (void)out;
    __builtin_trap();
}

void gemm_dnnl_bf16_weight(float *dw, const uint16_t *dy, const uint16_t *x, int64_t rows,
                           int64_t in, int64_t out)
{
    (void)dw, (void)dy, (void)x, (void)rows, (void)in, (void)out;
    __builtin_trap();
}

#endif
