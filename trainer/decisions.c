/* See decisions.h. */
#include "trainer/decisions.h"

#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/file.h"

enum { FILE_MAX_BYTES = 16 << 20 };

static mt_status path_of(const struct run *run, char **path)
{
    return file_path_join(path, run->job.run_dir, "decisions.jsonl");
}

/* A recorded line: begun, filled in by the caller, ended. */
struct line {
    struct jsonl *log;
    char *path;
};

static mt_status line_begin(struct line *line, const struct run *run, const char *event,
                            struct json_writer **w)
{
    memset(line, 0, sizeof *line);
    MT_TRY(path_of(run, &line->path));
    MT_TRY(jsonl_open(&line->log, line->path));
    *w = jsonl_begin(line->log, event);
    return MT_OK;
}

static mt_status line_end(struct line *line)
{
    MT_TRY(jsonl_end(line->log));
    return file_sync(line->path);
}

static void line_release(struct line *line)
{
    jsonl_close(&line->log);
    mt_free(&line->path);
}

static mt_status append(const struct run *run, const char *event, const char *key, int64_t value,
                        int32_t phase, int64_t step)
{
    struct line line;
    struct json_writer *w;
    mt_status st;
    MT_TRY_GOTO(st, line_begin(&line, run, event, &w), done);
    json_write_int(w, "phase", phase);
    json_write_int(w, "step", step);
    json_write_int(w, key, value);
    st = line_end(&line);
done:
    line_release(&line);
    return st;
}

mt_status decisions_add_set(const struct run *run, const char *key, const char *value)
{
    struct line line;
    struct json_writer *w;
    mt_status st;
    MT_TRY_GOTO(st, line_begin(&line, run, "set", &w), done);
    json_write_int(w, "step", run->machine.step);
    json_write_string(w, "key", key);
    json_write_string(w, "value", value);
    st = line_end(&line);
done:
    line_release(&line);
    return st;
}

mt_status decisions_add_skip(const struct run *run, const struct run_skip *span)
{
    struct line line;
    struct json_writer *w;
    mt_status st;
    MT_TRY_GOTO(st, line_begin(&line, run, "skip", &w), done);
    json_write_int(w, "first", span->first);
    json_write_int(w, "last", span->last);
    st = line_end(&line);
done:
    line_release(&line);
    return st;
}

mt_status decisions_bytes(const struct run *run, int64_t *bytes)
{
    char *path;
    *bytes = 0;
    MT_TRY(path_of(run, &path));
    mt_status st = file_exists(path) ? file_size(bytes, path) : MT_OK;
    mt_free(&path);
    return st;
}

mt_status decisions_add_cache(const struct run *run, int32_t phase, bool use)
{
    return append(run, "cache", "use", use, phase, run->machine.step);
}

mt_status decisions_add_phase_end(const struct run *run, int32_t phase, int64_t step, int32_t by)
{
    return append(run, "phase_end", "by", by, phase, step);
}

mt_status decisions_forget(const struct run *run)
{
    char *path;
    MT_TRY(path_of(run, &path));
    mt_status st = file_remove(path);
    mt_free(&path);
    return st;
}

static mt_status take_skip(struct run *run, const struct json_node *line)
{
    int64_t first, last;
    if (!json_node_int(json_node_get(line, "first"), &first) ||
        !json_node_int(json_node_get(line, "last"), &last))
        return MT_OK;
    if (run->skip_count == run->skip_capacity) {
        int32_t grown = 2 * run->skip_capacity + 8;
        MT_TRY(mt_grow(&run->skip, run->skip_capacity, grown, sizeof *run->skip, "skipped steps"));
        run->skip_capacity = grown;
    }
    run->skip[run->skip_count++] = (struct run_skip){first, last};
    return MT_OK;
}

static mt_status take_setting(struct run *run, const struct json_node *line)
{
    const char *key = json_node_string(json_node_get(line, "key"));
    const char *value = json_node_string(json_node_get(line, "value"));
    int64_t step;
    if (key == NULL || value == NULL || !json_node_int(json_node_get(line, "step"), &step))
        return MT_OK;
    if (run->setting_count == run->setting_capacity) {
        int32_t grown = 2 * run->setting_capacity + 8;
        MT_TRY(mt_grow(&run->setting, run->setting_capacity, grown, sizeof *run->setting,
                       "recorded settings"));
        run->setting_capacity = grown;
    }
    struct run_setting *s = &run->setting[run->setting_count++];
    s->step = step;
    (void)snprintf(s->key, sizeof s->key, "%s", key);
    (void)snprintf(s->value, sizeof s->value, "%s", value);
    return MT_OK;
}

static void take_phase_end(struct run *run, int32_t phase, int64_t step, int64_t by)
{
    if (phase < run->machine.phase || run->machine.finished || by <= ENDED_NOT || by > ENDED_RUN)
        return;
    if (step > run->machine.step) {
        phase_machine_honour(&run->machine, phase, step, (enum phase_end)by);
    } else if (step == run->machine.step && phase == run->machine.phase && by == ENDED_COMMAND) {
        /* the checkpoint was written at this very step, before the command came */
        phase_machine_end_now(&run->machine, &run->job.schedule, &run->length, ENDED_COMMAND);
        run->eval_pending = true;
    }
}

static mt_status take_line(struct run *run, const struct json_node *line)
{
    const char *event = json_node_string(json_node_get(line, "event"));
    int64_t phase, value, step;
    if (event != NULL && strcmp(event, "skip") == 0)
        return take_skip(run, line);
    if (event != NULL && strcmp(event, "set") == 0)
        return take_setting(run, line);
    if (event == NULL || !json_node_int(json_node_get(line, "phase"), &phase) || phase < 0 ||
        phase >= run->job.schedule.count)
        return MT_OK;
    if (strcmp(event, "cache") == 0 && json_node_int(json_node_get(line, "use"), &value))
        run->cache_use[phase] = value != 0 ? CACHE_USED : CACHE_UNUSED;
    if (strcmp(event, "phase_end") == 0 && json_node_int(json_node_get(line, "by"), &value) &&
        json_node_int(json_node_get(line, "step"), &step))
        take_phase_end(run, (int32_t)phase, step, value);
    return MT_OK;
}

static mt_status take_lines(struct run *run, char *text)
{
    mt_status st = MT_OK;
    run->skip_count = run->setting_count = 0;
    for (char *line = text, *end; st == MT_OK && line != NULL && *line != '\0'; line = end) {
        struct json_doc *doc = NULL;
        end = strchr(line, '\n');
        if (end != NULL)
            *end++ = '\0';
        if (json_doc_parse(&doc, line, (int64_t)strlen(line), "decisions.jsonl") == MT_OK)
            st = take_line(run, json_doc_root(doc));
        else
            mt_error_clear();
        json_doc_destroy(&doc);
    }
    return st;
}

mt_status decisions_honour(struct run *run)
{
    char *path = NULL, *text = NULL;
    int64_t bytes = 0;
    mt_status st = MT_OK;
    if (run->world->rank == 0) {
        st = path_of(run, &path);
        if (st == MT_OK && file_exists(path))
            st = file_read(&text, &bytes, path, FILE_MAX_BYTES);
        mt_free(&path);
    }
    MT_TRY(comm_agree(run->world, st));
    void *blob = text;
    st = comm_broadcast_blob(run->world, &blob, &bytes, 0);
    if (st == MT_OK && blob != NULL)
        st = take_lines(run, blob);
    mt_free(&blob);
    return comm_agree(run->world, st);
}
