/* See run_state.h.  Written and read side by side; members that came later may be absent. */
#include "trainer/run_state.h"

#include <stdio.h>
#include <string.h>

enum { STATE_VERSION = 1 };

static void write_machine(struct json_writer *w, const struct run *run)
{
    int32_t phases = run->job.schedule.count;
    json_write_object(w, "machine");
    for (int32_t i = 0; i < phase_machine_field_count(phases); i++) {
        struct phase_field f;
        phase_machine_get(&run->machine, phases, i, &f);
        if (f.is_real)
            json_write_real(w, f.name, f.real);
        else
            json_write_int(w, f.name, f.integer);
    }
    json_write_end(w);
}

static mt_status read_machine(const struct json_node *root, struct run *run)
{
    int32_t phases = run->job.schedule.count;
    const struct json_node *node = json_node_get(root, "machine");
    for (int32_t i = 0; i < phase_machine_field_count(phases); i++) {
        struct phase_field f;
        phase_machine_get(&run->machine, phases, i, &f);
        if (f.is_real)
            MT_TRY(json_read_real(node, f.name, &f.real));
        else
            MT_TRY(json_read_int(node, f.name, INT64_MIN, INT64_MAX, &f.integer));
        if (!phase_machine_set(&run->machine, phases, &f))
            return MT_FAIL(MT_BUG, "phase machine refuses field %s", f.name);
    }
    return phase_machine_check(&run->machine, &run->job.schedule);
}

static void write_evals(struct json_writer *w, const struct run *run)
{
    json_write_array(w, "evals");
    for (int32_t s = 0; s < SPLIT_COUNT; s++) {
        for (int32_t t = 0; t < run->job.task_count; t++) {
            if (!run->evals.known[s][t])
                continue;
            json_write_object(w, NULL);
            json_write_int(w, "split", s);
            json_write_int(w, "task", t);
            json_write_reals(w, "values", run->evals.value[s][t], METRIC_KINDS);
            json_write_end(w);
        }
    }
    json_write_end(w);
}

static mt_status read_evals(const struct json_node *root, struct run *run)
{
    const struct json_node *list = json_node_get(root, "evals");
    for (int64_t i = 0; i < json_node_count(list); i++) {
        const struct json_node *one = json_node_at(list, i);
        int64_t s, t;
        MT_TRY(json_read_int(one, "split", 0, SPLIT_COUNT - 1, &s));
        MT_TRY(json_read_int(one, "task", 0, run->job.task_count - 1, &t));
        MT_TRY(json_read_reals(one, "values", run->evals.value[s][t], METRIC_KINDS));
        run->evals.known[s][t] = true;
    }
    return MT_OK;
}

static void write_products(struct json_writer *w, const struct run *run)
{
    struct products_record r = products_record_of(&run->model);
    json_write_object(w, "products");
    json_write_string(w, "fp32", r.fp32);
    json_write_string(w, "bf16", r.bf16);
    json_write_end(w);
}

/* A state that says nothing, or the name of a library unknown here, leaves the choice. */
static mt_status read_products(const struct json_node *root, struct products_record *r)
{
    const struct json_node *node = json_node_get(root, "products");
    const char *fp32, *bf16;
    *r = (struct products_record){0};
    if (node == NULL)
        return MT_OK;
    MT_TRY(json_read_string(node, "fp32", &fp32));
    MT_TRY(json_read_string(node, "bf16", &bf16));
    (void)snprintf(r->fp32, sizeof r->fp32, "%s", fp32);
    (void)snprintf(r->bf16, sizeof r->bf16, "%s", bf16);
    return MT_OK;
}

static void write_spikes(struct json_writer *w, const struct spikes *s)
{
    json_write_object(w, "spikes");
    json_write_int(w, "phase", s->phase);
    json_write_int(w, "count", s->count);
    json_write_reals(w, "norm", s->norm, s->count);
    json_write_reals(w, "loss", s->loss, s->count);
    json_write_end(w);
}

static mt_status read_spikes(const struct json_node *root, struct spikes *s)
{
    const struct json_node *node = json_node_get(root, "spikes");
    int64_t phase, count;
    memset(s, 0, sizeof *s);
    if (node == NULL)
        return MT_OK;
    MT_TRY(json_read_int(node, "phase", 0, SCHEDULE_PHASES, &phase));
    MT_TRY(json_read_int(node, "count", 0, SPIKE_WINDOW, &count));
    MT_TRY(json_read_reals(node, "norm", s->norm, count));
    MT_TRY(json_read_reals(node, "loss", s->loss, count));
    s->phase = (int32_t)phase;
    s->count = (int32_t)count;
    return MT_OK;
}

mt_status run_state_write(const struct run *run, struct json_writer *w, const char **text,
                          int64_t *bytes)
{
    json_write_object(w, NULL);
    json_write_int(w, "version", STATE_VERSION);
    json_write_int(w, "step", run->machine.step);
    json_write_int(w, "ranks", run->world->size);
    write_machine(w, run);
    json_write_int(w, "entered", run->entered);
    json_write_bool(w, "eval_pending", run->eval_pending);
    json_write_ints(w, "drawn", run->position.drawn, run->job.data_count);
    json_write_ints(w, "taken", run->position.taken, run->job.data_count);
    json_write_ints(w, "adam_steps", run->adam_steps, run->model.table.count);
    json_write_bool(w, "best_known", run->best.known);
    json_write_real(w, "best_value", run->best.value);
    json_write_int(w, "best_step", run->best.step);
    json_write_int(w, "skipped_steps", run->skipped_steps);
    json_write_int(w, "skipped_in_row", run->skipped_in_row);
    json_write_int(w, "frozen_checks", run->frozen_checks);
    json_write_hash(w, "data_hash", run->data_hash);
    json_write_array(w, "cache_use");
    for (int32_t p = 0; p < run->job.schedule.count; p++)
        json_write_int(w, NULL, run->cache_use[p]);
    json_write_end(w);
    json_write_real(w, "lr_scale", run->lr_scale);
    json_write_real(w, "save_cost_s", run->save_cost_s);
    write_products(w, run);
    write_spikes(w, &run->spikes);
    write_evals(w, run);
    json_write_end(w);
    return json_writer_finish(w, text, bytes);
}

static mt_status read_cache_use(const struct json_node *root, struct run *run)
{
    int64_t use[SCHEDULE_PHASES];
    MT_TRY(json_read_ints(root, "cache_use", use, run->job.schedule.count));
    for (int32_t p = 0; p < run->job.schedule.count; p++)
        run->cache_use[p] = use[p] == CACHE_USED     ? CACHE_USED
                            : use[p] == CACHE_UNUSED ? CACHE_UNUSED
                                                     : CACHE_UNDECIDED;
    return MT_OK;
}

static mt_status check_data(const struct json_node *root, const struct run *run)
{
    uint64_t before;
    MT_TRY(json_read_hash(root, "data_hash", &before));
    if (before != run->data_hash)
        return MT_FAIL(MT_CONFIG,
                       "the training data are not those of the run that is resumed (another file "
                       "content, order or label set); put them back, or take a fresh run_dir");
    return MT_OK;
}

mt_status run_state_read(struct run *run, const struct json_node *root)
{
    int64_t version, entered, in_row;
    MT_TRY(json_read_int(root, "version", STATE_VERSION, STATE_VERSION, &version));
    MT_TRY(read_machine(root, run));
    MT_TRY(json_read_int(root, "entered", -1, run->job.schedule.count, &entered));
    run->entered = (int32_t)entered;
    MT_TRY(json_read_bool(root, "eval_pending", &run->eval_pending));
    MT_TRY(json_read_ints(root, "drawn", run->position.drawn, run->job.data_count));
    MT_TRY(json_read_ints(root, "taken", run->position.taken, run->job.data_count));
    MT_TRY(json_read_ints(root, "adam_steps", run->adam_steps, run->model.table.count));
    MT_TRY(json_read_bool(root, "best_known", &run->best.known));
    MT_TRY(json_read_real(root, "best_value", &run->best.value));
    MT_TRY(json_read_int(root, "best_step", 0, INT64_MAX, &run->best.step));
    MT_TRY(json_read_int(root, "skipped_steps", 0, INT64_MAX, &run->skipped_steps));
    MT_TRY(json_read_int(root, "skipped_in_row", 0, INT32_MAX, &in_row));
    run->skipped_in_row = (int32_t)in_row;
    MT_TRY(json_read_int(root, "frozen_checks", 0, INT64_MAX, &run->frozen_checks));
    MT_TRY(read_cache_use(root, run));
    MT_TRY(check_data(root, run));
    if (json_node_get(root, "lr_scale") != NULL)
        MT_TRY(json_read_real(root, "lr_scale", &run->lr_scale));
    (void)json_node_real(json_node_get(root, "save_cost_s"), &run->save_cost_s);
    MT_TRY(read_spikes(root, &run->spikes));
    MT_TRY(read_products(root, &run->products_before));
    return read_evals(root, run);
}
