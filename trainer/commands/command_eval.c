/*
 * mttrain eval: metrics of a model on labelled data, exact at any rank count.
 *
 * Without --data a run is evaluated on the data of its own job; with it, tables are packed into a
 * scratch folder with the model's own vocabulary and labels, and shards are used as they are. Where
 * NAME is a data set of the run's job, its tables are read as that job reads them; options of the
 * command line come before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "comm/topology.h"
#include "io/file.h"
#include "io/json.h"
#include "io/pack.h"
#include "schedules/config.h"
#include "trainer/commands/arguments.h"
#include "trainer/evaluate.h"
#include "trainer/run.h"
#include "trainer/source.h"

struct eval {
    const struct comm *world;
    const char *model_path, *split_text, *text_column, *pair_column, *format, *delimiter;
    struct text_list data, labels;
    bool headerless, json;
    int64_t threads;
    enum split split;
    enum text_kind kind; /* of --format */
    struct source source;
    struct model model;
    float *params;
    struct pool *pool;
};

static void print_confusion(const struct eval *e, const struct eval_result *r)
{
    const struct folder_task *task = &e->source.about.tasks[r->task];
    printf("    rows: label, columns: prediction\n    %16s", "");
    for (int32_t k = 0; k < task->label_count; k++)
        printf(" %10.10s", task->labels[k]);
    printf("\n");
    for (int32_t i = 0; i < task->label_count; i++) {
        printf("    %16.16s", task->labels[i]);
        for (int32_t k = 0; k < task->label_count; k++)
            printf(" %10lld", (long long)r->confusion[(int64_t)i * task->label_count + k]);
        printf("\n");
    }
}

static mt_status print_json(const struct eval *e, const char *name, const struct eval_result *r)
{
    struct json_writer w = {0};
    const char *text;
    int64_t bytes;
    json_write_object(&w, NULL);
    json_write_string(&w, "data", name);
    json_write_string(&w, "split", split_name(e->split));
    json_write_string(&w, "task", e->source.about.tasks[r->task].name);
    json_write_int(&w, "sentences", r->metrics.count);
    json_write_real(&w, "loss", r->loss);
    json_write_real(&w, "accuracy", r->metrics.accuracy);
    json_write_real(&w, "f1_macro", r->metrics.f1_macro);
    json_write_real(&w, "mcc", r->metrics.mcc);
    json_write_end(&w);
    mt_status st = json_writer_finish(&w, &text, &bytes);
    if (st == MT_OK)
        printf("%s\n", text);
    json_writer_release(&w);
    return st;
}

static mt_status evaluate(const struct eval *e, const struct corpora *corpora, const char *name)
{
    enum { CONFUSION_SHOWN_MAX = 12 };
    struct evaluator *evaluator = NULL;
    struct task_loss loss[MODEL_TASKS_MAX] = {0};
    const struct eval_result *results;
    int32_t count;
    mt_status st;
    for (int32_t t = 0; t < e->model.task_count; t++)
        loss[t] = (struct task_loss){.active = true, .weight = (real)1};
    struct evaluator_setup setup = {
        .world = e->world, .model = &e->model, .corpora = corpora, .pool = e->pool, .loss = loss};
    MT_ALL(e->world, evaluator_create(&evaluator, &setup));
    MT_TRY_GOTO(st, evaluator_run(evaluator, e->split, e->params, NULL, &results, &count), done);
    if (count == 0) {
        st = MT_FAIL(MT_DATA, "%s (%s) has no labelled sentence for any task of the model", name,
                     split_name(e->split));
        goto done;
    }
    for (int32_t i = 0; i < count && e->world->rank == 0 && st == MT_OK; i++) {
        const struct eval_result *r = &results[i];
        if (e->json) {
            st = print_json(e, name, r);
            continue;
        }
        printf("%-16s %-6s %-20s %8lld sentences  loss %.4f  accuracy %.4f  f1_macro %.4f  mcc "
               "%.4f\n",
               name, split_name(e->split), e->source.about.tasks[r->task].name,
               (long long)r->metrics.count, r->loss, r->metrics.accuracy, r->metrics.f1_macro,
               r->metrics.mcc);
        if (r->confusion != NULL && e->model.task[r->task].classes <= CONFUSION_SHOWN_MAX)
            print_confusion(e, r);
    }
done:
    evaluator_destroy(&evaluator);
    return st;
}

/* The column of a task: as --label says, else as the job does, else the one of the task's own name;
 * NULL = none. */
static const char *find_column(const struct eval *e, const struct corpora_packing *job,
                               const struct text_table *table, const char *task)
{
    size_t n = strlen(task);
    for (int32_t i = 0; i < e->labels.count; i++)
        if (strncmp(e->labels.item[i], task, n) == 0 && e->labels.item[i][n] == '=')
            return e->labels.item[i] + n + 1;
    for (int32_t i = 0; i < job->options.label_count; i++)
        if (strcmp(job->label[i].task, task) == 0)
            return job->label[i].column;
    for (int32_t i = 0; i < text_table_column_count(table); i++)
        if (strcmp(text_table_column_name(table, i), task) == 0)
            return task;
    return NULL;
}

/* Root.  How the run's own job reads its data set of that name; nothing where there is none. */
static mt_status read_job(const struct eval *e, const char *name, struct job *job,
                          struct corpora_packing *p)
{
    char *path = NULL, *bundle = NULL;
    mt_status st;
    MT_TRY_GOTO(st, file_path_join(&path, e->model_path, "job.cfg"), done);
    if (!file_exists(path))
        goto done;
    MT_TRY_GOTO(st, config_bundle_read(&bundle, path), done);
    MT_TRY_GOTO(st, job_load(job, bundle, NULL, 0), done);
    for (int32_t set = 0; set < job->data_count; set++)
        if (strcmp(job->data[set].name, name) == 0)
            corpora_describe_packing(p, NULL, job, set);
done:
    mt_free(&path);
    mt_free(&bundle);
    return st;
}

static void choose_options(const struct eval *e, struct pack_options *o)
{
    o->max_tokens = e->source.about.max_tokens;
    o->text_column = e->text_column != NULL ? e->text_column : o->text_column;
    o->pair_column = e->pair_column != NULL ? e->pair_column : o->pair_column;
    o->format.kind = e->format != NULL ? e->kind : o->format.kind;
    o->format.headerless |= e->headerless;
    o->format.delimiter = e->delimiter != NULL ? e->delimiter[0] : o->format.delimiter;
}

/* Root.  Packs the files of one --data into folder. */
static mt_status pack_data(const struct eval *e, const char *name, const char *const *files,
                           int32_t count, const char *folder)
{
    struct pack_label label[FOLDER_TASKS_MAX];
    struct text_table *table = NULL;
    struct job job = {0};
    struct corpora_packing p = {0};
    int32_t labels = 0;
    mt_status st;
    MT_TRY_GOTO(st, read_job(e, name, &job, &p), done);
    choose_options(e, &p.options);
    MT_TRY_GOTO(st, text_table_open(&table, files[0], &p.options.format), done);
    for (int32_t t = 0; t < e->source.about.task_count; t++) {
        const struct folder_task *task = &e->source.about.tasks[t];
        const char *column = find_column(e, &p, table, task->name);
        if (column != NULL)
            label[labels++] = (struct pack_label){
                task->name, column, (const char *const *)task->labels, task->label_count};
    }
    if (labels == 0) {
        st = MT_FAIL(MT_ARG,
                     "%s has no column named after a task of the model (%s ...); name one "
                     "with --label TASK=COLUMN",
                     files[0], e->source.about.tasks[0].name);
        goto done;
    }
    p.options.labels = label;
    p.options.label_count = labels;
    st = pack_files(&p.options, &e->source.vocab, files, count, folder, NULL);
done:
    text_table_close(&table);
    job_release(&job);
    return st;
}

static mt_status open_corpora(const struct eval *e, const char *const *paths, int32_t count,
                              const char *name, struct corpora *c)
{
    memset(c->column, -1, sizeof c->column);
    c->set_count = 1;
    MT_TRY(dataset_open(&c->set[e->split][0], name, paths, count));
    MT_TRY(dataset_check_vocab(c->set[e->split][0], vocab_hash(&e->source.vocab),
                               e->source.vocab.count, e->model_path));
    for (int32_t t = 0; t < e->model.task_count; t++)
        c->column[e->split][0][t] = dataset_find_task(c->set[e->split][0], e->model.task[t].name);
    c->task_count = e->model.task_count;
    return MT_OK;
}

/* Collective.  Evaluates on shards or packed folders. */
static mt_status evaluate_packed(const struct eval *e, const char *name, const char *const *paths,
                                 int32_t count)
{
    struct corpora *corpora = NULL;
    MT_ALL(e->world, mt_alloc(&corpora, 1, sizeof *corpora, "data sets"));
    mt_status st = comm_agree(e->world, open_corpora(e, paths, count, name, corpora));
    if (st == MT_OK)
        st = evaluate(e, corpora, name);
    corpora_close(corpora);
    mt_free(&corpora);
    return st;
}

/* Collective.  Packs tables into a scratch folder that goes away, and evaluates on that. */
static mt_status evaluate_tables(const struct eval *e, const char *name, const char *const *files,
                                 int32_t count)
{
    char scratch[512], folder[600];
    const char *tmp = getenv("TMPDIR"), *paths[] = {folder};
    mt_status st = MT_OK;
    (void)snprintf(scratch, sizeof scratch, "%.400s/mttrain-eval-XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    if (e->world->rank == 0) {
        if (mkdtemp(scratch) == NULL)
            st = MT_FAIL(MT_IO, "cannot make a scratch folder %s; set TMPDIR", scratch);
        (void)snprintf(folder, sizeof folder, "%s/data", scratch);
        if (st == MT_OK)
            st = pack_data(e, name, files, count, folder);
    }
    st = comm_agree(e->world, st);
    if (st == MT_OK)
        st = comm_broadcast(e->world, folder, sizeof folder, 0);
    if (st == MT_OK)
        st = evaluate_packed(e, name, paths, 1);
    struct mt_error kept;
    mt_error_get(&kept);
    if (e->world->rank == 0 && file_remove(scratch) != MT_OK)
        log_warning("%s", mt_error_peek()->message);
    return st == MT_OK ? MT_OK : mt_error_set(&kept);
}

/* One --data: "NAME=FILE" and further files. */
static mt_status evaluate_files(const struct eval *e, const char *const *words, int32_t count)
{
    enum { FILES_MAX = 1024 };
    const char *files[FILES_MAX], *equals = strchr(words[0], '=');
    const struct job_data any = {0};
    char name[64];
    if (equals == NULL || equals == words[0] || equals[1] == '\0' || count > FILES_MAX)
        return MT_FAIL(MT_ARG, "--data %s: expected NAME=FILE...", words[0]);
    (void)snprintf(name, sizeof name, "%.*s", (int)(equals - words[0]), words[0]);
    files[0] = equals + 1;
    for (int32_t i = 1; i < count; i++)
        files[i] = words[i];
    bool packed = corpora_is_packed(&any, files[0]);
    for (int32_t i = 1; i < count; i++)
        if (corpora_is_packed(&any, files[i]) != packed)
            return MT_FAIL(MT_ARG, "--data %s: shards and text tables in one list; use one kind",
                           words[0]);
    return packed ? evaluate_packed(e, name, files, count) : evaluate_tables(e, name, files, count);
}

/* The data of the job that made the run. */
static mt_status evaluate_run(const struct eval *e)
{
    struct run_options options = {.resume = "auto"};
    struct run *run = NULL;
    char *path = NULL, *shards = NULL;
    mt_status st;
    MT_TRY_GOTO(st, file_path_join(&path, e->model_path, "job.cfg"), done);
    MT_TRY_GOTO(st, file_path_join(&shards, e->model_path, "shards"), done);
    if (!file_exists(path)) {
        st = MT_FAIL(MT_ARG, "%s is not a run with a job.cfg; name data with --data NAME=FILE",
                     e->model_path);
        goto done;
    }
    MT_TRY_GOTO(st, comm_agree(e->world, mt_alloc(&run, 1, sizeof *run, "a run")), done);
    st = run_open_description(run, e->world, path, &options, shards);
    if (st == MT_OK)
        st = evaluate(e, &run->corpora, run->job.name);
    run_close(run);
done:
    mt_free(&run);
    mt_free(&path);
    mt_free(&shards);
    return st;
}

static mt_status eval(struct eval *e)
{
    struct topology topology;
    mt_status st;
    MT_TRY_GOTO(st, source_open(&e->source, e->world, e->model_path), done);
    if (e->source.about.task_count == 0) {
        st = MT_FAIL(MT_DATA, "%s has no head to evaluate; train one first", e->source.folder);
        goto done;
    }
    MT_TRY_GOTO(st, source_load(&e->source, e->world, NULL, &e->model, &e->params), done);
    MT_TRY_GOTO(st, topology_inspect(&topology, e->world), done);
    int32_t threads = e->threads > 0 ? (int32_t)e->threads : topology.threads;
    MT_TRY_GOTO(st, comm_agree(e->world, pool_create(&e->pool, threads)), done);
    if (e->data.count == 0)
        st = evaluate_run(e);
    for (int32_t i = 0; i < e->data.count && st == MT_OK;) {
        int32_t count = 1;
        while (i + count < e->data.count && strchr(e->data.item[i + count], '=') == NULL)
            count++;
        st = evaluate_files(e, e->data.item + i, count);
        i += count;
    }
done:
    pool_destroy(&e->pool);
    mt_free(&e->params);
    model_release(&e->model);
    source_close(&e->source);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct text_list models = {0};
    struct eval e = {.world = call->world, .split_text = "dev"};
    bool help;
    const struct argument table[] = {
        {"--data", "NAME=FILE...", ARGUMENT_FILES, &e.data,
         "labelled tables or shards; may be repeated (default: the data of the run's own job; a "
         "NAME of that job is read as the job reads it)"},
        {"--split", "S", ARGUMENT_TEXT, &e.split_text, "train, dev or test (default dev)"},
        {"--text-column", "C", ARGUMENT_TEXT, &e.text_column, "column of the text"},
        {"--pair-column", "C", ARGUMENT_TEXT, &e.pair_column, "column of a second text"},
        {"--label", "TASK=COLUMN", ARGUMENT_LIST, &e.labels,
         "label column of a task (default: as in the job, or the column of the task's name)"},
        {"--format", "F", ARGUMENT_TEXT, &e.format, "tsv, csv or jsonl (default: by the ending)"},
        {"--delimiter", "C", ARGUMENT_TEXT, &e.delimiter, "between fields"},
        {"--no-header", NULL, ARGUMENT_FLAG, &e.headerless, "columns are named 0, 1, ..."},
        {"--threads", "N", ARGUMENT_INT, &e.threads, "of each rank (default: its cores)"},
        {"--json", NULL, ARGUMENT_FLAG, &e.json, "one JSON object a line"},
        {NULL, "MODEL", ARGUMENT_REST, &models, "a run, checkpoint or model folder with heads"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_eval, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (models.count != 1) {
        st = MT_FAIL(MT_ARG, "eval needs one MODEL");
        goto done;
    }
    if (!split_parse(&e.split, e.split_text)) {
        st = MT_FAIL(MT_ARG, "--split %s: expected train, dev or test", e.split_text);
        goto done;
    }
    if (e.format != NULL && !text_kind_parse(&e.kind, e.format)) {
        st = MT_FAIL(MT_ARG, "--format %s: expected auto, tsv, csv or jsonl", e.format);
        goto done;
    }
    e.model_path = models.item[0];
    st = eval(&e);
done:
    text_list_release(&models);
    text_list_release(&e.data);
    text_list_release(&e.labels);
    return st;
}

const struct command command_eval = {
    "eval",
    "MODEL [--data NAME=FILE...]... [--split S]",
    "Metrics of each task on labelled data, exact at any rank count.",
    "mpirun -np 2 mttrain eval runs/quickstart --data new=new.tsv --text-column sentence",
    COMMAND_ALL,
    run};
