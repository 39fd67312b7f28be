/*
 * bench: what the machine can do at most, and how near a training step comes to it.
 *
 * Each part measures, prints a table on rank 0 and, where bench.json is not NULL, adds its numbers
 * to the open JSON object.  Peaks are measured on all ranks at the same time and added up.
 */
#ifndef MT_TRAINER_BENCH_H
#define MT_TRAINER_BENCH_H

#include "comm/reduce.h"
#include "io/json.h"
#include "trainer/model/model.h"

struct bench {
    const struct comm *world;
    struct bert_config config;
    int32_t tokens; /* of every sentence; 0 = lengths like SST-2's */
    int32_t sentences, steps, micro_tokens;
    bool recompute;
    int32_t lanes; /* of a step: ranks rounded up to a power of two, so that a rank has few */
    enum model_precision precision;
    const char *products; /* library of fp32 products, as gemm_choose takes it */
    const char *train;    /* pattern, see schedules/pattern.h; "none" = embeddings only */
    double peak[2];       /* operations/s of all ranks, by enum model_precision; 0 = unknown */
    double peak_split;    /* of fp32 products by AMX: a sixth of its bf16 ones; 0 = no AMX */
    const char *trace;    /* file of the steps' trace, NULL = none */
    int64_t trace_first, trace_last;
    enum reduce_mode reduction; /* of part step; part comm compares all settings */
    bool dense_rows;            /* every row of the word embeddings is reduced */
    int64_t bucket_elements;    /* 0 = chosen */
    int32_t wire_groups;        /* 0 = fp32 on the wire; reducer_options.wire_groups */
    struct json_writer *json;   /* rank 0, NULL = people's tables */
};

/* Collective.  Fused multiply-adds, bf16 products, memory; fills bench->peak and peak_split. */
mt_status bench_peak(struct bench *b) MT_CHECKED;

/* Collective.  Operations/s of all ranks at the clock that products leave the processor: measured
 * for a millisecond at the end of some.  bench->peak is what it reaches where registers alone are
 * busy, for which it takes a higher clock. */
mt_status bench_peak_loaded(const struct bench *b, double *rate) MT_CHECKED;

/* Collective.  The products of an encoder layer by every library and precision there is. */
mt_status bench_gemm(struct bench *b) MT_CHECKED;

/* Collective.  Whole steps over synthetic sentences: lanes, reduction, clipping, AdamW; or forward
 * alone where nothing is trained.  Measures the peak first where it is not known. */
mt_status bench_step(struct bench *b) MT_CHECKED;

/* Collective.  The reduction of all gradients, exact and by MPI, by bucket size. */
mt_status bench_comm(struct bench *b) MT_CHECKED;

/* Local.  A matrix of numbers that are not small, and the same in bf16.  Owns: the caller, mt_free
 * of both, also after a failure.  Errors: NOMEM. */
mt_status bench_matrix(float **full, uint16_t **half, int64_t count) MT_CHECKED;

/* Local.  Whether this rank prints for people; a line of a table where it does. */
bool bench_prints(const struct bench *b);
void bench_line(const struct bench *b, const char *format, ...) MT_PRINTF(2, 3);

/* Local.  The median; sorts values[count], count >= 1. */
double bench_median(double *values, int32_t count);

#endif
