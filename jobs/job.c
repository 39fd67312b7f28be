/*
 * See job.h.  Reading is the table's work (job_options.c); here stands what a table cannot say:
 * what one key demands of another.
 */
#include "jobs/job.h"

#include <math.h>
#include <string.h>

#include "comm/base/memory.h"
#include "schedules/metric.h"

void job_task_names(const struct job *job, const char *names[JOB_TASKS_MAX])
{
    for (int32_t i = 0; i < job->task_count; i++)
        names[i] = job->tasks[i].name;
}

void job_data_names(const struct job *job, const char *names[JOB_DATA_MAX])
{
    for (int32_t i = 0; i < job->data_count; i++)
        names[i] = job->data[i].name;
}

/* Names become parts of file, tensor and metric names. */
static bool is_plain_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return n > 0 && n < 64 && name[n] == '\0' && name[0] != '-';
}

static mt_status check_data(const struct config *c, const struct job *job)
{
    char key[64];
    if (job->data_count == 0)
        return config_fail(c, "data",
                           "no data set: data = ( { name = \"...\"; train = [ ... ]; } )");
    for (int32_t i = 0; i < job->data_count; i++) {
        const struct job_data *d = &job->data[i];
        (void)snprintf(key, sizeof key, "data[%d].name", i);
        if (!is_plain_name(d->name))
            return config_fail(c, key, "\"%.80s\": use letters, digits, _ and -, at most 63",
                               d->name);
        for (int32_t k = 0; k < i; k++)
            if (strcmp(job->data[k].name, d->name) == 0)
                return config_fail(c, key, "a second data set named \"%s\"", d->name);
        (void)snprintf(key, sizeof key, "data[%d].delimiter", i);
        if (d->delimiter != NULL && strlen(d->delimiter) != 1)
            return config_fail(c, key, "expected one character, got \"%.80s\"", d->delimiter);
    }
    return MT_OK;
}

/* Finds the task's data set and fills in what it leaves out. */
static mt_status complete_task(const struct config *c, struct job *job, int32_t i)
{
    struct job_task *t = &job->tasks[i];
    const char *names[JOB_DATA_MAX];
    char key[64];
    job_data_names(job, names);
    (void)snprintf(key, sizeof key, "tasks[%d].data", i);
    if (t->column == NULL)
        MT_TRY(mt_strdup(&t->column, t->name));
    if (t->data == NULL && job->data_count > 1)
        return config_fail(c, key, "is missing: there are %d data sets, name one", job->data_count);
    if (t->data == NULL)
        MT_TRY(mt_strdup(&t->data, names[0]));
    for (t->set = 0; t->set < job->data_count; t->set++)
        if (strcmp(names[t->set], t->data) == 0)
            return MT_OK;
    const char *near = text_nearest(t->data, names, job->data_count);
    return config_fail(c, key, "there is no data set named \"%.80s\"%s%s%s", t->data,
                       near == NULL ? "" : ", did you mean \"", near == NULL ? "" : near,
                       near == NULL ? "" : "\"?");
}

static mt_status check_labels(const struct config *c, const struct job_task *t, int32_t i)
{
    char key[64];
    (void)snprintf(key, sizeof key, "tasks[%d].labels", i);
    if (t->labels.count == 1)
        return config_fail(c, key, "a classification needs at least two labels");
    for (int32_t a = 0; a < t->labels.count; a++) {
        if (t->labels.item[a][0] == '\0')
            return config_fail(c, key, "an empty label: a row without a label has an empty field");
        for (int32_t b = 0; b < a && t->labels.count <= 4096; b++)
            if (strcmp(t->labels.item[a], t->labels.item[b]) == 0)
                return config_fail(c, key, "the label \"%.80s\" stands twice", t->labels.item[a]);
    }
    (void)snprintf(key, sizeof key, "tasks[%d].class_weights", i);
    if (t->class_weights.count > 0 && t->labels.count == 0)
        return config_fail(c, key, "needs labels, since the weights stand in their order");
    if (t->class_weights.count > 0 && t->class_weights.count != t->labels.count)
        return config_fail(c, key, "%d weights for %d labels", t->class_weights.count,
                           t->labels.count);
    return MT_OK;
}

static mt_status check_tasks(const struct config *c, struct job *job)
{
    char key[64];
    if (job->task_count == 0)
        return config_fail(c, "tasks", "no task: tasks = ( { name = \"...\"; } )");
    for (int32_t i = 0; i < job->task_count; i++) {
        const struct job_task *t = &job->tasks[i];
        (void)snprintf(key, sizeof key, "tasks[%d].name", i);
        if (!is_plain_name(t->name))
            return config_fail(c, key, "\"%.80s\": use letters, digits, _ and -, at most 63",
                               t->name);
        for (int32_t k = 0; k < i; k++)
            if (strcmp(job->tasks[k].name, t->name) == 0)
                return config_fail(c, key, "a second task named \"%s\"", t->name);
        (void)snprintf(key, sizeof key, "tasks[%d].kind", i);
        if (strcmp(t->kind, "classification") != 0)
            return config_fail(c, key, "expected \"classification\", got \"%.80s\"", t->kind);
        MT_TRY(complete_task(c, job, i));
        MT_TRY(check_labels(c, t, i));
    }
    return MT_OK;
}

int32_t job_wire_groups(const struct job *job)
{
    int64_t groups = job->wire_groups > 0 ? job->wire_groups : job->batch.lanes;
    return job->wire == JOB_WIRE_BF16 ? (int32_t)groups : 0;
}

static mt_status check_wire(const struct config *c, const struct job *job)
{
    int64_t groups = job->wire_groups;
    if ((groups & (groups - 1)) != 0 || groups > job->batch.lanes)
        return config_fail(c, "wire_groups",
                           "expected a power of two that is at most batch.lanes = %lld, got %lld",
                           (long long)job->batch.lanes, (long long)groups);
    if (job->wire == JOB_WIRE_BF16 && job->reduction == JOB_REDUCTION_MPI)
        return config_fail(c, "wire",
                           "\"bf16\" needs reduction = \"exact\": the library's own collectives "
                           "add in fp32 only");
    return MT_OK;
}

static mt_status check_batch(const struct config *c, const struct job *job)
{
    const struct job_batch *b = &job->batch;
    const char *names[JOB_DATA_MAX];
    job_data_names(job, names);
    if ((b->lanes & (b->lanes - 1)) != 0)
        return config_fail(c, "batch.lanes", "expected a power of two, got %lld",
                           (long long)b->lanes);
    if (b->lanes > b->sentences)
        return config_fail(c, "batch.lanes",
                           "%lld lanes for %lld sentences: a lane needs at least one; lower "
                           "batch.lanes or raise batch.sentences",
                           (long long)b->lanes, (long long)b->sentences);
    if (b->sampling == SAMPLING_INHERIT)
        return config_fail(c, "batch.sampling", "\"inherit\" has a meaning in phases only");
    if (b->sampling == SAMPLING_EXPLICIT && b->weights.count == 0)
        return config_fail(c, "batch.weights", "is missing: sampling is \"explicit\"");
    double sum = b->weights.count == 0 ? 1 : 0;
    for (int32_t i = 0; i < b->weights.count; i++) {
        bool known = false;
        for (int32_t k = 0; k < job->data_count; k++)
            known = known || strcmp(names[k], b->weights.name[i]) == 0;
        if (!known)
            return config_fail(c, "batch.weights", "there is no data set named \"%.80s\"",
                               b->weights.name[i]);
        sum += b->weights.value[i];
    }
    return sum > 0 ? MT_OK : config_fail(c, "batch.weights", "all weights are 0");
}

static mt_status check_train(const struct config *c, const struct job *job)
{
    const struct job_train *t = &job->train;
    const struct {
        const char *key;
        struct duration d;
    } cadences[] = {{"train.eval_every", t->eval_every},
                    {"train.save_every", t->save_every},
                    {"train.log_every", t->log_every}};
    for (int i = 0; i < 3; i++)
        if (cadences[i].d.unit == DURATION_PHASE || !(cadences[i].d.amount > 0))
            return config_fail(c, cadences[i].key,
                               "expected a duration above 0 in st, ep, run, tok or a time");
    if (t->eval_every.unit == DURATION_SECONDS)
        return config_fail(c, "train.eval_every",
                           "evaluations decide about the run, so they cannot depend on the clock; "
                           "use st, ep, run or tok");
    if (!(t->epochs > 0) && t->max_steps == 0)
        return config_fail(c, "train.epochs", "neither epochs nor max_steps bounds the run");
    struct metric m;
    if (!metric_parse(&m, t->best))
        return config_fail(c, "train.best",
                           "expected dev.TASK.KIND or mean(dev.KIND) with KIND one of loss, "
                           "accuracy, f1_macro, mcc, got \"%.80s\"",
                           t->best);
    for (int32_t i = 0; m.over == METRIC_ONE && i <= job->task_count; i++) {
        if (i == job->task_count)
            return config_fail(c, "train.best", "there is no task named \"%s\"", m.task);
        if (strcmp(job->tasks[i].name, m.task) == 0)
            break;
    }
    return MT_OK;
}

static mt_status check_rest(const struct config *c, struct job *job)
{
    const struct job_optimizer *o = &job->optimizer;
    if (strcmp(o->kind, "adamw") != 0)
        return config_fail(c, "optimizer.kind", "expected \"adamw\", got \"%.80s\"", o->kind);
    if (o->betas.count != 2)
        return config_fail(c, "optimizer.betas", "expected two numbers, got %d", o->betas.count);
    if (o->shape == SHAPE_INHERIT)
        return config_fail(c, "optimizer.shape", "\"inherit\" has a meaning in phases only");
    if (o->warmup.unit == DURATION_SECONDS || o->warmup.unit == DURATION_TOKENS)
        return config_fail(c, "optimizer.warmup", "give it in st, ep, run or phase");
    if (o->decay.unit == DURATION_SECONDS || o->decay.unit == DURATION_TOKENS)
        return config_fail(c, "optimizer.decay", "give it in st, ep, run or phase");
    if (job->cache.mode == CACHE_INHERIT)
        return config_fail(c, "cache.mode", "\"inherit\" has a meaning in phases only");
    bool random = strcmp(job->model.init, "random") == 0;
    if (random && job->model.vocab == NULL)
        return config_fail(c, "model.vocab", "is missing: model.init is \"random\"");
    if (!random && job->model.config.count > 0)
        return config_fail(c, "model.config",
                           "is for init = \"random\" only; the sizes of this model stand in its "
                           "own config.json");
    for (int32_t i = 0; job->frozen_head != NULL && i <= job->task_count; i++) {
        if (i == job->task_count)
            return config_fail(c, "frozen_head", "there is no task named \"%.80s\"",
                               job->frozen_head);
        if (strcmp(job->tasks[i].name, job->frozen_head) == 0)
            break;
    }
    return MT_OK;
}

/* "runs/NAME" beside the job file, NAME being the file's name without folder and ".cfg". */
static mt_status complete_names(const struct config *c, struct job *job)
{
    MT_TRY(mt_strdup(&job->file, config_file(c)));
    MT_TRY(mt_strdup(&job->folder, config_folder(c)));
    if (job->name == NULL) {
        const char *slash = strrchr(job->file, '/');
        MT_TRY(mt_strdup(&job->name, slash == NULL ? job->file : slash + 1));
        char *dot = strrchr(job->name, '.');
        if (dot != NULL && dot > job->name)
            *dot = '\0';
    }
    if (strchr(job->name, '/') != NULL || job->name[0] == '.')
        return config_fail(c, "name", "\"%.80s\": a name has no / and does not begin with a dot",
                           job->name);
    if (job->run_dir == NULL) {
        struct text t = {0};
        text_printf(&t, "%s%sruns/%s", job->folder, job->folder[0] == '\0' ? "" : "/", job->name);
        MT_TRY(text_finish(&t, &job->run_dir));
    }
    if (job->frozen_head == NULL)
        MT_TRY(mt_strdup(&job->frozen_head, job->tasks[job->task_count - 1].name));
    return MT_OK;
}

static mt_status check_phases(const struct config *c, const struct job *job)
{
    const char *tasks[JOB_TASKS_MAX], *data[JOB_DATA_MAX];
    job_task_names(job, tasks);
    job_data_names(job, data);
    for (int32_t i = 0; i < job->schedule.count; i++)
        if (job->schedule.phase[i].sentences < job->batch.lanes) {
            char key[64];
            (void)snprintf(key, sizeof key, "phases[%d].sentences", i);
            return config_fail(c, key, "%lld sentences for %lld lanes: a lane needs at least one",
                               (long long)job->schedule.phase[i].sentences,
                               (long long)job->batch.lanes);
        }
    return schedule_check(&job->schedule, tasks, job->task_count, data, job->data_count);
}

static mt_status complete(const struct config *c, struct job *job)
{
    MT_TRY(check_data(c, job));
    MT_TRY(check_tasks(c, job));
    MT_TRY(check_batch(c, job));
    MT_TRY(check_wire(c, job));
    MT_TRY(check_train(c, job));
    MT_TRY(check_rest(c, job));
    MT_TRY(complete_names(c, job));
    const struct job_optimizer *o = &job->optimizer;
    const struct schedule_defaults d = {.lr = o->lr,
                                        .weight_decay = o->weight_decay,
                                        .layer_decay = o->layer_decay,
                                        .final_lr = o->final_lr,
                                        .power = o->power,
                                        .shape = o->shape,
                                        .sampling = job->batch.sampling,
                                        .cache = job->cache.mode,
                                        .warmup = o->warmup,
                                        .decay = o->decay,
                                        .temperature = job->batch.temperature,
                                        .weights = &job->batch.weights,
                                        .sentences = job->batch.sentences,
                                        .frozen_head = job->frozen_head};
    MT_TRY(schedule_complete(&job->schedule, &d));
    return check_phases(c, job);
}

mt_status job_load(struct job *out, const char *bundle, const char *const *overrides,
                   int32_t override_count)
{
    struct config *c = NULL;
    struct job job;
    MT_TRY(config_parse(&c, bundle, overrides, override_count));
    mt_status st = options_parse(&job_options, &job, c, config_root(c));
    if (st == MT_OK) {
        st = complete(c, &job);
        if (st == MT_OK)
            *out = job;
        else
            job_release(&job);
    }
    config_close(&c);
    return st;
}

void job_release(struct job *job)
{
    mt_free(&job->file);
    mt_free(&job->folder);
    options_release(&job_options, job);
}

mt_status job_print(const struct job *job, char **text)
{
    struct text t = {0};
    text_printf(&t, "// The effective job, every key, of %s\n", job->file);
    options_print(&job_options, job, &t);
    return text_finish(&t, text);
}

mt_status job_hash(const struct job *job, enum option_class least, uint64_t *out)
{
    return options_hash(&job_options, job, least, out);
}

mt_status job_document(char **markdown)
{
    struct text t = {0};
    options_document(&job_options, "The keys of a job file", &t);
    return text_finish(&t, markdown);
}
