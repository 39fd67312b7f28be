/*
 * One head of one sentence at a time, by kernels of our own (attention_body.h): its K, V and a
 * block of scores stay in the second-level cache, with what softmax and dropout do to them.
 *
 * Refused: a library's products (a call costs as much as a product of 64 x 64 x 64, and squares
 * of T x T between them), products batched over heads (copies).
 */
#include "trainer/model/attention.h"

#include "trainer/model/attention_head.h"
#include "trainer/model/vector_math.h"

int64_t attention_head_room(int64_t T, int64_t D)
{
    int64_t Tp = attention_padded(T), Dp = attention_padded(D), block = ATTENTION_BLOCK;
    int64_t lanes = (block * T + DROPOUT_SLACK + ROW_LANES) / 2 + 1;
    int64_t native = 2 * Tp * Dp + 3 * T * Dp + 2 * block * Dp + 2 * block * Tp + lanes;
    int64_t most = T < ATTENTION_BLOCK_AMX ? T : ATTENTION_BLOCK_AMX;
    int64_t amx = 2 * most * Tp + 2 * T * Dp + (most * T + DROPOUT_SLACK + ROW_LANES) / 2 + 1;
    return native > amx ? native : amx;
}

int64_t attention_room_plan(int64_t T, int64_t D)
{
    return attention_head_room(T, D);
}

const struct attention_kernels *attention_kernels_best(void)
{
#if defined(__x86_64__)
    if (attention_kernels_avx512() && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return attention_kernels_avx512();
    if (attention_kernels_avx2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return attention_kernels_avx2();
#endif
    return attention_kernels_plain();
}

/* Where a head's first element lies: in [N,H], and in [N,A]. */
struct place {
    int64_t at, row;
};

static const real *from(const real *x, int64_t at)
{
    return x ? x + at : NULL;
}

static const uint16_t *half_from(const uint16_t *x, int64_t at)
{
    return x ? x + at : NULL;
}

static struct attention_head head_of(const struct attention *a, int32_t s, int64_t h,
                                     struct place *place)
{
    const int32_t *offsets = a->batch->offsets;
    int64_t begin = offsets[s] - offsets[0], T = offsets[s + 1] - offsets[s], H = a->A * a->D;
    *place = (struct place){begin * H + h * a->D, begin * a->A + h};
    return (struct attention_head){.T = T,
                                   .D = a->D,
                                   .H = H,
                                   .A = a->A,
                                   .q = from(a->q.full, place->at),
                                   .k = from(a->k.full, place->at),
                                   .v = from(a->v.full, place->at),
                                   .half = {half_from(a->q.half, place->at),
                                            half_from(a->k.half, place->at),
                                            half_from(a->v.half, place->at)},
                                   .row_max = a->row_max + place->row,
                                   .row_scale = a->row_scale + place->row,
                                   .drop = &a->drop,
                                   .sample = a->batch->sample[s],
                                   .first = h * T * T,
                                   .next = h + 1 < a->A ? a->D : T * H - h * a->D,
                                   .scale = 1 / real_sqrt((real)a->D),
                                   .room = a->room};
}

void attention_forward(const struct attention *a, struct mixed_rows context)
{
    const struct attention_kernels *kernels = attention_kernels_best();
    for (int32_t s = 0; s < a->batch->B; s++) {
        for (int64_t h = 0; h < a->A; h++) {
            struct place p;
            struct attention_head head = head_of(a, s, h, &p);
            if (a->q.half)
                attention_amx_forward(&head, context.half + p.at);
            else
                kernels->forward(&head, context.full + p.at);
        }
    }
}

void attention_backward(const struct attention *a, struct mixed_rows context, struct mixed_rows d,
                        struct mixed_rows dk, struct mixed_rows dv)
{
    const struct attention_kernels *kernels = attention_kernels_best();
    for (int32_t s = 0; s < a->batch->B; s++) {
        for (int64_t h = 0; h < a->A; h++) {
            struct place p;
            struct attention_head head = head_of(a, s, h, &p);
            if (a->q.half)
                attention_amx_backward(&head, context.half + p.at, d.half + p.at, dk.half + p.at,
                                       dv.half + p.at);
            else
                kernels->backward(&head, context.full + p.at, d.full + p.at, dk.full + p.at,
                                  dv.full + p.at);
        }
    }
}
