/* mttrain predict: labels and probabilities of text lines, as JSON lines. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "comm/topology.h"
#include "io/json.h"
#include "trainer/apply.h"
#include "trainer/commands/arguments.h"
#include "trainer/source.h"

enum { CLASSES_MAX = FOLDER_LABELS_MAX };

struct predict {
    const struct source *source;
    int32_t only; /* task to show, -1 = all */
    struct json_writer json;
    double *probability; /* [most classes of a task] */
};

static void softmax(double *p, const float *logits, int32_t n)
{
    double top = logits[0], sum = 0.0;
    for (int32_t k = 1; k < n; k++)
        top = logits[k] > top ? logits[k] : top;
    for (int32_t k = 0; k < n; k++)
        sum += p[k] = exp((double)logits[k] - top);
    for (int32_t k = 0; k < n; k++)
        p[k] /= sum;
}

static void write_task(struct predict *p, const struct folder_task *task, const float *logits)
{
    int32_t best = 0;
    softmax(p->probability, logits, task->label_count);
    for (int32_t k = 1; k < task->label_count; k++)
        if (logits[k] > logits[best])
            best = k;
    json_write_object(&p->json, task->name);
    json_write_string(&p->json, "label", task->labels[best]);
    json_write_object(&p->json, "probabilities");
    for (int32_t k = 0; k < task->label_count; k++)
        json_write_real(&p->json, task->labels[k], p->probability[k]);
    json_write_end(&p->json);
    json_write_end(&p->json);
}

static mt_status write_rows(void *context, int64_t first, int32_t count, const char *const *lines,
                            const float *rows)
{
    struct predict *p = context;
    (void)first;
    for (int32_t i = 0; i < count; i++) {
        const char *text;
        int64_t bytes;
        json_writer_reset(&p->json);
        json_write_object(&p->json, NULL);
        json_write_string(&p->json, "text", lines[i]);
        for (int32_t t = 0; t < p->source->about.task_count; t++) {
            const struct folder_task *task = &p->source->about.tasks[t];
            if (p->only < 0 || p->only == t)
                write_task(p, task, rows);
            rows += task->label_count;
        }
        json_write_end(&p->json);
        MT_TRY(json_writer_finish(&p->json, &text, &bytes));
        if (fwrite(text, 1, (size_t)bytes, stdout) != (size_t)bytes || putchar('\n') == EOF)
            return MT_FAIL(MT_IO, "cannot write to standard output");
    }
    return MT_OK;
}

static mt_status find_task(const struct source *s, const char *name, int32_t *index)
{
    *index = -1;
    if (name == NULL)
        return MT_OK;
    for (int32_t t = 0; t < s->about.task_count; t++)
        if (strcmp(s->about.tasks[t].name, name) == 0)
            *index = t;
    if (*index < 0)
        return MT_FAIL(MT_ARG, "%s has no task \"%s\"", s->folder, name);
    return MT_OK;
}

static mt_status predict(const struct comm *world, const char *path, const char *task,
                         const char *file, int64_t threads)
{
    struct source source;
    struct model model = {0};
    struct predict p = {.source = &source};
    struct topology topology;
    float *params = NULL;
    mt_status st;
    MT_TRY_GOTO(st, source_open(&source, world, path), done);
    if (source.about.task_count == 0) {
        st = MT_FAIL(MT_DATA, "%s has no head to predict with; train one first", source.folder);
        goto done;
    }
    MT_TRY_GOTO(st, find_task(&source, task, &p.only), done);
    MT_TRY_GOTO(st, source_load(&source, world, NULL, &model, &params), done);
    MT_TRY_GOTO(st, topology_inspect(&topology, world), done);
    MT_TRY_GOTO(st, mt_alloc(&p.probability, CLASSES_MAX, sizeof(double), "probabilities"), done);
    struct apply_setup setup = {.world = world,
                                .model = &model,
                                .params = params,
                                .vocab = &source.vocab,
                                .max_tokens = source.about.max_tokens,
                                .threads = threads > 0 ? (int32_t)threads : topology.threads,
                                .output = APPLY_LOGITS,
                                .path = file};
    st = apply_run(&setup, write_rows, &p);
done:
    json_writer_release(&p.json);
    mt_free(&p.probability);
    mt_free(&params);
    model_release(&model);
    source_close(&source);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct text_list words = {0};
    const char *task = NULL;
    int64_t threads = 0;
    bool help;
    const struct argument table[] = {
        {"--task", "T", ARGUMENT_TEXT, &task, "only this task"},
        {"--threads", "N", ARGUMENT_INT, &threads, "of each rank (default: its cores)"},
        {NULL, "MODEL [FILE]", ARGUMENT_REST, &words,
         "a run, checkpoint or model folder with heads; text, a sentence a line (default: "
         "standard input)"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_predict, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (words.count < 1 || words.count > 2)
        st = MT_FAIL(MT_ARG, "predict needs a MODEL and at most one FILE");
    else
        st = predict(call->world, words.item[0], task, words.count == 2 ? words.item[1] : "-",
                     threads);
done:
    text_list_release(&words);
    return st;
}

const struct command command_predict = {
    "predict",
    "MODEL [--task T] [FILE]",
    "Text lines in, JSON lines out: the label and the probabilities of each task.",
    "echo \"the app crashes again\" | mttrain predict runs/quickstart",
    COMMAND_ALL,
    run};
