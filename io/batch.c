/* See batch.h. */
#include "io/batch.h"

#include <string.h>

#include "comm/base/memory.h"

mt_status batch_create(struct batch *b, int32_t sentence_capacity, int32_t token_capacity,
                       int32_t task_count)
{
    memset(b, 0, sizeof *b);
    b->sentence_capacity = sentence_capacity;
    b->token_capacity = token_capacity;
    b->task_count = task_count;
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&b->ids, token_capacity, sizeof *b->ids, "token ids"), done);
    MT_TRY_GOTO(st, mt_alloc(&b->types, token_capacity, sizeof *b->types, "token types"), done);
    MT_TRY_GOTO(st, mt_alloc(&b->offsets, sentence_capacity + 1, sizeof *b->offsets, "offsets"),
                done);
    MT_TRY_GOTO(st, mt_alloc(&b->sample, sentence_capacity, sizeof *b->sample, "sample ids"), done);
    MT_TRY_GOTO(
        st,
        mt_alloc(&b->labels, (int64_t)sentence_capacity * task_count, sizeof *b->labels, "labels"),
        done);
done:
    if (st != MT_OK)
        batch_destroy(b);
    return st;
}

void batch_destroy(struct batch *b)
{
    mt_free(&b->ids);
    mt_free(&b->types);
    mt_free(&b->offsets);
    mt_free(&b->sample);
    mt_free(&b->labels);
    memset(b, 0, sizeof *b);
}

struct batch batch_slice(const struct batch *b, int32_t first, int32_t count)
{
    struct batch s = *b;
    s.B = count;
    s.N = b->offsets[first + count] - b->offsets[first];
    s.ids = b->ids + b->offsets[first];
    s.types = b->types + b->offsets[first];
    s.offsets = b->offsets + first;
    s.sample = b->sample + first;
    s.labels = b->labels + first; /* task t is at t * sentence_capacity from here, as before */
    return s;
}
