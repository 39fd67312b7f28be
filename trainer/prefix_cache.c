/*
 * See prefix_cache.h.
 *
 * One mechanism for memory and disk: a mapped file, whose pages the ranks of a host share and the
 * kernel keeps as far as memory allows.  Refused: a copy in anonymous shared memory, which would be
 * lost at every restart and needs the file beside it anyway.
 */
#include "trainer/prefix_cache.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "comm/stop.h"
#include "io/file.h"
#include "io/prefix_file.h"
#include "trainer/model/gemm.h"
#include "trainer/row_blocks.h"
#include "trainer/watchdog.h"

enum { CACHED_SPLITS = 2, ROUND_BLOCKS = 4, PATH_BYTES = 4096 }; /* train and dev */

struct worker {
    struct pass *pass;
    struct batch batch;
    real *input; /* from the lower cache */
    real *output;
    void *scratch;
};

struct prefix_cache {
    struct prefix_setup setup;
    struct prefix_layout layout;
    struct prefix_file *file;
    int64_t *row_first[CACHED_SPLITS][JOB_DATA_MAX]; /* [rows+1] first element of each row */
    struct row_block *block;
    enum split *block_split;
    int64_t *block_first; /* [blocks+1] elements */
    struct worker *worker;
    int32_t threads, max_tokens;
    double fill_s;
    int64_t sentences;
    char path[PATH_BYTES];
};

struct fill_round {
    struct prefix_cache *cache;
    int64_t first; /* among this rank's blocks */
};

static const struct dataset *set_of(const struct prefix_setup *s, int32_t split, int32_t set)
{
    return s->used[set] ? s->corpora->set[split][set] : NULL;
}

static bool is_pooled(const struct prefix_setup *s)
{
    return s->depth == s->model->config.num_hidden_layers + 1;
}

static int64_t elements_of(const struct prefix_setup *s, const struct dataset *d)
{
    int64_t vectors = is_pooled(s) ? dataset_rows(d) : dataset_tokens(d);
    return vectors * s->model->config.hidden_size;
}

int64_t prefix_cache_bytes(const struct prefix_setup *setup)
{
    struct prefix_layout layout = {.bf16 = setup->bf16};
    for (int32_t split = 0; split < CACHED_SPLITS; split++) {
        for (int32_t set = 0; set < setup->corpora->set_count; set++) {
            const struct dataset *d = set_of(setup, split, set);
            if (d == NULL)
                continue;
            layout.elements += elements_of(setup, d);
            layout.blocks += row_blocks_cut(d, set, NULL);
        }
    }
    return prefix_file_bytes(&layout);
}

/* Where every row and block lies. */
static mt_status lay_out(struct prefix_cache *c)
{
    const struct prefix_setup *s = &c->setup;
    int64_t hidden = s->model->config.hidden_size, at = 0, block = 0;
    for (int32_t split = 0; split < CACHED_SPLITS; split++)
        for (int32_t set = 0; set < s->corpora->set_count; set++)
            if (set_of(s, split, set) != NULL)
                c->layout.blocks += row_blocks_cut(set_of(s, split, set), set, NULL);
    MT_TRY(mt_alloc(&c->block, c->layout.blocks, sizeof *c->block, "cache blocks"));
    MT_TRY(mt_alloc(&c->block_split, c->layout.blocks, sizeof *c->block_split, "cache blocks"));
    MT_TRY(mt_alloc(&c->block_first, c->layout.blocks + 1, sizeof(int64_t), "cache blocks"));
    for (int32_t split = 0; split < CACHED_SPLITS; split++) {
        for (int32_t set = 0; set < s->corpora->set_count; set++) {
            const struct dataset *d = set_of(s, split, set);
            if (d == NULL)
                continue;
            int64_t rows = dataset_rows(d), count = row_blocks_cut(d, set, c->block + block);
            int64_t *first;
            MT_TRY(mt_alloc(&first, rows + 1, sizeof *first, "cache rows"));
            c->row_first[split][set] = first;
            for (int64_t row = 0; row < rows; row++) {
                first[row] = at;
                at += hidden * (is_pooled(s) ? 1 : dataset_length(d, row));
            }
            first[rows] = at;
            for (int64_t i = 0; i < count; i++) {
                c->block_split[block + i] = (enum split)split;
                c->block_first[block + i] = first[c->block[block + i].first_row];
            }
            block += count;
            c->sentences += rows;
            int32_t tokens = row_blocks_max_tokens(d);
            c->max_tokens = tokens > c->max_tokens ? tokens : c->max_tokens;
        }
    }
    c->block_first[block] = at;
    c->layout.first = c->block_first;
    c->layout.elements = at;
    c->layout.bf16 = s->bf16;
    return MT_OK;
}

/* A hash of all that the content depends on. */
static mt_status make_key(struct prefix_cache *c)
{
    const struct prefix_setup *s = &c->setup;
    const struct tensor_table *table = &s->model->table;
    struct hash64 h;
    hash64_init(&h, 0);
    hash64_add_int(&h, s->depth);
    hash64_add_int(&h, is_pooled(s) ? (int64_t)s->model->pooling : -1);
    hash64_add_int(&h, ROW_BLOCK_SENTENCES);
    hash64_add_int(&h, ROW_BLOCK_TOKENS);
    hash64_add_string(&h, gemm_identity());
    hash64_add_string(&h, s->model->precision == MODEL_BF16 ? gemm_chosen_bf16() : "fp32");
    bert_config_hash(&s->model->config, &h);
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *e = &table->entry[i];
        if (e->depth < s->depth)
            hash64_add(&h, s->params + e->offset, e->count * (int64_t)sizeof(float));
    }
    for (int32_t split = 0; split < CACHED_SPLITS; split++) {
        for (int32_t set = 0; set < s->corpora->set_count; set++) {
            uint64_t content = 0;
            if (set_of(s, split, set) != NULL)
                MT_TRY(corpora_set_hash(set_of(s, split, set), &content));
            hash64_add_int(&h, (int64_t)content);
        }
    }
    c->layout.key = hash64_value(&h);
    return MT_OK;
}

static mt_status create_workers(struct prefix_cache *c)
{
    const struct model *m = c->setup.model;
    int64_t most = (int64_t)c->max_tokens * m->config.hidden_size;
    c->threads = pool_threads(c->setup.pool);
    MT_TRY(mt_alloc(&c->worker, c->threads, sizeof *c->worker, "cache workers"));
    for (int32_t i = 0; i < c->threads; i++) {
        struct worker *w = &c->worker[i];
        MT_TRY(pass_create(&w->pass, m, c->max_tokens, ROW_BLOCK_SENTENCES,
                           m->config.num_hidden_layers + 2));
        MT_TRY(batch_create(&w->batch, ROW_BLOCK_SENTENCES, c->max_tokens, m->task_count));
        MT_TRY(mt_alloc(&w->input, most, sizeof(real), "cache input"));
        MT_TRY(mt_alloc(&w->output, most, sizeof(real), "cache output"));
        MT_TRY(mt_alloc(&w->scratch, most, sizeof(real), "cache output"));
    }
    return MT_OK;
}

static void release_workers(struct prefix_cache *c)
{
    for (int32_t i = 0; c->worker != NULL && i < c->threads; i++) {
        struct worker *w = &c->worker[i];
        pass_destroy(&w->pass);
        batch_destroy(&w->batch);
        mt_free(&w->input);
        mt_free(&w->output);
        mt_free(&w->scratch);
    }
    mt_free(&c->worker);
}

static mt_status fill_block(void *context, int32_t index, int32_t worker)
{
    const struct fill_round *round = context;
    struct prefix_cache *c = round->cache;
    const struct prefix_setup *s = &c->setup;
    struct worker *w = &c->worker[worker];
    int64_t number = (round->first + index) * s->world->size + s->world->rank;
    const struct row_block *block = &c->block[number];
    struct pass_plan plan = {.train_from = s->model->config.num_hidden_layers + 2};
    const real *input = NULL;
    MT_TRY(row_blocks_read(set_of(s, c->block_split[number], block->set), block, &w->batch));
    if (s->lower != NULL) {
        plan.start = prefix_cache_depth(s->lower);
        prefix_cache_read(s->lower, c->block_split[number], &w->batch, w->input);
        input = w->input;
    }
    pass_forward_boundary(w->pass, s->params, &w->batch, &plan, input, s->depth, w->output);
    return prefix_file_write_block(c->file, number, w->output, w->scratch);
}

static mt_status fill_blocks(struct prefix_cache *c)
{
    const struct comm *world = c->setup.world;
    int64_t all = c->layout.blocks, most = (all + world->size - 1) / world->size;
    int64_t mine = (all - world->rank + world->size - 1) / world->size;
    int64_t round_blocks = (int64_t)ROUND_BLOCKS * c->threads;
    struct fill_round round = {c, 0};
    struct log_progress progress;
    progress_begin(&progress, "filling the prefix cache", "blocks", 0);
    for (; round.first < most; round.first += round_blocks) {
        int64_t left = mine - round.first;
        int32_t count = (int32_t)(left < 0 ? 0 : left < round_blocks ? left : round_blocks);
        enum stop_reason reason;
        watchdog_beat(WATCHDOG_CACHE);
        mt_status st = pool_run(c->setup.pool, fill_block, &round, count);
        watchdog_beat(WATCHDOG_BOUNDARY);
        MT_TRY(comm_agree(world, st));
        MT_TRY(stop_agree(world, &reason));
        if (reason != STOP_NONE) {
            progress_end(&progress);
            return MT_FAIL(MT_STOPPED, "stopped by %s while the prefix cache was filled",
                           stop_reason_text(reason));
        }
        progress_show(&progress, (round.first + count) * world->size, all, NULL);
    }
    progress_end(&progress);
    return MT_OK;
}

/* Collective.  Makes the file by all ranks together. */
static mt_status fill(struct prefix_cache *c)
{
    const struct comm *world = c->setup.world;
    double begin_s = clock_now_s();
    char temp[PATH_BYTES];
    mt_status st = MT_OK;
    (void)snprintf(temp, sizeof temp, "%.4060s.tmp-%ld", c->path, (long)getpid());
    if (world->rank == 0) {
        st = file_make_dir(c->setup.dir);
        if (st == MT_OK)
            st = prefix_file_make(temp, &c->layout);
    }
    MT_TRY(comm_agree(world, st));
    MT_TRY(comm_broadcast(world, temp, sizeof temp, 0));
    st = comm_agree(world, prefix_file_open_writer(&c->file, temp, &c->layout));
    if (st == MT_OK)
        st = comm_agree(world, create_workers(c));
    if (st == MT_OK)
        st = fill_blocks(c);
    prefix_file_close(&c->file);
    if (world->rank == 0) {
        if (st == MT_OK)
            st = prefix_file_publish(temp, c->path);
        else
            prefix_file_abandon(temp);
    }
    release_workers(c);
    MT_TRY(comm_agree(world, st));
    c->fill_s = clock_now_s() - begin_s;
    return MT_OK;
}

static int64_t node_memory_bytes(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE);
}

/* Collective.  Opens the file if it is there and sound; *sound is the same on all ranks. */
static mt_status open_file(struct prefix_cache *c, bool *sound)
{
    const struct comm *world = c->setup.world;
    int64_t limit = c->setup.memory_bytes > 0 ? c->setup.memory_bytes : node_memory_bytes() / 4;
    bool populate = prefix_file_bytes(&c->layout) <= limit;
    int64_t bad = prefix_file_open(&c->file, c->path, &c->layout, populate) != MT_OK;
    if (bad)
        mt_error_clear();
    for (int64_t b = world->rank; !bad && b < c->layout.blocks; b += world->size)
        bad = !prefix_file_check_block(c->file, b);
    MT_TRY(comm_max_i64(world, &bad, 1));
    if (bad)
        prefix_file_close(&c->file);
    *sound = !bad;
    return MT_OK;
}

static mt_status open_or_fill(struct prefix_cache *c)
{
    const struct comm *world = c->setup.world;
    char hex[HASH_TEXT_BYTES];
    bool sound;
    mt_status st = lay_out(c);
    if (st == MT_OK)
        st = make_key(c);
    MT_TRY(comm_agree(world, st));
    hash64_format(hex, c->layout.key);
    (void)snprintf(c->path, sizeof c->path, "%.4000s/prefix-%s.bin", c->setup.dir, hex);
    MT_TRY(open_file(c, &sound));
    if (sound)
        return MT_OK;
    MT_TRY(fill(c));
    MT_TRY(open_file(c, &sound));
    if (!sound)
        return MT_FAIL(MT_IO,
                       "%s was just written and does not read back; all ranks must share this "
                       "folder (cache.dir), and its disk must be sound",
                       c->path);
    return MT_OK;
}

mt_status prefix_cache_open(struct prefix_cache **out, const struct prefix_setup *setup)
{
    struct prefix_cache *c = NULL;
    MT_ALL(setup->world, mt_alloc(&c, 1, sizeof *c, "the prefix cache"));
    c->setup = *setup;
    mt_status st = open_or_fill(c);
    if (st != MT_OK)
        prefix_cache_close(&c);
    else
        *out = c;
    return st;
}

void prefix_cache_close(struct prefix_cache **cache)
{
    struct prefix_cache *c = *cache;
    if (c == NULL)
        return;
    prefix_file_close(&c->file);
    for (int32_t split = 0; split < CACHED_SPLITS; split++)
        for (int32_t set = 0; set < JOB_DATA_MAX; set++)
            mt_free(&c->row_first[split][set]);
    mt_free(&c->block);
    mt_free(&c->block_split);
    mt_free(&c->block_first);
    mt_free(cache);
}

bool prefix_cache_covers(const struct prefix_cache *c, const struct prefix_setup *setup)
{
    for (int32_t set = 0; set < setup->corpora->set_count; set++)
        if (setup->used[set] && !c->setup.used[set])
            return false;
    return true;
}

bool prefix_cache_has(const struct prefix_cache *c, enum split split, int32_t set)
{
    return c != NULL && (int32_t)split < CACHED_SPLITS && c->row_first[split][set] != NULL;
}

int32_t prefix_cache_depth(const struct prefix_cache *c)
{
    return c->setup.depth;
}

double prefix_cache_fill_s(const struct prefix_cache *c)
{
    return c->fill_s;
}

int64_t prefix_cache_sentences(const struct prefix_cache *c)
{
    return c->sentences;
}

void prefix_cache_read(const struct prefix_cache *c, enum split split, const struct batch *batch,
                       real *out)
{
    for (int32_t b = 0; b < batch->B; b++) {
        int32_t set = (int32_t)(batch->sample[b] >> 40);
        int64_t row = batch->sample[b] & (((int64_t)1 << 40) - 1);
        const int64_t *first = c->row_first[split][set];
        prefix_file_read(c->file, first[row], first[row + 1] - first[row], out);
        out += first[row + 1] - first[row];
    }
}

void prefix_cache_read_train(void *cache, const struct batch *slice, real *out)
{
    prefix_cache_read(cache, SPLIT_TRAIN, slice, out);
}
