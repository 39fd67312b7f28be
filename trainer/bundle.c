/* See bundle.h. */
#include "trainer/bundle.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/json.h"

enum { VERSION = 1, FILE_MAX_BYTES = 64 << 20, ROW_TEXT_BYTES = 512 };

static void write_samples(struct json_writer *w, const struct run *run,
                          const struct step_batch *batch)
{
    json_write_array(w, "samples");
    for (int32_t i = 0; i < batch->sentences && i < BUNDLE_SAMPLES_MAX; i++) {
        const struct sample *s = &batch->samples[i];
        char where[ROW_TEXT_BYTES] = "";
        dataset_locate(run->corpora.set[SPLIT_TRAIN][s->set], s->row, where, sizeof where);
        json_write_object(w, NULL);
        json_write_string(w, "data", run->job.data[s->set].name);
        json_write_int(w, "row", s->row);
        json_write_string(w, "where", where);
        json_write_end(w);
    }
    json_write_end(w);
}

static void write_losses(struct json_writer *w, const struct run *run,
                         const struct step_report *report)
{
    json_write_object(w, "losses");
    for (int32_t t = 0; t < run->model.task_count; t++)
        if (report->task[t].weight > 0.0)
            json_write_real(w, run->model.task[t].name,
                            report->task[t].loss / report->task[t].weight);
    json_write_end(w);
}

mt_status bundle_write(const struct run *run, const struct bundle *b,
                       const struct step_batch *batch, const struct step_report *report,
                       char path[BUNDLE_PATH_BYTES])
{
    struct json_writer w = {.indent = 1};
    const char *text;
    char *dir = NULL;
    int64_t bytes;
    mt_status st;
    MT_TRY_GOTO(st, file_path_join(&dir, run->job.run_dir, "bundles"), done);
    MT_TRY_GOTO(st, file_make_dir(dir), done);
    int n = snprintf(path, BUNDLE_PATH_BYTES, "%s/step-%08lld.json", dir, (long long)b->step);
    if (n < 0 || n >= BUNDLE_PATH_BYTES) {
        st = MT_FAIL(MT_ARG, "%.200s...: path too long", dir);
        goto done;
    }
    json_write_object(&w, NULL);
    json_write_string(&w, "format", "mttrain-bundle");
    json_write_int(&w, "version", VERSION);
    json_write_int(&w, "step", b->step);
    json_write_int(&w, "phase_index", b->phase);
    json_write_string(&w, "phase", b->phase_name);
    json_write_string(&w, "kind", b->kind);
    json_write_string(&w, "what", b->what);
    json_write_string(&w, "action", b->action);
    json_write_real(&w, "loss", b->loss);
    json_write_real(&w, "grad_norm", b->grad_norm);
    json_write_real(&w, "median", b->median);
    json_write_string(&w, "culprits", b->culprits);
    json_write_int(&w, "decisions_bytes", b->decisions_bytes);
    json_write_int(&w, "ranks", run->world->size);
    json_write_int(&w, "seed", run->job.seed);
    json_write_int(&w, "tokens", report->tokens);
    write_losses(&w, run, report);
    write_samples(&w, run, batch);
    json_write_end(&w);
    MT_TRY_GOTO(st, json_writer_finish(&w, &text, &bytes), done);
    st = file_write_atomic(path, text, bytes);
done:
    json_writer_release(&w);
    mt_free(&dir);
    return st;
}

static mt_status read_text(const struct json_node *root, const char *key, char *out, size_t bytes)
{
    const char *text;
    MT_TRY(json_read_string(root, key, &text));
    (void)snprintf(out, bytes, "%s", text);
    return MT_OK;
}

static mt_status read_root(struct bundle *b, const struct json_node *root, const char *path)
{
    int64_t version, phase;
    const char *format;
    MT_TRY(json_read_string(root, "format", &format));
    if (strcmp(format, "mttrain-bundle") != 0)
        return MT_FAIL(MT_DATA, "%s is no bundle (run_dir/bundles/step-N.json)", path);
    MT_TRY(json_read_int(root, "version", VERSION, VERSION, &version));
    MT_TRY(json_read_int(root, "step", 1, INT64_MAX, &b->step));
    MT_TRY(json_read_int(root, "phase_index", 0, SCHEDULE_PHASES, &phase));
    MT_TRY(json_read_int(root, "decisions_bytes", 0, INT64_MAX, &b->decisions_bytes));
    MT_TRY(json_read_real(root, "loss", &b->loss));
    MT_TRY(json_read_real(root, "grad_norm", &b->grad_norm));
    MT_TRY(json_read_real(root, "median", &b->median));
    MT_TRY(read_text(root, "phase", b->phase_name, sizeof b->phase_name));
    MT_TRY(read_text(root, "kind", b->kind, sizeof b->kind));
    MT_TRY(read_text(root, "what", b->what, sizeof b->what));
    MT_TRY(read_text(root, "action", b->action, sizeof b->action));
    MT_TRY(read_text(root, "culprits", b->culprits, sizeof b->culprits));
    b->phase = (int32_t)phase;
    return MT_OK;
}

mt_status bundle_read(struct bundle *out, const char *path)
{
    struct json_doc *doc = NULL;
    memset(out, 0, sizeof *out);
    MT_TRY(json_doc_read(&doc, path, FILE_MAX_BYTES));
    mt_status st = read_root(out, json_doc_root(doc), path);
    if (st != MT_OK)
        mt_error_prefix("%s", path);
    json_doc_destroy(&doc);
    return st;
}
