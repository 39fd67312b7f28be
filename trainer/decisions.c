/* See decisions.h. */
#include "trainer/decisions.h"

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

static mt_status append(const struct run *run, const char *event, const char *key, int64_t value,
                        int32_t phase, int64_t step)
{
    struct jsonl *log = NULL;
    char *path = NULL;
    mt_status st;
    MT_TRY_GOTO(st, path_of(run, &path), done);
    MT_TRY_GOTO(st, jsonl_open(&log, path), done);
    struct json_writer *w = jsonl_begin(log, event);
    json_write_int(w, "phase", phase);
    json_write_int(w, "step", step);
    json_write_int(w, key, value);
    MT_TRY_GOTO(st, jsonl_end(log), done);
    st = file_sync(path);
done:
    jsonl_close(&log);
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

static void take_line(struct run *run, const struct json_node *line)
{
    const char *event = json_node_string(json_node_get(line, "event"));
    int64_t phase, value, step;
    if (event == NULL || !json_node_int(json_node_get(line, "phase"), &phase) || phase < 0 ||
        phase >= run->job.schedule.count)
        return;
    if (strcmp(event, "cache") == 0 && json_node_int(json_node_get(line, "use"), &value))
        run->cache_use[phase] = value != 0 ? CACHE_USED : CACHE_UNUSED;
    if (strcmp(event, "phase_end") == 0 && json_node_int(json_node_get(line, "by"), &value) &&
        json_node_int(json_node_get(line, "step"), &step) && step > run->machine.step &&
        phase >= run->machine.phase)
        phase_machine_honour(&run->machine, (int32_t)phase, step, (enum phase_end)value);
}

static void take_lines(struct run *run, char *text)
{
    for (char *line = text, *end; line != NULL && *line != '\0'; line = end) {
        struct json_doc *doc = NULL;
        end = strchr(line, '\n');
        if (end != NULL)
            *end++ = '\0';
        if (json_doc_parse(&doc, line, (int64_t)strlen(line), "decisions.jsonl") == MT_OK)
            take_line(run, json_doc_root(doc));
        else
            mt_error_clear();
        json_doc_destroy(&doc);
    }
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
        take_lines(run, blob);
    mt_free(&blob);
    return st;
}
