/*
 * oneDNN cannot add a weight's gradient in bf16, so it passes through room->sum, but for the first
 * pass, which sets them.  The three layers of one input become one
 * product with a weight of three times the rows: their weights are rounded side by side anyway.
 *
 * Refused: bf16 copies of all weights kept between steps (170 MB for BERT-base and a way to be
 * stale; rounding at the product costs 1.4 ms a layer against 56 ms of products at 800 tokens).
 */
#include "trainer/model/dense.h"

#include <string.h>

#include "trainer/model/activation.h"
#include "trainer/model/activation_table.h"
#include "trainer/model/bf16.h"
#include "trainer/model/gemm.h"
#include "trainer/model/gemm_amx.h"
#include "trainer/model/kernel.h"
#include "trainer/model/timing.h"

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void dense_room_plan(struct dense_room *room, struct arena *a, const struct model *m, int64_t N,
                     bool backward)
{
    int64_t H = m->config.hidden_size, wide = larger(3 * H, m->config.intermediate_size);
    *room = (struct dense_room){0};
    if (m->precision == MODEL_FP32)
        return;
    room->amx = gemm_by_amx();
    if (room->amx) {
        int64_t inner = gemm_amx_blocked(N, m->config.intermediate_size);
        int64_t outer = gemm_amx_blocked(N, H), most = larger(inner, outer);
        room->a = ARENA_TAKE(a, uint16_t, most);
        room->b = backward ? ARENA_TAKE(a, uint16_t, most) : NULL;
        room->c = ARENA_TAKE(a, uint16_t, outer);
        room->inner = room->c;
        return;
    }
    room->a = room->inner = ARENA_TAKE(a, uint16_t, N * wide);
    room->b = backward ? ARENA_TAKE(a, uint16_t, N * wide) : NULL;
    room->c = backward ? ARENA_TAKE(a, uint16_t, N * H) : NULL;
    room->w = ARENA_TAKE(a, uint16_t, H * wide);
    room->sum = ARENA_TAKE(a, real, larger(N * 3 * H, backward ? H * wide : 0));
}

bool dense_keeps_half(const struct model *m)
{
    return m->precision == MODEL_BF16 && gemm_by_amx();
}

/* In bf16 by oneDNN: operands and weights are rounded into the room. */
static bool in_bf16(const struct dense *d)
{
    return d->room->w != NULL;
}

static struct gemm_amx_matrix amx_operand(struct operand x, int64_t columns, bool transposed)
{
    return (struct gemm_amx_matrix){x.rounded, x.at, columns, transposed, !x.rows};
}

static struct gemm_amx_matrix amx_weight(const struct dense *d, int32_t weight, int64_t in,
                                         bool transposed)
{
    return (struct gemm_amx_matrix){NULL, weights_at(d->w, weight), in, transposed, false};
}

struct operand dense_operand(const struct dense *d, const real *x, int64_t columns, uint16_t *to)
{
    if (to == NULL)
        return (struct operand){x, NULL, false};
    if (!d->room->amx)
        bf16_round(to, x, d->N * columns);
    for (int64_t row = 0; d->room->amx && row < d->N; row++)
        gemm_amx_block_row(to, row, x + row * columns, columns);
    timing_mark(TIMING_ROUNDING);
    return (struct operand){NULL, to, false};
}

struct operand dense_rows_operand(const struct dense *d, struct mixed_rows x, int64_t columns,
                                  uint16_t *to)
{
    if (x.half)
        return (struct operand){NULL, x.half, true};
    return dense_operand(d, x.full, columns, to);
}

struct mixed_rows dense_rows_plan(struct arena *a, const struct model *m, int64_t N,
                                  int64_t columns)
{
    bool half = dense_keeps_half(m);
    return (struct mixed_rows){.full = half ? NULL : ARENA_TAKE(a, real, N * columns),
                               .half = half ? ARENA_TAKE(a, uint16_t, N * columns) : NULL};
}

static const uint16_t *rounded_weight(const struct dense *d, int32_t weight, int64_t count)
{
    bf16_round(d->room->w, weights_at(d->w, weight), count);
    timing_mark(TIMING_ROUNDING);
    return d->room->w;
}

static KERNEL void add(real *restrict to, const real *restrict from, int64_t count)
{
    for (int64_t j = 0; j < count; j++)
        to[j] += from[j];
}

static KERNEL void add_half(real *restrict to, const uint16_t *restrict from, int64_t count)
{
    for (int64_t j = 0; j < count; j++)
        to[j] += (real)bf16_value(from[j]);
}

void dense_forward(const struct dense *d, real *y, struct operand x, int32_t weight, int64_t in,
                   int64_t out)
{
    if (d->room->amx)
        gemm_amx_full((struct gemm_amx_full){y, out, false, NULL}, amx_operand(x, in, false),
                      amx_weight(d, weight, in, true), d->N, out, in);
    else if (in_bf16(d))
        gemm_forward_bf16(y, x.rounded, rounded_weight(d, weight, in * out), d->N, in, out);
    else
        gemm_forward(y, x.at, weights_at(d->w, weight), d->N, in, out);
    timing_mark(TIMING_PRODUCTS);
}

void dense_backward_input(const struct dense *d, real *dx, bool adds, struct operand dy,
                          int32_t weight, int64_t in, int64_t out)
{
    if (d->room->amx) {
        gemm_amx_full((struct gemm_amx_full){dx, in, adds, NULL}, amx_operand(dy, out, false),
                      amx_weight(d, weight, in, false), d->N, in, out);
        timing_mark(TIMING_PRODUCTS);
        return;
    }
    if (!in_bf16(d)) {
        gemm_backward_input(dx, adds, dy.at, weights_at(d->w, weight), d->N, in, out);
        timing_mark(TIMING_PRODUCTS);
        return;
    }
    const uint16_t *w = rounded_weight(d, weight, in * out);
    gemm_backward_input_bf16(dx, adds, dy.rounded, w, d->N, in, out);
    timing_mark(TIMING_PRODUCTS);
}

/* A product by AMX goes to rows in bf16. */
struct amx_rows {
    uint16_t *to;
    int64_t stride;
    const real *bias; /* NULL: none */
};

static void rows_finish(void *context, real *sums, int64_t row, int64_t rows, int64_t column,
                        int64_t columns)
{
    const struct amx_rows *c = context;
    gemm_amx_store_half(c->to + row * c->stride + column, c->stride, sums,
                        c->bias ? c->bias + column : NULL, rows, columns);
}

void dense_backward_rows(const struct dense *d, struct mixed_rows dx, struct operand dy,
                         int32_t weight, int64_t in, int64_t out)
{
    if (dx.full) {
        dense_backward_input(d, dx.full, false, dy, weight, in, out);
        return;
    }
    struct amx_rows to = {dx.half, in, NULL};
    gemm_amx((struct gemm_amx_result){rows_finish, &to}, amx_operand(dy, out, false),
             amx_weight(d, weight, in, false), d->N, in, out);
    timing_mark(TIMING_PRODUCTS);
}

void dense_backward_weight(const struct dense *d, int32_t weight, struct operand dy,
                           struct operand x, int64_t in, int64_t out)
{
    real *gradient = weights_gradient(d->w, weight);
    if (!gradient)
        return;
    if (d->room->amx) {
        gemm_amx_full((struct gemm_amx_full){gradient, in, !d->w->fresh, NULL},
                      amx_operand(dy, out, true), amx_operand(x, in, false), out, in, d->N);
        timing_mark(TIMING_PRODUCTS);
        return;
    }
    if (!in_bf16(d)) {
        gemm_backward_weight(gradient, !d->w->fresh, dy.at, x.at, d->N, in, out);
        timing_mark(TIMING_PRODUCTS);
        return;
    }
    real *to = d->w->fresh ? gradient : d->room->sum;
    gemm_backward_weight_bf16(to, dy.rounded, x.rounded, d->N, in, out);
    timing_mark(TIMING_PRODUCTS);
    if (to != gradient)
        add(gradient, to, in * out);
    timing_mark(TIMING_ROUNDING);
}

/* What the sums of a product of AMX go on into. */
struct amx_activation {
    const struct dense_activation *a;
    const struct activation_table *table;
    int64_t F;
    const real *bias; /* forward */
    uint16_t *g, *du; /* [N,F] in blocks */
    real *dbias;      /* [F], backward */
};

enum { PANEL = GEMM_AMX_PANEL };

static void activation_finish_forward(void *context, real *sums, int64_t row, int64_t rows,
                                      int64_t column, int64_t columns)
{
    const struct amx_activation *c = context;
    int64_t at = gemm_amx_block_at(c->F, row, column);
    uint16_t u[PANEL * PANEL];
    real bias[PANEL] = {0};
    memcpy(bias, c->bias + column, (size_t)columns * sizeof *bias);
    gemm_amx_store_half(u, PANEL, sums, bias, rows, PANEL);
    gemm_amx_store_half(c->a->half + at, PANEL, sums, bias, rows, PANEL);
    activation_table_values(c->table, rows, u, c->g + at);
}

static void activation_finish_backward(void *context, real *sums, int64_t row, int64_t rows,
                                       int64_t column, int64_t columns)
{
    const struct amx_activation *c = context;
    int64_t at = gemm_amx_block_at(c->F, row, column);
    activation_table_slopes(c->table, rows, c->a->half + at, c->g + at, sums);
    gemm_amx_store_half(c->du + at, PANEL, sums, NULL, rows, PANEL);
    for (int64_t r = 0; r < rows; r++)
        add(c->dbias + column, sums + r * PANEL, columns);
}

/* act(u + bias) as a rounded operand, by way of one row in float. */
static struct operand round_activation(const struct dense *d, const struct dense_activation *a,
                                       int64_t F)
{
    const real *bias = weights_at(d->w, a->bias);
    for (int64_t row = 0; row < d->N; row++) {
        add(a->u + row * F, bias, F);
        activation_values(a->act, F, a->u + row * F, a->room);
        bf16_round(d->room->a + row * F, a->room, F);
    }
    timing_mark(TIMING_ACTIVATION);
    return (struct operand){NULL, d->room->a, false};
}

static struct dense_activation_gradients round_activation_backward(const struct dense *d,
                                                                   const struct dense_activation *a,
                                                                   int64_t F, real *dg, real *dbias)
{
    for (int64_t row = 0; row < d->N; row++) {
        activation_gradients(a->act, F, a->u + row * F, a->room, dg + row * F, dbias);
        bf16_round(d->room->b + row * F, a->room, F);
        bf16_round(d->room->a + row * F, dg + row * F, F);
    }
    timing_mark(TIMING_ACTIVATION);
    return (struct dense_activation_gradients){{NULL, d->room->b, false},
                                               {NULL, d->room->a, false}};
}

struct operand dense_activation_forward(const struct dense *d, const struct dense_activation *a,
                                        struct operand x, int64_t in, int64_t F)
{
    const real *bias = weights_at(d->w, a->bias);
    if (d->room->amx) {
        struct amx_activation to = {
            .a = a, .table = activation_table_of(a->act), .F = F, .bias = bias, .g = d->room->a};
        gemm_amx((struct gemm_amx_result){activation_finish_forward, &to},
                 amx_operand(x, in, false), amx_weight(d, a->weight, in, true), d->N, F, in);
        timing_mark(TIMING_PRODUCTS);
        return (struct operand){NULL, to.g, false};
    }
    if (in_bf16(d)) {
        dense_forward(d, a->u, x, a->weight, in, F);
        return round_activation(d, a, F);
    }
    struct gemm_layer layer = {a->u, weights_at(d->w, a->weight), bias, F};
    gemm_forward_layers(&layer, 1, x.at, d->N, in);
    timing_mark(TIMING_PRODUCTS);
    activation_values(a->act, d->N * F, a->u, a->room);
    timing_mark(TIMING_ACTIVATION);
    return (struct operand){a->room, NULL, false};
}

/* act(u) alone. */
static void activation_again(const struct dense *d, const struct amx_activation *c)
{
    for (int64_t row = 0; row < d->N; row += PANEL)
        for (int64_t j = 0; j < c->F; j += PANEL) {
            int64_t rows = d->N - row < PANEL ? d->N - row : PANEL;
            int64_t at = gemm_amx_block_at(c->F, row, j);
            activation_table_values(c->table, rows, c->a->half + at, c->g + at);
        }
    timing_mark(TIMING_ACTIVATION);
}

struct dense_activation_gradients dense_activation_backward(const struct dense *d,
                                                            const struct dense_activation *a,
                                                            struct operand dy, int32_t weight_above,
                                                            int64_t F, int64_t out, real *dg,
                                                            real *dbias)
{
    if (d->room->amx) {
        struct amx_activation to = {.a = a,
                                    .table = activation_table_of(a->act),
                                    .F = F,
                                    .g = d->room->b,
                                    .du = d->room->a,
                                    .dbias = dbias};
        if (weight_above < 0)
            activation_again(d, &to);
        else
            gemm_amx((struct gemm_amx_result){activation_finish_backward, &to},
                     amx_operand(dy, out, false), amx_weight(d, weight_above, F, false), d->N, F,
                     out);
        timing_mark(TIMING_PRODUCTS);
        return (struct dense_activation_gradients){{NULL, to.g, false}, {NULL, to.du, false}};
    }
    if (weight_above < 0)
        memset(dg, 0, (size_t)(d->N * F) * sizeof *dg);
    else
        dense_backward_input(d, dg, false, dy, weight_above, F, out);
    if (in_bf16(d))
        return round_activation_backward(d, a, F, dg, dbias);
    for (int64_t at = 0; at < d->N * F; at += F)
        activation_gradients(a->act, F, a->u + at, a->room + at, dg + at, dbias);
    timing_mark(TIMING_ACTIVATION);
    return (struct dense_activation_gradients){{a->room, NULL, false}, {dg, NULL, false}};
}

static void round_weights(const struct dense *d, const struct dense_triple *t, int64_t H)
{
    for (int i = 0; i < 3; i++)
        bf16_round(d->room->w + i * H * H, weights_at(d->w, t->weight[i]), H * H);
    timing_mark(TIMING_ROUNDING);
}

static KERNEL void add_bias(real *restrict y, const real *restrict x, int64_t stride,
                            const real *restrict b, int64_t rows, int64_t H)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < H; j++)
            y[i * H + j] = x[i * stride + j] + b[j];
}

void dense_triple_forward(const struct dense *d, const struct mixed_rows y[3], struct operand x,
                          const struct dense_triple *t, int64_t H)
{
    real *sum = d->room->sum;
    if (d->room->amx) {
        for (int i = 0; i < 3; i++) {
            struct amx_rows to = {y[i].half, H, weights_at(d->w, t->bias[i])};
            gemm_amx((struct gemm_amx_result){rows_finish, &to}, amx_operand(x, H, false),
                     amx_weight(d, t->weight[i], H, true), d->N, H, H);
        }
        timing_mark(TIMING_PRODUCTS);
        return;
    }
    if (in_bf16(d)) {
        round_weights(d, t, H);
        gemm_forward_bf16(sum, x.rounded, d->room->w, d->N, H, 3 * H);
        timing_mark(TIMING_PRODUCTS);
        for (int i = 0; i < 3; i++)
            add_bias(y[i].full, sum + i * H, 3 * H, weights_at(d->w, t->bias[i]), d->N, H);
        timing_mark(TIMING_ROUNDING);
        return;
    }
    struct gemm_layer layer[3];
    for (int i = 0; i < 3; i++)
        layer[i] = (struct gemm_layer){.y = y[i].full,
                                       .w = weights_at(d->w, t->weight[i]),
                                       .bias = weights_at(d->w, t->bias[i]),
                                       .out = H};
    gemm_forward_layers(layer, 3, x.at, d->N, H);
    timing_mark(TIMING_PRODUCTS);
}

/* Rows of dy side by side in bf16, and their sums in float. */
static struct operand round_gradients(const struct dense *d, const struct mixed_rows dy[3],
                                      int64_t H)
{
    for (int64_t row = 0; row < d->N; row++)
        for (int i = 0; i < 3; i++)
            bf16_round(d->room->a + (3 * row + i) * H, dy[i].full + row * H, H);
    timing_mark(TIMING_ROUNDING);
    return (struct operand){NULL, d->room->a, false};
}

static void triple_backward_bf16(const struct dense *d, real *dx, const struct mixed_rows dy[3],
                                 struct operand x, const struct dense_triple *t, int64_t H)
{
    struct operand all = round_gradients(d, dy, H);
    real *sum = d->room->sum;
    bool any = false;
    for (int i = 0; i < 3; i++)
        any |= weights_trains(d->w, t->weight[i]);
    if (any)
        gemm_backward_weight_bf16(sum, all.rounded, x.rounded, d->N, H, 3 * H);
    timing_mark(TIMING_PRODUCTS);
    for (int i = 0; i < 3; i++) {
        real *gradient = weights_gradient(d->w, t->weight[i]);
        if (gradient && d->w->fresh)
            memcpy(gradient, sum + i * H * H, (size_t)(H * H) * sizeof *sum);
        else if (gradient)
            add(gradient, sum + i * H * H, H * H);
    }
    timing_mark(TIMING_ROUNDING);
    if (!dx)
        return;
    round_weights(d, t, H);
    gemm_backward_input_bf16(dx, true, all.rounded, d->room->w, d->N, H, 3 * H);
    timing_mark(TIMING_PRODUCTS);
}

void dense_triple_backward(const struct dense *d, real *dx, const struct mixed_rows dy[3],
                           struct operand x, const struct dense_triple *t, int64_t H)
{
    for (int i = 0; i < 3; i++) {
        real *db = weights_gradient(d->w, t->bias[i]);
        for (int64_t row = 0; db && row < d->N; row++) {
            if (dy[i].half)
                add_half(db, dy[i].half + row * H, H);
            else
                add(db, dy[i].full + row * H, H);
        }
    }
    timing_mark(TIMING_OTHER);
    if (in_bf16(d)) {
        triple_backward_bf16(d, dx, dy, x, t, H);
        return;
    }
    for (int i = 0; i < 3; i++) {
        struct operand dyo = dense_rows_operand(d, dy[i], H, d->room->a);
        dense_backward_weight(d, t->weight[i], dyo, x, H, H);
        if (dx)
            dense_backward_input(d, dx, true, dyo, t->weight[i], H, H);
    }
}
