/*
 * See run.h.  Opening goes from what is cheap to check to what is dear to make: job, vocabulary and
 * sizes, data, phases, and only then parameters, work space and the newest checkpoint.
 */
#include "trainer/run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/file.h"
#include "io/leftovers.h"
#include "trainer/control.h"
#include "trainer/memory_check.h"
#include "trainer/phase_run.h"
#include "trainer/products.h"
#include "trainer/resume.h"
#include "trainer/run_lock.h"
#include "trainer/trace.h"

/* Whether all ranks were started with the same words. */
static mt_status agree_on_command(const struct comm *world, const char *job_path,
                                  const struct run_options *options)
{
    struct hash64 h;
    hash64_init(&h, 0);
    hash64_add_string(&h, job_path);
    hash64_add_string(&h, options->schedule != NULL ? options->schedule : "");
    for (int32_t i = 0; i < options->override_count; i++)
        hash64_add_string(&h, options->overrides[i]);
    return comm_agree_equal(world, "the job file or --set on the command line", hash64_value(&h));
}

static mt_status read_job(struct run *run, const char *job_path, const struct run_options *options)
{
    const struct comm *world = run->world;
    char *text = NULL;
    uint64_t hash = 0;
    MT_TRY(agree_on_command(world, job_path, options));
    mt_status st = world->rank == 0 ? config_bundle_read(&text, job_path) : MT_OK;
    if (st == MT_OK && world->rank == 0 && options->schedule != NULL)
        st = config_bundle_replace(&text, options->schedule);
    MT_TRY(comm_agree(world, st));
    int64_t bytes = text != NULL ? (int64_t)strlen(text) : 0;
    void *blob = text;
    MT_TRY_GOTO(st, comm_broadcast_blob(world, &blob, &bytes, 0), done);
    st = job_load(&run->job, blob, options->overrides, options->override_count);
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    st = job_hash(&run->job, OPTION_HARMLESS, &hash);
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    st = comm_agree_equal(world, "the effective job", hash);
done:
    mt_free(&blob);
    if (st == MT_OK && world->size > run->job.batch.lanes)
        return MT_FAIL(MT_CONFIG,
                       "%d ranks but batch.lanes is %lld, and a rank needs a lane of its own; "
                       "raise batch.lanes (a power of two) or start fewer ranks",
                       world->size, (long long)run->job.batch.lanes);
    return st;
}

static mt_status random_config(struct bert_config *c, const struct job *job,
                               const struct vocab *vocab)
{
    const struct setting_list *keys = &job->model.config;
    bert_config_defaults(c);
    c->vocab_size = vocab->count;
    for (int32_t i = 0; i < keys->count; i++)
        if (!bert_config_set(c, keys->key[i], keys->number[i], keys->text[i]))
            return MT_FAIL(MT_CONFIG,
                           "%s: model.config.%s is not a key of BertConfig, or has the wrong type "
                           "(hidden_size, num_hidden_layers, num_attention_heads, "
                           "intermediate_size, ...)",
                           keys->where != NULL ? keys->where : job->file, keys->key[i]);
    mt_status st = bert_config_check(c, job->file);
    return st == MT_OK ? MT_OK
                       : mt_error_begin(MT_CONFIG, __func__, __FILE__, __LINE__, "%s",
                                        mt_error_peek()->message);
}

/* The vocabulary and, for random weights, the sizes; otherwise those of the source. */
static mt_status open_origin(struct run *run, struct source *source, struct bert_config *config)
{
    static const enum vocab_case case_of[] = {[JOB_CASED_AUTO] = VOCAB_CASE_AUTO,
                                              [JOB_CASED_NO] = VOCAB_CASE_LOWER,
                                              [JOB_CASED_YES] = VOCAB_CASE_CASED};
    const struct job_model *m = &run->job.model;
    bool random = strcmp(m->init, "random") == 0;
    const char *vocab_path = m->vocab;
    if (!random) {
        MT_TRY(source_open(source, run->world, m->init));
        *config = source->about.config;
        if (vocab_path == NULL)
            vocab_path = source->folder;
    } else if (vocab_path == NULL) {
        return MT_FAIL(MT_CONFIG,
                       "%s: model.vocab: needed with init = \"random\"; name a "
                       "vocab.txt (mttrain vocab makes one)",
                       run->job.file);
    }
    MT_ALL(run->world, vocab_open(&run->vocab, vocab_path, case_of[m->cased]));
    if (random)
        MT_ALL(run->world, random_config(config, &run->job, &run->vocab));
    if (run->vocab.count > config->vocab_size)
        return MT_FAIL(MT_DATA,
                       "%s has %d tokens, but the model %s embeds only %d; use the "
                       "vocabulary that belongs to the model",
                       vocab_path, run->vocab.count, m->init, config->vocab_size);
    if (m->max_tokens > config->max_position_embeddings)
        return MT_FAIL(MT_CONFIG,
                       "%s: model.max_tokens is %lld, but the model has only %d "
                       "positions",
                       run->job.file, (long long)m->max_tokens, config->max_position_embeddings);
    return MT_OK;
}

static void choose_dropout(struct run *run, struct bert_config *config)
{
    const struct job_model *m = &run->job.model;
    if (!isnan(m->dropout))
        config->hidden_dropout_prob = m->dropout;
    if (!isnan(m->attention_dropout))
        config->attention_probs_dropout_prob = m->attention_dropout;
    if (!isnan(m->head_dropout))
        config->classifier_dropout = m->head_dropout;
}

static mt_status init_model(struct run *run, const struct source *source,
                            const struct bert_config *config)
{
    struct model_task tasks[MODEL_TASKS_MAX];
    enum pooling pooling = (enum pooling)run->job.model.pooling;
    bool has_pooler =
        source->folder[0] == '\0' || source->about.has_pooler || pooling == POOL_POOLER;
    for (int32_t t = 0; t < run->job.task_count; t++) {
        (void)snprintf(tasks[t].name, sizeof tasks[t].name, "%s", run->job.tasks[t].name);
        tasks[t].classes = run->corpora.labels[t].count;
    }
    return model_init(&run->model, config, pooling, has_pooler, tasks, run->job.task_count);
}

/* What is exported beside the numbers. */
static mt_status describe_export(struct run *run)
{
    struct model_folder *f = &run->about;
    f->config = run->model.config;
    f->has_pooler = run->model.pooler_w >= 0;
    (void)snprintf(f->pooling, sizeof f->pooling, "%s", pooling_name(run->model.pooling));
    f->max_tokens = (int32_t)run->job.model.max_tokens;
    f->do_lower_case = run->vocab.flags.lowercase;
    f->strip_accents = run->vocab.flags.strip_accents == run->vocab.flags.lowercase
                           ? -1
                           : run->vocab.flags.strip_accents;
    f->tokenize_chinese_chars = run->vocab.flags.chinese_chars;
    (void)snprintf(f->vocab_path, sizeof f->vocab_path, "%.4000s/vocab.txt", run->job.run_dir);
    MT_TRY(mt_alloc(&f->tasks, run->job.task_count, sizeof *f->tasks, "exported tasks"));
    for (int32_t t = 0; t < run->job.task_count; t++) {
        struct folder_task *task = &f->tasks[f->task_count++];
        const struct string_list *labels = &run->corpora.labels[t];
        (void)snprintf(task->name, sizeof task->name, "%s", run->job.tasks[t].name);
        (void)snprintf(task->kind, sizeof task->kind, "%s", run->job.tasks[t].kind);
        task->dropout = -1.0;
        MT_TRY(mt_alloc(&task->labels, labels->count, sizeof(char *), "exported labels"));
        for (int32_t k = 0; k < labels->count; k++) {
            MT_TRY(mt_strdup(&task->labels[k], labels->item[k]));
            task->label_count++;
        }
    }
    return MT_OK;
}

/* Whether the model has positions and token types for every row. */
static mt_status check_rows(const struct run *run)
{
    const struct bert_config *c = &run->model.config;
    for (int32_t s = 0; s < SPLIT_COUNT; s++) {
        for (int32_t set = 0; set < run->corpora.set_count; set++) {
            const struct dataset *d = run->corpora.set[s][set];
            if (d == NULL)
                continue;
            if (dataset_longest_row_tokens(d) > c->max_position_embeddings)
                return MT_FAIL(MT_DATA,
                               "data set \"%s\" (%s) has a row of %d tokens, but the model has "
                               "only %d positions; pack it with --max-tokens %d",
                               dataset_name(d), split_name((enum split)s),
                               dataset_longest_row_tokens(d), c->max_position_embeddings,
                               c->max_position_embeddings);
            if (dataset_has_types(d) && c->type_vocab_size < 2)
                return MT_FAIL(MT_DATA,
                               "data set \"%s\" (%s) has sentence pairs, but the model has only "
                               "%d token type",
                               dataset_name(d), split_name((enum split)s), c->type_vocab_size);
        }
    }
    return MT_OK;
}

static mt_status choose_losses(struct run *run)
{
    for (int32_t t = 0; t < run->job.task_count; t++) {
        const struct job_task *task = &run->job.tasks[t];
        int32_t classes = run->model.task[t].classes;
        if (task->class_weights.count > 0) {
            if (task->class_weights.count != classes)
                return MT_FAIL(MT_CONFIG,
                               "%s.class_weights: %d weights for the %d labels of task \"%s\"",
                               task->where, task->class_weights.count, classes, task->name);
            MT_TRY(mt_alloc(&run->class_weight[t], classes, sizeof(real), "class weights"));
            for (int32_t k = 0; k < classes; k++)
                run->class_weight[t][k] = (real)task->class_weights.item[k];
        }
        run->eval_loss[t] = (struct task_loss){.active = true,
                                               .weight = (real)1,
                                               .label_smoothing = (real)task->label_smoothing,
                                               .class_weight = run->class_weight[t]};
    }
    return MT_OK;
}

static mt_status plan_phases(struct run *run)
{
    struct job *job = &run->job;
    MT_TRY(schedule_expand(&job->schedule, run->model.config.num_hidden_layers));
    MT_TRY(mt_alloc(&run->plan, job->schedule.count, sizeof *run->plan, "phase plans"));
    MT_TRY(mt_alloc(&run->steps_per_epoch, job->schedule.count, sizeof(double), "epochs"));
    for (int32_t p = 0; p < job->schedule.count; p++) {
        MT_TRY(phase_plan_make(&run->plan[p], job, p, &run->model, &run->corpora));
        run->steps_per_epoch[p] = run->plan[p].steps_per_epoch;
    }
    run->length =
        (struct run_length){job->train.epochs, job->train.max_steps, run->steps_per_epoch};
    run->run_steps = schedule_run_steps(&job->schedule, &run->length);
    return MT_OK;
}

/* Everything up to the plans; shards are looked for and made in shards_dir. */
static mt_status open_description(struct run *run, struct source *source, const char *shards_dir)
{
    struct bert_config config;
    MT_TRY(open_origin(run, source, &config));
    choose_dropout(run, &config);
    MT_TRY(corpora_open(&run->corpora, run->world, &run->job, &run->vocab, shards_dir));
    MT_ALL(run->world, init_model(run, source, &config));
    MT_TRY(products_choose(run->world, &run->job.model, &run->model));
    MT_ALL(run->world, describe_export(run));
    MT_ALL(run->world, check_rows(run));
    MT_ALL(run->world, choose_losses(run));
    MT_ALL(run->world, plan_phases(run));
    return MT_OK;
}

static mt_status begin(struct run *run, const struct comm *world, const char *job_path,
                       const struct run_options *options)
{
    memset(run, 0, sizeof *run);
    run->world = world;
    run->entered = -1;
    run->resumed_step = -1;
    run->last_saved_step = -1;
    run->lr_scale = 1.0;
    run->replay_step = options->replay_step;
    run->replay = options->replay;
    run->started_s = run->last_save_s = run->last_eval_s = clock_now_s();
    return read_job(run, job_path, options);
}

mt_status run_open_description(struct run *run, const struct comm *world, const char *job_path,
                               const struct run_options *options, const char *shards_dir)
{
    struct source source = {0};
    MT_TRY(begin(run, world, job_path, options));
    mt_status st = open_description(run, &source, shards_dir);
    source_close(&source);
    return st;
}

static void warn_topology(const struct topology *t, const struct comm *world)
{
    char text[512];
    topology_describe(t, world, text, (int64_t)sizeof text);
    log_info("%s", text);
    for (int32_t i = 0; i < t->warning_count; i++)
        log_warning("%s", t->warning[i]);
}

/* Rank 0 makes the folder and what a reader of it looks for first. */
static mt_status make_run_dir(const struct run *run)
{
    char *text = NULL, *path = NULL;
    mt_status st;
    MT_TRY(file_make_dir(run->job.run_dir));
    MT_TRY_GOTO(st, job_print(&run->job, &text), done);
    MT_TRY_GOTO(st, file_path_join(&path, run->job.run_dir, "job.cfg"), done);
    MT_TRY_GOTO(st, file_write_atomic(path, text, (int64_t)strlen(text)), done);
    st = vocab_write(&run->vocab, run->about.vocab_path);
done:
    mt_free(&text);
    mt_free(&path);
    return st;
}

/* Root.  What processes of this run that were killed left half-written in its folder, and in one of
 * caches that other hosts may use, too. */
static mt_status remove_leftovers(const struct run *run)
{
    const double untouched_s = 3600.0;
    static const struct {
        const char *name, *spared;
    } folders[] = {{"", NULL},
                   {"shards", NULL},
                   {"cache", NULL},
                   {"bundles", NULL},
                   {"ctl", ".cmd"}}; /* commands are put there by others */
    char *path = NULL;
    mt_status st = MT_OK;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        mt_free(&path);
        MT_TRY_GOTO(st, file_path_join(&path, run->job.run_dir, folders[i].name), done);
        MT_TRY_GOTO(st, leftovers_remove(path, folders[i].spared, 0.0), done);
    }
    MT_TRY_GOTO(st, checkpoint_remove_leftovers(run->job.run_dir), done);
    mt_free(&path);
    MT_TRY_GOTO(st, file_path_join(&path, run->job.run_dir, "heartbeat"), done);
    MT_TRY_GOTO(st, file_remove(path), done); /* of more ranks than there are now, perhaps */
    if (run->job.cache.dir != NULL)
        st = leftovers_remove(run->job.cache.dir, NULL, untouched_s);
done:
    mt_free(&path);
    return st;
}

/* Root.  A disk that refuses this is not worse than before; what comes next will tell. */
static void tidy(const struct run *run)
{
    if (run->replay_step != 0 || remove_leftovers(run) == MT_OK)
        return;
    log_warning("%s", mt_error_peek()->message);
    mt_error_clear();
}

/* The job's, or as many as the machine suggests; at most one a lane. */
static int32_t choose_threads(const struct run *run)
{
    struct lane_range own =
        lane_tree_range((int32_t)run->job.batch.lanes, run->world->size, run->world->rank);
    int32_t threads = (int32_t)run->job.train.threads, own_lanes = own.end - own.begin;
    if (threads == 0)
        threads = run->topology.threads;
    return threads > own_lanes ? own_lanes : threads;
}

static mt_status create_workers(struct run *run)
{
    const struct job *job = &run->job;
    struct lane_range own =
        lane_tree_range((int32_t)job->batch.lanes, run->world->size, run->world->rank);
    int32_t longest = 1, threads = choose_threads(run), own_lanes = own.end - own.begin;
    int64_t most_sentences = 1;
    int32_t column[JOB_DATA_MAX * JOB_TASKS_MAX];
    for (int32_t s = 0; s < SPLIT_COUNT; s++)
        for (int32_t set = 0; set < job->data_count; set++)
            if (run->corpora.set[s][set] != NULL &&
                dataset_longest_row_tokens(run->corpora.set[s][set]) > longest)
                longest = dataset_longest_row_tokens(run->corpora.set[s][set]);
    for (int32_t p = 0; p < job->schedule.count; p++)
        if (job->schedule.phase[p].sentences > most_sentences)
            most_sentences = job->schedule.phase[p].sentences;
    for (int32_t set = 0; set < job->data_count; set++)
        for (int32_t t = 0; t < job->task_count; t++)
            column[set * job->task_count + t] = run->corpora.column[SPLIT_TRAIN][set][t];
    struct prefetch_config prefetch = {
        .sets = run->corpora.set[SPLIT_TRAIN],
        .set_count = job->data_count,
        .task_count = job->task_count,
        .label_column = column,
        .batch_sentences = (int32_t)most_sentences,
        .max_tokens = longest,
        .lanes = (int32_t)job->batch.lanes,
        .first_lane = own.begin,
        .lane_count = own_lanes,
        .depth = (int32_t)job->train.prefetch,
    };
    struct evaluator_setup evaluator = {.world = run->world,
                                        .model = &run->model,
                                        .corpora = &run->corpora,
                                        .loss = run->eval_loss};
    int64_t width = 4 * (int64_t)job->task_count;
    MT_TRY(mt_alloc(&run->lane_rows, own_lanes * width, sizeof(double), "sums of lanes"));
    MT_TRY(mt_alloc(&run->lane_work, job->batch.lanes * width, sizeof(double), "sums of lanes"));
    MT_TRY(pool_create(&run->pool, threads));
    evaluator.pool = run->pool;
    MT_TRY(prefetch_create(&run->prefetch, &prefetch));
    return evaluator_create(&run->evaluator, &evaluator);
}

static mt_status create_blocks(struct run *run, const struct source *source)
{
    const struct tensor_table *table = &run->model.table;
    struct folder_report report = {0};
    MT_TRY(mt_alloc(&run->params, table->total, sizeof(float), "parameters"));
    MT_TRY(mt_alloc(&run->adam_m, table->total, sizeof(float), "first moments"));
    MT_TRY(mt_alloc(&run->adam_v, table->total, sizeof(float), "second moments"));
    if (run->job.optimizer.shard &&
        run->world->size > 1) { /* a rank owns a stretch of each bucket */
        mt_scatter(run->adam_m);
        mt_scatter(run->adam_v);
    }
    MT_TRY(mt_alloc(&run->adam_steps, table->count, sizeof(int64_t), "update counts"));
    for (int32_t i = 0; i < table->count; i++)
        model_init_tensor(&run->model, i, (uint64_t)run->job.seed, run->params);
    if (source->folder[0] == '\0')
        return MT_OK;
    MT_TRY(source_read(source, table, run->params, &report));
    if (report.pooler_missing && run->model.pooling == POOL_POOLER)
        log_warning("%s has no pooler: it begins with random values", source->folder);
    if (report.heads_missing > 0)
        log_info("heads begin with random values (%d tensors not in %s)", report.heads_missing,
                 source->folder);
    if (report.ignored > 0)
        log_info("%d tensors of %s are not used (%s)", report.ignored, source->folder,
                 report.ignored_names);
    return MT_OK;
}

mt_status run_open(struct run *run, const struct comm *world, const char *job_path,
                   const struct run_options *options)
{
    struct source source = {0};
    char *shards = NULL;
    mt_status st;
    MT_TRY(begin(run, world, job_path, options));
    MT_TRY(topology_inspect(&run->topology, world));
    MT_TRY(run_lock_take(run));
    control_open(run);
    control_tell(run, "starting", NULL);
    if (world->rank == 0)
        tidy(run);
    MT_TRY_GOTO(st, file_path_join(&shards, run->job.run_dir, "shards"), done);
    MT_TRY_GOTO(st, open_description(run, &source, shards), done);
    MT_TRY_GOTO(st, file_path_join(&run->cache_dir, run->job.run_dir, "cache"), done);
    if (run->job.cache.dir != NULL) {
        mt_free(&run->cache_dir);
        MT_TRY_GOTO(st, mt_strdup(&run->cache_dir, run->job.cache.dir), done);
    }
    st = corpora_hash(&run->corpora, &run->data_hash);
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    st = world->rank == 0 ? make_run_dir(run) : MT_OK;
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    log_set_dir(run->job.run_dir);
    warn_topology(&run->topology, world);
    MT_TRY_GOTO(st, memory_check(run, choose_threads(run)), done);
    st = create_workers(run);
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    st = create_blocks(run, &source);
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    phase_machine_start(&run->machine, &run->job.schedule, &run->length);
    MT_TRY_GOTO(st, resume_run(run, options), done);
done:
    source_close(&source);
    mt_free(&shards);
    return st;
}

void run_close(struct run *run)
{
    control_close(run, NULL);
    saver_release(&run->saver);
    phase_run_leave(run);
    trace_close(&run->trace);
    prefix_cache_close(&run->cache);
    mt_free(&run->cache_dir);
    prefetch_destroy(&run->prefetch);
    evaluator_destroy(&run->evaluator);
    pool_destroy(&run->pool);
    jsonl_close(&run->events);
    for (int32_t p = 0; run->plan != NULL && p < run->job.schedule.count; p++)
        phase_plan_release(&run->plan[p]);
    for (int32_t t = 0; t < MODEL_TASKS_MAX; t++)
        mt_free(&run->class_weight[t]);
    mt_free(&run->plan);
    mt_free(&run->steps_per_epoch);
    mt_free(&run->lane_rows);
    mt_free(&run->lane_work);
    mt_free(&run->params);
    mt_free(&run->adam_m);
    mt_free(&run->adam_v);
    mt_free(&run->adam_steps);
    mt_free(&run->setting);
    mt_free(&run->skip);
    model_folder_release(&run->about);
    model_release(&run->model);
    corpora_close(&run->corpora);
    vocab_close(&run->vocab);
    job_release(&run->job);
    log_set_dir(NULL);
    folder_lock_release(&run->lock);
}

void run_memory(const struct run *run, struct run_memory *out)
{
    memset(out, 0, sizeof *out);
    out->parameter_bytes = run->model.table.total * (int64_t)sizeof(float);
    out->moment_bytes = 2 * run->phase.owned.elements * (int64_t)sizeof(float);
    if (run->phase.lanes != NULL) {
        out->gradient_bytes = lanes_gradient_bytes(run->phase.lanes);
        out->activation_bytes = lanes_activation_bytes(run->phase.lanes);
    }
}
