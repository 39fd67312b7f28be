/* See apply.h. */
#include "trainer/apply.h"

#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "comm/pool.h"
#include "io/tokenizer.h"
#include "trainer/lines.h"

enum { BLOCKS_PER_THREAD = 4, MICRO_TOKENS = 4096, STRETCH_BYTES_MAX = 64 << 20 };

struct worker {
    struct tokenizer *tokenizer;
    struct pass *pass;
    struct batch batch;
};

struct apply {
    struct apply_setup setup;
    int32_t width, micro_tokens;
    struct pool *pool;
    struct worker *worker;
    struct lines *lines;   /* rank 0 */
    int32_t stretch_lines; /* at most */
    bool ended;

    char *text; /* the stretch: every line with a NUL behind it */
    int64_t text_capacity;
    int32_t count;
    const char **line;   /* [stretch_lines] */
    int64_t *line_bytes; /* [stretch_lines] */
    float *result;       /* [stretch_lines, width]: this rank's blocks, packed */
    float *ordered;      /* [stretch_lines, width] rank 0 */
    int64_t *offsets;    /* [ranks + 1] */
};

int32_t apply_width(const struct apply_setup *setup)
{
    int32_t width = 0;
    if (setup->output == APPLY_POOLED)
        return setup->model->config.hidden_size;
    for (int32_t t = 0; t < setup->model->task_count; t++)
        width += setup->model->task[t].classes;
    return width;
}

static mt_status create_worker(const struct apply *a, struct worker *w)
{
    const struct model *m = a->setup.model;
    MT_TRY(tokenizer_create(&w->tokenizer, a->setup.vocab, NULL));
    MT_TRY(pass_create(&w->pass, m, a->micro_tokens, APPLY_BLOCK, m->config.num_hidden_layers + 2));
    return batch_create(&w->batch, APPLY_BLOCK, a->micro_tokens, m->task_count);
}

static mt_status create(struct apply *a, const struct apply_setup *setup)
{
    const struct comm *world = setup->world;
    memset(a, 0, sizeof *a);
    a->setup = *setup;
    a->width = apply_width(setup);
    a->micro_tokens = setup->max_tokens > MICRO_TOKENS ? setup->max_tokens : MICRO_TOKENS;
    a->stretch_lines = world->size * setup->threads * BLOCKS_PER_THREAD * APPLY_BLOCK;
    MT_TRY(pool_create(&a->pool, setup->threads));
    MT_TRY(mt_alloc(&a->worker, setup->threads, sizeof *a->worker, "workers"));
    for (int32_t i = 0; i < setup->threads; i++)
        MT_TRY(create_worker(a, &a->worker[i]));
    MT_TRY(mt_alloc(&a->line, a->stretch_lines, sizeof *a->line, "lines"));
    MT_TRY(mt_alloc(&a->line_bytes, a->stretch_lines, sizeof *a->line_bytes, "lines"));
    MT_TRY(mt_alloc(&a->result, (int64_t)a->stretch_lines * a->width, sizeof(float), "results"));
    MT_TRY(mt_alloc(&a->offsets, world->size + 1, sizeof *a->offsets, "offsets"));
    if (world->rank != 0)
        return MT_OK;
    MT_TRY(mt_alloc(&a->ordered, (int64_t)a->stretch_lines * a->width, sizeof(float), "results"));
    return lines_open(&a->lines, setup->path);
}

static void release(struct apply *a)
{
    for (int32_t i = 0; a->worker != NULL && i < a->setup.threads; i++) {
        tokenizer_destroy(&a->worker[i].tokenizer);
        pass_destroy(&a->worker[i].pass);
        batch_destroy(&a->worker[i].batch);
    }
    pool_destroy(&a->pool);
    lines_close(&a->lines);
    mt_free(&a->worker);
    mt_free(&a->text);
    mt_free(&a->line);
    mt_free(&a->line_bytes);
    mt_free(&a->result);
    mt_free(&a->ordered);
    mt_free(&a->offsets);
}

static mt_status append_line(struct apply *a, int64_t *used, const char *line, int64_t bytes)
{
    if (*used + bytes + 1 > a->text_capacity) {
        int64_t grown = 2 * a->text_capacity + bytes + 4096;
        MT_TRY(mt_grow(&a->text, a->text_capacity, grown, 1, "a stretch of lines"));
        a->text_capacity = grown;
    }
    memcpy(a->text + *used, line, (size_t)bytes);
    a->text[*used + bytes] = '\0';
    *used += bytes + 1;
    return MT_OK;
}

/* Root.  Reads the next stretch; NUL bytes within a line end it there. */
static mt_status read_stretch(struct apply *a, int64_t *used)
{
    *used = 0;
    for (int32_t i = 0; i < a->stretch_lines && *used < STRETCH_BYTES_MAX; i++) {
        const char *line;
        int64_t bytes;
        MT_TRY(lines_next(a->lines, &line, &bytes));
        if (line == NULL) {
            a->ended = true;
            return MT_OK;
        }
        MT_TRY(append_line(a, used, line, (int64_t)strlen(line)));
    }
    return MT_OK;
}

/* Collective.  The next stretch on every rank. */
static mt_status share_stretch(struct apply *a)
{
    const struct comm *world = a->setup.world;
    int64_t used = 0;
    if (world->rank != 0) {
        mt_free(&a->text);
        a->text_capacity = 0;
    }
    MT_ALL(world, world->rank == 0 ? read_stretch(a, &used) : MT_OK);
    void *blob = a->text;
    mt_status st = comm_broadcast_blob(world, &blob, &used, 0);
    a->text = blob;
    MT_TRY(st);
    a->count = 0;
    for (int64_t at = 0; at < used;) {
        a->line[a->count] = a->text + at;
        a->line_bytes[a->count] = (int64_t)strlen(a->text + at);
        at += a->line_bytes[a->count++] + 1;
    }
    return MT_OK;
}

static void store_results(const struct apply *a, const struct worker *w, float *out)
{
    const struct model *m = a->setup.model;
    if (a->setup.output == APPLY_POOLED) {
        memcpy(out, pass_pooled(w->pass), (size_t)w->batch.B * (size_t)a->width * sizeof *out);
        return;
    }
    for (int32_t b = 0; b < w->batch.B; b++) {
        for (int32_t t = 0; t < m->task_count; t++) {
            int32_t classes = m->task[t].classes;
            memcpy(out, pass_logits(w->pass, t) + (int64_t)b * classes,
                   (size_t)classes * sizeof *out);
            out += classes;
        }
    }
}

static mt_status compute_slice(const struct apply *a, struct worker *w, float *out)
{
    struct pass_plan plan = {.train_from = a->setup.model->config.num_hidden_layers + 2};
    if (w->batch.B == 0)
        return MT_OK;
    pass_forward(w->pass, a->setup.params, &w->batch, &plan, NULL);
    store_results(a, w, out);
    w->batch.B = w->batch.N = 0;
    return MT_OK;
}

static mt_status apply_block(void *context, int32_t index, int32_t worker)
{
    struct apply *a = context;
    struct worker *w = &a->worker[worker];
    struct batch *b = &w->batch;
    int32_t block = index * a->setup.world->size + a->setup.world->rank;
    int32_t first = block * APPLY_BLOCK, end = first + APPLY_BLOCK;
    float *out = a->result + (int64_t)index * APPLY_BLOCK * a->width;
    end = end < a->count ? end : a->count;
    b->B = b->N = 0;
    b->offsets[0] = 0;
    for (int32_t i = first; i < end; i++) {
        struct encoding e;
        MT_TRY(tokenizer_encode(w->tokenizer, a->line[i], a->line_bytes[i], NULL, 0,
                                a->setup.max_tokens, &e));
        if (b->N + e.count > a->micro_tokens) {
            int32_t done = b->B;
            MT_TRY(compute_slice(a, w, out));
            out += (int64_t)done * a->width;
        }
        memcpy(b->ids + b->N, e.ids, (size_t)e.count * sizeof *b->ids);
        memcpy(b->types + b->N, e.types, (size_t)e.count * sizeof *b->types);
        b->sample[b->B] = i;
        b->N += e.count;
        b->offsets[++b->B] = b->N;
    }
    return compute_slice(a, w, out);
}

static int32_t blocks_of(const struct apply *a, int32_t rank)
{
    int32_t blocks = (a->count + APPLY_BLOCK - 1) / APPLY_BLOCK;
    return blocks > rank ? (blocks - rank - 1) / a->setup.world->size + 1 : 0;
}

/* Root.  Puts the blocks of all ranks back into the order of the lines. */
static void order_results(struct apply *a, const float *gathered)
{
    int32_t size = a->setup.world->size;
    for (int32_t rank = 0; rank < size; rank++) {
        const float *from = gathered + a->offsets[rank] / (int64_t)sizeof *from;
        for (int32_t i = 0; i < blocks_of(a, rank); i++) {
            int32_t first = (i * size + rank) * APPLY_BLOCK;
            int32_t rows = a->count - first < APPLY_BLOCK ? a->count - first : APPLY_BLOCK;
            memcpy(a->ordered + (int64_t)first * a->width, from,
                   (size_t)rows * (size_t)a->width * sizeof *from);
            from += (int64_t)rows * a->width;
        }
    }
}

static int64_t rows_of(const struct apply *a, int32_t rank)
{
    int32_t blocks = blocks_of(a, rank);
    if (blocks == 0)
        return 0;
    int32_t last = ((blocks - 1) * a->setup.world->size + rank) * APPLY_BLOCK;
    int32_t tail = a->count - last < APPLY_BLOCK ? a->count - last : APPLY_BLOCK;
    return (int64_t)(blocks - 1) * APPLY_BLOCK + tail;
}

static mt_status run_stretch(struct apply *a, int64_t first, apply_consume consume, void *context)
{
    const struct comm *world = a->setup.world;
    void *gathered = NULL;
    MT_ALL(world, pool_run(a->pool, apply_block, a, blocks_of(a, world->rank)));
    int64_t bytes = rows_of(a, world->rank) * a->width * (int64_t)sizeof(float);
    MT_TRY(comm_gatherv(world, a->result, bytes, &gathered, a->offsets, 0));
    mt_status st = MT_OK;
    if (world->rank == 0) {
        order_results(a, gathered);
        st = consume(context, first, a->count, a->line, a->ordered);
    }
    mt_free(&gathered);
    return comm_agree(world, st);
}

mt_status apply_run(const struct apply_setup *setup, apply_consume consume, void *context)
{
    struct apply a;
    struct log_progress progress;
    int64_t first = 0;
    mt_status st = comm_agree(setup->world, create(&a, setup));
    progress_begin(&progress, "sentences", "lines", 0);
    while (st == MT_OK) {
        MT_TRY_GOTO(st, share_stretch(&a), done);
        if (a.count == 0)
            break;
        MT_TRY_GOTO(st, run_stretch(&a, first, consume, context), done);
        first += a.count;
        progress_show(&progress, first, setup->total_rows, NULL);
    }
done:
    progress_end(&progress);
    release(&a);
    return st;
}
