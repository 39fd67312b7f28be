/* The kernels of attention, each width of vectors, against a naive one in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/rng.h"
#include "trainer/model/attention.h"
#include "trainer/model/attention_head.h"
#include "trainer/model/bf16.h"
#include "trainer/model/gemm_amx.h"

enum { PARTS = 9, KERNELS = 4 };
enum part { Q, K, V, DC, CONTEXT, DQ, DK, DV, ROWS };

/* One sentence: inputs, and what a kernel answers. */
struct problem {
    int64_t T, A, D, sample;
    struct dropout drop;
    float *part[PARTS]; /* [T,A,D]; ROWS is [2][T,A] */
};

static float normal(uint64_t stream, int64_t i)
{
    return (float)rng_normal(rng_key(17, RNG_TEST, 0), stream, (uint64_t)i);
}

static struct problem problem_make(int64_t T, int64_t A, int64_t D, double rate)
{
    struct problem p = {.T = T, .A = A, .D = D, .sample = 1000 + T};
    p.drop = dropout_make(rate, rng_key(3, RNG_DROPOUT, 1), 2, DROPOUT_ATTENTION);
    for (int i = 0; i < PARTS; i++) {
        p.part[i] = calloc((size_t)(T * A * (D > 2 ? D : 2)), sizeof(float));
        for (int64_t j = 0; i <= DC && j < T * A * D; j++)
            p.part[i][j] = normal((uint64_t)(i + 1), j) * (i == Q ? 2.0f : 1.0f);
    }
    return p;
}

static void problem_free(struct problem *p)
{
    for (int i = 0; i < PARTS; i++)
        free(p->part[i]);
}

/* Those of AMX from and to float: rows of a head rounded, side by side, and back. */
struct halves {
    struct attention_head head;
    uint16_t *part[PARTS];
};

static void round_rows(const struct attention_head *h, uint16_t *to, const float *from)
{
    for (int64_t t = 0; t < h->T; t++)
        bf16_round(to + t * h->D, from + t * h->H, h->D);
}

static void read_rows(const struct attention_head *h, float *to, const uint16_t *from)
{
    for (int64_t t = 0; t < h->T; t++)
        for (int64_t j = 0; j < h->D; j++)
            to[t * h->H + j] = bf16_value(from[t * h->D + j]);
}

static struct halves halves_of(const struct attention_head *h)
{
    struct halves x = {.head = *h};
    const float *from[] = {h->q, h->k, h->v};
    x.head.H = h->D;
    x.head.next = 0;
    for (int i = 0; i < PARTS; i++)
        x.part[i] = calloc((size_t)(h->T * h->D), sizeof *x.part[i]);
    for (int i = 0; i < 3; i++) {
        round_rows(h, x.part[i], from[i]);
        x.head.half[i] = x.part[i];
    }
    return x;
}

static void free_halves(struct halves *x)
{
    for (int i = 0; i < PARTS; i++)
        free(x->part[i]);
}

static void amx_forward(const struct attention_head *h, float *context)
{
    struct halves x = halves_of(h);
    attention_amx_forward(&x.head, x.part[CONTEXT]);
    read_rows(h, context, x.part[CONTEXT]);
    free_halves(&x);
}

static void amx_backward(const struct attention_head *h, const float *context, float *d, float *dk,
                         float *dv)
{
    struct halves x = halves_of(h);
    round_rows(h, x.part[CONTEXT], context);
    round_rows(h, x.part[DQ], d);
    attention_amx_backward(&x.head, x.part[CONTEXT], x.part[DQ], x.part[DK], x.part[DV]);
    read_rows(h, d, x.part[DQ]);
    read_rows(h, dk, x.part[DK]);
    read_rows(h, dv, x.part[DV]);
    free_halves(&x);
}

static const struct attention_kernels amx_kernels = {"amx", amx_forward, amx_backward};

/* Every head by one table of kernels. */
static void run(struct problem *p, const struct attention_kernels *kernels)
{
    int64_t H = p->A * p->D;
    float *room = aligned_alloc(64, ((size_t)attention_head_room(p->T, p->D) * 4 + 63) / 64 * 64);
    memset(room, 0xff, (size_t)attention_head_room(p->T, p->D) * 4); /* NaN */
    memcpy(p->part[DQ], p->part[DC], (size_t)(p->T * H) * sizeof(float));
    for (int64_t h = 0; h < p->A; h++) {
        int64_t at = h * p->D;
        struct attention_head head = {.T = p->T,
                                      .D = p->D,
                                      .H = H,
                                      .A = p->A,
                                      .q = p->part[Q] + at,
                                      .k = p->part[K] + at,
                                      .v = p->part[V] + at,
                                      .row_max = p->part[ROWS] + h,
                                      .row_scale = p->part[ROWS] + p->T * p->A + h,
                                      .drop = &p->drop,
                                      .sample = p->sample,
                                      .first = h * p->T * p->T,
                                      .next = p->D,
                                      .scale = 1 / sqrtf((float)p->D),
                                      .room = room};
        kernels->forward(&head, p->part[CONTEXT] + at);
        kernels->backward(&head, p->part[CONTEXT] + at, p->part[DQ] + at, p->part[DK] + at,
                          p->part[DV] + at);
    }
    free(room);
}

/* The mask of one element, by the definition in dropout.h. */
static double mask_of(const struct problem *p, int64_t element)
{
    if (p->drop.threshold == 0)
        return 1;
    struct rng_block b =
        rng_philox(p->drop.key, (uint32_t)(element / 8), p->drop.site, (uint32_t)p->sample, 0);
    int lane = (int)(element % 8);
    uint16_t value = (uint16_t)(b.v[lane / 2] >> (lane % 2 * 16));
    return value < p->drop.threshold ? 0 : 65536.0 / (65536.0 - p->drop.threshold);
}

static double row_product(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* One query of one head: its context, its dq, and its share of dk and dv. */
static void naive_query(const struct problem *p, int64_t h, int64_t i, double *to[PARTS],
                        double *square)
{
    int64_t T = p->T, D = p->D, H = p->A * D, own = i * H + h * D;
    double *prob = square, *mask = square + T, *dp = square + 2 * T, max = -1e300, sum = 0,
           mean = 0;
    for (int64_t j = 0; j < T; j++) {
        int64_t other = j * H + h * D;
        prob[j] = row_product(p->part[Q] + own, p->part[K] + other, D) / sqrt((double)D);
        mask[j] = mask_of(p, (h * T + i) * T + j);
        dp[j] = row_product(p->part[DC] + own, p->part[V] + other, D) * mask[j];
        max = fmax(max, prob[j]);
    }
    for (int64_t j = 0; j < T; j++)
        sum += prob[j] = exp(prob[j] - max);
    for (int64_t j = 0; j < T; j++)
        mean += (prob[j] /= sum) * dp[j];
    for (int64_t j = 0; j < T; j++) {
        double ds = prob[j] * (dp[j] - mean) / sqrt((double)D), pm = prob[j] * mask[j];
        for (int64_t c = 0; c < D; c++) {
            int64_t other = j * H + h * D + c;
            to[CONTEXT][own + c] += pm * (double)p->part[V][other];
            to[DV][other] += pm * (double)p->part[DC][own + c];
            to[DQ][own + c] += ds * (double)p->part[K][other];
            to[DK][other] += ds * (double)p->part[Q][own + c];
        }
    }
}

static void naive(const struct problem *p, double *to[PARTS])
{
    int64_t count = p->T * p->A * p->D;
    double *square = malloc((size_t)(3 * p->T) * sizeof *square);
    for (int part = CONTEXT; part <= DV; part++)
        to[part] = calloc((size_t)count, sizeof(double));
    for (int64_t h = 0; h < p->A; h++)
        for (int64_t i = 0; i < p->T; i++)
            naive_query(p, h, i, to, square);
    free(square);
}

/* The largest error, in units of the largest element. */
static double error_of(const float *got, const double *expected, int64_t count)
{
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        double error = fabs((double)got[i] - expected[i]);
        worst = error > worst || isnan(error) ? error : worst;
        largest = fmax(largest, fabs(expected[i]));
    }
    return largest > 0 ? worst / largest : worst;
}

static int kernels_here(const struct attention_kernels *all[KERNELS])
{
    const struct attention_kernels *best = attention_kernels_best();
    int count = 0;
    all[count++] = best;
    if (best == attention_kernels_avx512() && attention_kernels_avx2())
        all[count++] = attention_kernels_avx2();
    if (best != attention_kernels_plain())
        all[count++] = attention_kernels_plain();
    if (gemm_amx_has())
        all[count++] = &amx_kernels;
    return count;
}

/* Operands of 8 bits: scores up to 8 are wrong by 1/64 at most, so are the probabilities, and with
 * few tokens what is left of their differences is smaller than they are. */
static const double BF16_ERROR = 0.05;

static void check(int64_t T, int64_t A, int64_t D, double rate)
{
    struct problem p = problem_make(T, A, D, rate);
    const struct attention_kernels *all[KERNELS];
    double *expected[PARTS] = {NULL};
    float *first[PARTS] = {NULL};
    int64_t count = T * A * D;
    naive(&p, expected);
    for (int n = kernels_here(all), k = 0; k < n; k++) {
        run(&p, all[k]);
        for (int part = CONTEXT; part <= DV; part++) {
            /* With one token a probability is one and has no slope: dq and dk are noise. */
            bool none = T == 1 && (part == DQ || part == DK);
            double error = error_of(p.part[part], expected[part], none ? 0 : count);
            if (!(error < (all[k] == &amx_kernels ? BF16_ERROR : 3e-6)))
                fail_msg("%s: T %ld A %ld D %ld p %g part %d: error %g", all[k]->name, (long)T,
                         (long)A, (long)D, rate, part, error);
            if (k == 0) {
                first[part] = malloc((size_t)count * sizeof(float));
                memcpy(first[part], p.part[part], (size_t)count * sizeof(float));
            } else if (all[k] == attention_kernels_avx2()) {
                assert_memory_equal(first[part], p.part[part], (size_t)count * sizeof(float));
            }
        }
    }
    for (int part = 0; part < PARTS; part++) {
        free(first[part]);
        free(expected[part]);
    }
    problem_free(&p);
}

static void kernels_agree_with_the_definition(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 2, 3, 4, 7, 15, 16, 17, 31, 32, 33, 64, 66, 127, 128, 200};
    static const int64_t columns[] = {64, 5, 16, 1, 40};
    for (size_t t = 0; t < sizeof lengths / sizeof *lengths; t++)
        for (size_t d = 0; d < sizeof columns / sizeof *columns; d++)
            check(lengths[t], 2, columns[d], d % 2 ? 0.25 : 0);
    check(512, 1, 64, 0);
}

static void kernels_drop_what_the_masks_say(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 2, 3, 15, 16, 17, 31, 49, 64, 127, 128, 200, 512};
    for (size_t t = 0; t < sizeof lengths / sizeof *lengths; t++)
        check(lengths[t], lengths[t] < 200 ? 3 : 1, 64, 0.1);
    check(23, 12, 33, 0.5);
}

static struct batch batch_of(const int32_t *lengths, int32_t count)
{
    struct batch b;
    int32_t N = 0;
    for (int32_t s = 0; s < count; s++)
        N += lengths[s];
    assert_int_equal(batch_create(&b, count, N, 0), MT_OK);
    b.B = count;
    b.N = N;
    for (int32_t s = 0; s < count; s++) {
        b.offsets[s + 1] = b.offsets[s] + lengths[s];
        b.sample[s] = 50 + s;
    }
    return b;
}

/* q, k, v, dC in, context, dq, dk, dv out: eight blocks [N,H] in float, or in bf16. */
static struct mixed_rows block_of(void *blocks, bool half, int64_t at)
{
    return half ? (struct mixed_rows){NULL, (uint16_t *)blocks + at}
                : (struct mixed_rows){(float *)blocks + at, NULL};
}

static void run_batch(const struct batch *b, bool half, int64_t A, int64_t D, void *blocks,
                      int64_t n)
{
    float *rows = malloc((size_t)(2 * b->N * A) * sizeof *rows);
    float *room = malloc((size_t)attention_room_plan(140, D) * sizeof *room);
    struct mixed_rows x[8];
    for (int i = 0; i < 8; i++)
        x[i] = block_of(blocks, half, i * n);
    struct attention a = {.A = A,
                          .D = D,
                          .drop = dropout_make(0.1, 99, 3, DROPOUT_ATTENTION),
                          .batch = b,
                          .q = x[0],
                          .k = x[1],
                          .v = x[2],
                          .row_max = rows,
                          .row_scale = rows + b->N * A,
                          .room = room};
    attention_forward(&a, x[4]);
    if (half)
        memcpy(x[5].half, x[3].half, (size_t)n * sizeof *x[5].half);
    else
        memcpy(x[5].full, x[3].full, (size_t)n * sizeof *x[5].full);
    attention_backward(&a, x[4], x[5], x[6], x[7]);
    free(rows);
    free(room);
}

static void check_bits_in_any_batch(bool half)
{
    enum { A = 3, D = 24, H = A * D, SENTENCES = 6 };
    static const int32_t lengths[SENTENCES] = {7, 128, 1, 33, 140, 12};
    struct batch whole = batch_of(lengths, SENTENCES);
    int64_t n = whole.N * H, size = half ? sizeof(uint16_t) : sizeof(float);
    float *values = malloc((size_t)(8 * n) * sizeof *values);
    char *all = malloc((size_t)(8 * n * size));
    for (int64_t i = 0; i < 8 * n; i++)
        values[i] = normal(9, i);
    memcpy(all, values, (size_t)(half ? 0 : 8 * n * size));
    if (half)
        bf16_round((uint16_t *)(void *)all, values, 8 * n);
    run_batch(&whole, half, A, D, all, n);
    for (int32_t skip = 1; skip < SENTENCES; skip++) {
        struct batch part = batch_slice(&whole, skip, SENTENCES - skip);
        int64_t m = part.N * H;
        char *some = malloc((size_t)(8 * m * size));
        for (int block = 0; block < 4; block++)
            memcpy(some + block * m * size, all + ((block + 1) * n - m) * size, (size_t)(m * size));
        run_batch(&part, half, A, D, some, m);
        for (int block = 4; block < 8; block++)
            assert_memory_equal(some + block * m * size, all + ((block + 1) * n - m) * size,
                                (size_t)(m * size));
        free(some);
    }
    batch_destroy(&whole);
    free(values);
    free(all);
}

static void a_sentence_has_its_bits_in_any_batch(void **state)
{
    (void)state;
    check_bits_in_any_batch(false);
    if (gemm_amx_has())
        check_bits_in_any_batch(true);
}

static void scores_far_apart_stay_finite(void **state)
{
    (void)state;
    struct problem p = problem_make(40, 1, 64, 0.1);
    const struct attention_kernels *all[KERNELS];
    for (int64_t i = 0; i < 40 * 64; i++)
        p.part[Q][i] = i / 64 % 2 ? 1e4f * p.part[Q][i] : -80.0f * fabsf(p.part[K][i]);
    for (int n = kernels_here(all), k = 0; k < n; k++) {
        run(&p, all[k]);
        for (int part = CONTEXT; part <= DV; part++)
            for (int64_t i = 0; i < 40 * 64; i++)
                assert_true(isfinite(p.part[part][i]));
    }
    problem_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_agree_with_the_definition),
        cmocka_unit_test(kernels_drop_what_the_masks_say),
        cmocka_unit_test(a_sentence_has_its_bits_in_any_batch),
        cmocka_unit_test(scores_far_apart_stay_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
