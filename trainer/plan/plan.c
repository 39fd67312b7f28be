/*
 * See plan.h.  Arithmetic of a step, per token of a sentence of T tokens (multiply and add = 2):
 * a dense layer of n weights 2 n forward, 2 n for the gradient of its input and 2 n for that of
 * its weights; attention 4 T H forward and 8 T H backward.  Row-wise kernels are left out.
 */
#include "trainer/plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/prefix_file.h"
#include "trainer/phase_cache.h"
#include "trainer/phase_run.h"
#include "trainer/row_blocks.h"
#include "trainer/plan/scratch.h"

/* Lengths of the sentences that a phase draws. */
struct lengths {
    double mean, mean_square;
};

static struct lengths set_lengths(const struct run *run, const struct phase_plan *plan, int32_t set)
{
    enum { LOOKED_AT = 200000 };
    const struct dataset *d = run->corpora.set[SPLIT_TRAIN][set];
    int64_t n = plan->rows[set], stride = n / LOOKED_AT + 1, count = 0;
    double sum = 0.0, squares = 0.0;
    for (int64_t i = 0; i < n; i += stride, count++) {
        int64_t row = plan->eligible[set] != NULL ? plan->eligible[set][i] : i;
        double length = dataset_length(d, row);
        sum += length;
        squares += length * length;
    }
    return (struct lengths){sum / (double)count, squares / (double)count};
}

/* Sentences and tokens of a step, and how often each task's data is visited. */
static struct lengths count_samples(struct plan_phase *ph, const struct run *run)
{
    const struct phase_plan *plan = ph->plan;
    struct sampler_spec spec = phase_plan_sampler(plan, &run->job);
    double share[MT_SETS_MAX] = {0}, steps = (double)(ph->end - ph->begin);
    struct lengths mean = {0.0, 0.0};
    sampler_probabilities(&spec, share);
    ph->sentences = (double)plan->phase->sentences;
    if (plan->sampling == SAMPLE_PROPORTIONAL) { /* the last step of an epoch may be short */
        double rows = 0.0;
        for (int32_t set = 0; set < run->job.data_count; set++)
            rows += (double)plan->rows[set];
        ph->sentences = rows / plan->steps_per_epoch;
    }
    for (int32_t set = 0; set < run->job.data_count; set++) {
        if (plan->rows[set] == 0)
            continue;
        struct lengths l = set_lengths(run, plan, set);
        mean.mean += share[set] * l.mean;
        mean.mean_square += share[set] * l.mean_square;
    }
    for (int32_t t = 0; t < run->job.task_count; t++) {
        int32_t set = run->job.tasks[t].set;
        if (plan->active[t] && plan->rows[set] > 0)
            ph->epochs[t] = steps * ph->sentences * share[set] / (double)plan->rows[set];
    }
    ph->tokens = ph->sentences * mean.mean;
    return mean;
}

/* Weights of the dense layers of depth d in 1..L. */
static double layer_weights(const struct bert_config *c)
{
    double H = c->hidden_size, F = c->intermediate_size;
    return 4.0 * H * H + 2.0 * H * F;
}

static void count_flops(struct plan_phase *ph, const struct run *run, struct lengths mean)
{
    const struct bert_config *c = &run->model.config;
    const struct tensor_table *table = &run->model.table;
    int32_t L = c->num_hidden_layers, lowest = ph->plan->train_from;
    int32_t start = ph->cached ? ph->cache_depth : 0;
    double H = c->hidden_size, F = c->intermediate_size, S = ph->sentences;
    double attention = S * mean.mean_square * H, heads = 0.0, forward = 0.0, backward = 0.0;
    for (int32_t t = 0; t < run->model.task_count; t++)
        heads += H * run->model.task[t].classes;
    double top = heads + (run->model.pooling == POOL_POOLER ? H * H : 0.0);
    for (int32_t depth = start > 1 ? start : 1; depth <= L; depth++)
        forward += 2.0 * ph->tokens * layer_weights(c) + 4.0 * attention;
    forward += 2.0 * S * top;
    for (int32_t depth = lowest > 1 ? lowest : 1; depth <= L; depth++) {
        double passed_on = depth > lowest ? layer_weights(c) : H * H + 2.0 * H * F;
        backward += 2.0 * ph->tokens * passed_on + 8.0 * attention;
    }
    if (lowest <= L)
        backward += 2.0 * S * top;
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *e = &table->entry[i];
        if (ph->plan->trainable[i] && e->ndim == 2 && e->depth > 0)
            backward += 2.0 * (e->depth <= L ? ph->tokens : S) * (double)e->count;
    }
    ph->forward_gflop = 1e-9 * forward;
    ph->backward_gflop = 1e-9 * backward;
}

/* "encoder.layer.3", "heads.sentiment", "pooler", "embeddings". */
static void group_name(char name[96], const char *tensor)
{
    int dots = strncmp(tensor, "encoder.layer.", 14) == 0 ? 3
               : strncmp(tensor, "heads.", 6) == 0        ? 2
                                                          : 1;
    const char *end = tensor;
    while (*end != '\0' && (*end != '.' || --dots > 0))
        end++;
    (void)snprintf(name, 96, "%.*s", (int)(end - tensor < 95 ? end - tensor : 95), tensor);
}

static mt_status make_groups(struct plan_phase *ph, const struct run *run)
{
    const struct tensor_table *table = &run->model.table;
    MT_TRY(mt_alloc(&ph->group, table->count, sizeof *ph->group, "groups of tensors"));
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *e = &table->entry[i];
        char name[96];
        group_name(name, e->name);
        if (ph->group_count == 0 || strcmp(ph->group[ph->group_count - 1].name, name) != 0) {
            struct plan_group *fresh = &ph->group[ph->group_count++];
            (void)snprintf(fresh->name, sizeof fresh->name, "%s", name);
            fresh->depth = e->depth;
        }
        struct plan_group *g = &ph->group[ph->group_count - 1];
        double lr = ph->plan->lr[i];
        g->elements += e->count;
        if (!ph->plan->trainable[i])
            continue;
        g->lr_least = g->trained == 0 || lr < g->lr_least ? lr : g->lr_least;
        g->lr_most = lr > g->lr_most ? lr : g->lr_most;
        g->trained += e->count;
    }
    return MT_OK;
}

static void find_factors(struct plan_phase *ph, const struct run *run, int32_t index)
{
    const struct phase *p = ph->plan->phase;
    int64_t steps = ph->end - ph->begin;
    int64_t warmup = schedule_warmup_steps(p, &run->length, index, run->run_steps, steps);
    int64_t decay = schedule_decay_steps(p, &run->length, index, run->run_steps, steps);
    if (steps <= 0)
        return;
    ph->first_factor = phase_factor(p, 0, steps, warmup, decay);
    ph->last_factor = phase_factor(p, steps - 1, steps, warmup, decay);
}

static mt_status choose_cache(struct plan_phase *ph, const struct run *run,
                              const struct plan_target *target)
{
    char dir[SCRATCH_PATH_BYTES];
    struct prefix_setup setup = phase_cache_setup(run, ph->plan);
    scratch_nearest_dir(dir, target->cache_dir);
    MT_TRY(phase_cache_choose(run, ph->plan, ph->end - ph->begin, prefix_file_free_bytes(dir),
                              &ph->cached, &ph->cache_why));
    ph->cache_depth = setup.depth;
    ph->cache_bytes = setup.depth > 0 ? prefix_cache_bytes(&setup) : 0;
    return MT_OK;
}

/* Which phases find the cache of the one before, as phase_cache_open does. */
static void find_lower_caches(struct plan *p)
{
    for (int32_t i = 1; i < p->phase_count; i++) {
        const struct plan_phase *before = &p->phase[i - 1];
        struct plan_phase *ph = &p->phase[i];
        bool covered = before->cached && ph->cached && before->cache_depth <= ph->cache_depth &&
                       ph->plan->phase->start_from != START_BEST;
        for (int32_t set = 0; set < p->run->job.data_count; set++)
            covered = covered && (ph->plan->rows[set] == 0 || before->plan->rows[set] > 0);
        ph->fill_from = covered ? before->cache_depth : 0;
    }
}

static int64_t batch_bytes(const struct run *run, const struct lanes_setup *lanes)
{
    struct prefetch_config config = {.task_count = run->job.task_count,
                                     .lanes = lanes->lanes,
                                     .lane_count = lanes->count,
                                     .batch_sentences = 1,
                                     .max_tokens = 1,
                                     .depth = (int32_t)run->job.train.prefetch};
    for (int32_t s = 0; s < SPLIT_COUNT; s++)
        for (int32_t set = 0; set < run->job.data_count; set++)
            if (run->corpora.set[s][set] != NULL &&
                dataset_longest_row_tokens(run->corpora.set[s][set]) > config.max_tokens)
                config.max_tokens = dataset_longest_row_tokens(run->corpora.set[s][set]);
    for (int32_t i = 0; i < run->job.schedule.count; i++)
        if (run->job.schedule.phase[i].sentences > config.batch_sentences)
            config.batch_sentences = (int32_t)run->job.schedule.phase[i].sentences;
    return prefetch_bytes(&config);
}

static mt_status evaluation_bytes(int64_t *bytes, const struct run *run, int32_t threads)
{
    int32_t tokens = ROW_BLOCK_TOKENS;
    for (int32_t split = 0; split < SPLIT_COUNT; split++)
        for (int32_t set = 0; set < run->job.data_count; set++)
            if (run->corpora.set[split][set] != NULL &&
                row_blocks_max_tokens(run->corpora.set[split][set]) > tokens)
                tokens = row_blocks_max_tokens(run->corpora.set[split][set]);
    MT_TRY(pass_measure(bytes, &run->model, tokens, ROW_BLOCK_SENTENCES,
                        run->model.config.num_hidden_layers + 2, false));
    *bytes *= threads;
    return MT_OK;
}

/* Memory of rank 0, which has as many lanes as any; kept: parameters with moments from before. */
static mt_status count_memory(struct plan_phase *ph, const struct run *run,
                              const struct plan_target *target, const struct range_list *ranges,
                              int64_t kept)
{
    const int64_t word = (int64_t)sizeof(float);
    struct plan_memory *m = &ph->memory;
    int32_t start = ph->cached ? ph->cache_depth : 0;
    struct lanes_setup lanes = phase_run_lanes(run, ph->plan, target->ranks, 0, start);
    m->parameters = run->model.table.total * word;
    m->moments = 2 * word * (ranges->elements + kept);
    if (run->job.optimizer.shard)
        m->moments /= target->ranks;
    if (!ph->plan->probe) {
        int32_t threads = target->threads < lanes.count ? target->threads : lanes.count;
        m->gradient_blocks = lanes_block_count(&lanes, threads);
        m->gradients = m->gradient_blocks * ranges->elements * word;
        m->wire = reduce_errors_bytes(lanes.lanes, target->ranks, lanes.groups, ranges->elements);
        MT_TRY(pass_measure(&m->activations, &run->model, lanes.micro_tokens, lanes.max_sentences,
                            lanes.train_from, lanes.recompute));
        m->activations *= threads;
        if (start > 0)
            m->activations +=
                threads * (int64_t)lanes.micro_tokens * run->model.config.hidden_size * word;
        m->batches = batch_bytes(run, &lanes);
    }
    MT_TRY(evaluation_bytes(&m->evaluation, run, target->threads));
    m->copy = 3 * ranges->elements * word;
    if (run->job.optimizer.shard && target->ranks > 1 && !ph->plan->probe) {
        m->copy_owned = 2 * ranges->elements * word / target->ranks;
        m->copy = ranges->elements * word + m->copy_owned;
    }
    m->total = m->parameters + m->gradients + m->moments + m->wire + m->activations + m->batches +
               m->evaluation + m->copy;
    return MT_OK;
}

/* Parameters that a phase does not train but whose moments stay from before. */
static int64_t kept_elements(const struct plan *p, int32_t index)
{
    const struct tensor_table *table = &p->run->model.table;
    const struct phase_plan *plan = p->run->plan;
    int64_t kept = 0;
    for (int32_t i = 0; i < table->count; i++) {
        bool has = false;
        for (int32_t k = 1; k <= index; k++) {
            int32_t policy = plan[k].phase->optimizer_state;
            bool fresh = !plan[k - 1].trainable[i];
            has = has || !fresh;
            if (policy == STATE_RESET || (policy == STATE_RESET_NEW && fresh))
                has = false;
        }
        if (has && !plan[index].trainable[i])
            kept += table->entry[i].count;
    }
    return kept;
}

/* A rank's work on a message; adding up; ranks of one host; naps between two looks at messages. */
static const double MESSAGE_S = 1e-6, MEMORY_BYTES_S = 15e9, SHARED_BYTES_S = 5e9, LOOK_S = 60e-6;

static int32_t hosts_of(const struct plan_target *t)
{
    int32_t of_host = t->host_ranks > 1 ? t->host_ranks : 1;
    return (t->ranks + of_host - 1) / of_host;
}

/* Bytes of a step that uses every row of the word embeddings, and of one that uses none. */
static mt_status count_volume(struct plan_phase *ph, const struct run *run,
                              const struct plan_target *target, const struct range_list *ranges)
{
    const struct job *job = &run->job;
    const struct comm *world = run->world;
    const struct tensor *word = &run->model.table.entry[run->model.word];
    bool exact = job->reduction == JOB_REDUCTION_EXACT;
    bool node = target->here ? world->node_count == 1 : target->network_bytes_s <= 0.0;
    bool hosts = target->here ? world->node_count < world->size && reduce_path_hosts_fits(world)
                              : target->host_ranks > 1 && target->host_ranks < target->ranks;
    int32_t host_count = target->here ? world->node_count : hosts_of(target);
    bool dense = job->reduction_rows == JOB_ROWS_DENSE && job->wire == JOB_WIRE_FP32;
    struct reduce_volume_setup setup = {.lanes = (int32_t)job->batch.lanes,
                                        .ranks = target->ranks,
                                        .mode = exact ? REDUCE_EXACT : REDUCE_MPI,
                                        .path = exact && node    ? REDUCE_PATH_NODE
                                                : exact && hosts ? REDUCE_PATH_HOSTS
                                                                 : REDUCE_PATH_AUTO,
                                        .hosts = hosts ? host_count : 1,
                                        .bucket_elements = job->reduction_bucket,
                                        .wire_groups = job_wire_groups(job),
                                        .gathers = exact && !job->optimizer.shard,
                                        .gathers_blocks = job->optimizer.shard};
    struct reduce_network network = {.latency_s = target->latency_s,
                                     .bytes_s = target->network_bytes_s,
                                     .message_s = MESSAGE_S,
                                     .memory_bytes_s = MEMORY_BYTES_S,
                                     .look_s = LOOK_S,
                                     .host_ranks = target->host_ranks,
                                     .host_bytes_s = SHARED_BYTES_S};
    struct row_set rows;
    if (ph->plan->probe)
        return MT_OK;
    MT_TRY(reduce_volume_plan(&ph->volume, ranges, &setup));
    if (!node)
        MT_TRY(reduce_time_plan(&ph->reduce, ranges, &setup, &network));
    ph->least_bytes = ph->volume.rank0_bytes;
    if (dense || !ph->plan->trainable[run->model.word])
        return MT_OK;
    struct reduce_volume least;
    MT_TRY(row_set_init(&rows, word->offset, word->shape[0], word->shape[1], ranges));
    row_set_clear(&rows);
    row_set_list(&rows);
    setup.active = &rows.active;
    mt_status st = reduce_volume_plan(&least, ranges, &setup);
    row_set_release(&rows);
    if (st == MT_OK)
        ph->least_bytes = least.rank0_bytes;
    return st;
}

static mt_status make_phase(struct plan *p, int32_t index, const int64_t *begin, const int64_t *end)
{
    const struct run *run = p->run;
    struct plan_phase *ph = &p->phase[index];
    struct range_list ranges = {0};
    mt_status st;
    ph->plan = &run->plan[index];
    ph->begin = begin[index];
    ph->end = end[index];
    struct lengths mean = count_samples(ph, run);
    MT_TRY(make_groups(ph, run));
    find_factors(ph, run, index);
    MT_TRY(choose_cache(ph, run, &p->target));
    if (!ph->plan->probe)
        count_flops(ph, run, mean);
    MT_TRY_GOTO(st, range_list_of(&ranges, &run->model.table, ph->plan->trainable), done);
    MT_TRY_GOTO(st, count_memory(ph, run, &p->target, &ranges, kept_elements(p, index)), done);
    MT_TRY_GOTO(st, count_volume(ph, run, &p->target, &ranges), done);
    if ((double)ph->memory.total > p->peak_bytes)
        p->peak_bytes = (double)ph->memory.total;
done:
    range_list_release(&ranges);
    return st;
}

mt_status plan_make(struct plan *p, const struct run *run, const struct plan_target *target)
{
    int64_t *begin = NULL, *end = NULL;
    int32_t count = run->job.schedule.count;
    mt_status st;
    memset(p, 0, sizeof *p);
    p->run = run;
    p->target = *target;
    if (!lane_tree_valid((int32_t)run->job.batch.lanes, target->ranks))
        return MT_FAIL(MT_CONFIG,
                       "--ranks %d, but batch.lanes is %lld and a rank needs a lane of its own; "
                       "add --set batch.lanes=N with a power of two",
                       target->ranks, (long long)run->job.batch.lanes);
    MT_TRY_GOTO(st, mt_alloc(&begin, count, sizeof *begin, "bounds"), done);
    MT_TRY_GOTO(st, mt_alloc(&end, count, sizeof *end, "bounds"), done);
    MT_TRY_GOTO(st, mt_alloc(&p->phase, count, sizeof *p->phase, "the plan"), done);
    p->phase_count = count;
    schedule_phase_bounds(&run->job.schedule, &run->length, begin, end);
    for (int32_t i = 0; i < count; i++)
        MT_TRY_GOTO(st, make_phase(p, i, begin, end), done);
    find_lower_caches(p);
done:
    mt_free(&begin);
    mt_free(&end);
    return st;
}

void plan_release(struct plan *p)
{
    for (int32_t i = 0; i < p->phase_count; i++)
        mt_free(&p->phase[i].group);
    mt_free(&p->phase);
    memset(p, 0, sizeof *p);
}
