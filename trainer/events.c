/* See events.h.  Names and meaning of the members stand in io/FORMAT.md. */
#include "trainer/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/clock.h"
#include "io/report.h"
#include "trainer/freeze_audit.h"
#include "trainer/peak_memory.h"

/* Appends the event that was begun; training does not depend on it. */
static void end_event(struct run *run)
{
    int64_t lost;
    bool behind = jsonl_is_behind(run->events, &lost);
    if (jsonl_end(run->events) == MT_OK) {
        if (behind)
            log_warning("metrics.jsonl is written again; %lld events are lost", (long long)lost);
        return;
    }
    if (!behind)
        log_warning("metrics.jsonl cannot be written, events wait: %s", mt_error_peek()->message);
    mt_error_clear();
}

static const char *phase_name(const struct run *run, int32_t phase)
{
    return phase < run->job.schedule.count ? run->job.schedule.phase[phase].name : "done";
}

void event_start(struct run *run)
{
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "start");
    json_write_string(w, "name", run->job.name);
    json_write_int(w, "ranks", run->world->size);
    json_write_int(w, "threads", pool_threads(run->pool));
    json_write_int(w, "lanes", run->job.batch.lanes);
    json_write_string(w, "host", comm_host(run->world, 0));
    json_write_int(w, "hosts", run->world->node_count);
    json_write_string(w, "version", MT_VERSION);
    json_write_string(w, "init", run->job.model.init);
    int64_t parameters = 0;
    for (int32_t i = 0; i < run->model.table.count; i++)
        parameters += run->model.table.entry[i].count;
    json_write_int(w, "parameters", parameters);
    json_write_int(w, "tensors", run->model.table.count);
    json_write_int(w, "steps", run->run_steps);
    if (run->resumed_step >= 0)
        json_write_int(w, "resumed_from", run->resumed_step);
    end_event(run);
}

void event_phase_begin(struct run *run)
{
    const struct phase_plan *plan = run->phase.plan;
    int32_t index = run->machine.phase;
    log_info("phase %d/%d \"%s\": steps %lld to %lld, %lld parameters trained, %d tensors frozen",
             index + 1, run->job.schedule.count, plan->phase->name,
             (long long)run->machine.phase_begin_step, (long long)run->machine.phase_end_step,
             (long long)plan->trainable_elements, plan->frozen_tensors);
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "phase");
    json_write_int(w, "step", run->machine.step);
    json_write_string(w, "action", "begin");
    json_write_string(w, "phase", plan->phase->name);
    json_write_int(w, "index", index);
    json_write_int(w, "planned_end", run->machine.phase_end_step);
    json_write_int(w, "trainable_parameters", plan->trainable_elements);
    json_write_int(w, "frozen_tensors", plan->frozen_tensors);
    end_event(run);
}

void event_phase_end(struct run *run, int32_t phase)
{
    const char *why = phase_end_name((enum phase_end)run->machine.ended_by[phase]);
    bool left = run->phase.plan != NULL; /* and not before the run was resumed */
    log_info("phase \"%s\" ended at step %lld (%s); frozen: %d tensors verified unchanged",
             phase_name(run, phase), (long long)run->machine.step, why,
             run->plan[phase].frozen_tensors);
    for (int32_t i = -1; left && (i = freeze_audit_next_untouched(run, i)) >= 0;) {
        const char *name = run->model.table.entry[i].name;
        size_t used = strlen(run->untouched_names);
        event_warning(run,
                      "tensor %s was declared trainable in phase \"%s\" but never had a gradient",
                      name, phase_name(run, phase));
        run->untouched++;
        (void)snprintf(run->untouched_names + used, sizeof run->untouched_names - used, "%s%s",
                       used > 0 ? ", " : "", name);
    }
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "phase");
    json_write_int(w, "step", run->machine.step);
    json_write_string(w, "action", "end");
    json_write_string(w, "phase", phase_name(run, phase));
    json_write_int(w, "index", phase);
    json_write_string(w, "reason", why);
    json_write_int(w, "frozen_verified", run->plan[phase].frozen_tensors);
    if (left)
        json_write_real(w, "seconds", clock_now_s() - run->phase.begin_s);
    end_event(run);
}

void event_step(struct run *run, const struct step_report *last, struct step_window *window)
{
    double divisor = 0.0, peak = 0.0;
    for (int32_t i = 0; i < run->model.table.count; i++)
        if (run->phase.plan->lr[i] > peak)
            peak = run->phase.plan->lr[i];
    for (int32_t t = 0; t < run->model.task_count; t++)
        divisor += window->task[t].weight;
    if (run->events != NULL && divisor > 0.0) {
        struct json_writer *w = jsonl_begin(run->events, "step");
        json_write_int(w, "step", last->step);
        json_write_string(w, "phase", run->phase.plan->phase->name);
        json_write_real(w, "epoch", phase_machine_epoch(&run->machine, &run->length));
        json_write_real(w, "loss", window->loss / (double)window->counted);
        json_write_object(w, "losses");
        for (int32_t t = 0; t < run->model.task_count; t++)
            if (window->task[t].weight > 0.0)
                json_write_real(w, run->model.task[t].name,
                                window->task[t].loss / window->task[t].weight);
        json_write_end(w);
        json_write_real(w, "lr", peak * last->lr_factor);
        json_write_real(w, "grad_norm", last->grad_norm);
        json_write_int(w, "sentences", window->sentences);
        json_write_int(w, "tokens", window->tokens);
        json_write_real(w, "tokens_per_s", (double)window->tokens / window->seconds);
        json_write_int(w, "reduced_bytes", window->reduced_bytes / window->steps);
        json_write_real(w, "lane_imbalance", window->imbalance / (double)window->steps);
        json_write_object(w, "wait_s");
        json_write_real(w, "data", window->wait_data_s);
        json_write_real(w, "reduction", window->wait_reduce_s);
        json_write_real(w, "reduction_hidden", window->hidden_reduce_s);
        json_write_end(w);
        if (run->world->size > 1) {
            json_write_object(w, "ranks");
            json_write_int(w, "slowest", window->busy.rank);
            json_write_string(w, "host", comm_host(run->world, window->busy.rank));
            json_write_real(w, "busy_s", window->busy.most_s);
            json_write_real(w, "spread_s", window->busy.most_s - window->busy.least_s);
            json_write_end(w);
        }
        if (run->skipped_steps > 0)
            json_write_int(w, "skipped_steps", run->skipped_steps);
        end_event(run);
    }
    memset(window, 0, sizeof *window);
}

static void write_confusion(struct json_writer *w, const struct run *run,
                            const struct eval_result *r)
{
    int32_t classes = run->model.task[r->task].classes;
    json_write_strings(w, "labels", (const char *const *)run->corpora.labels[r->task].item,
                       classes);
    json_write_array(w, "confusion");
    for (int32_t k = 0; k < classes; k++)
        json_write_ints(w, NULL, r->confusion + (int64_t)k * classes, classes);
    json_write_end(w);
}

void event_eval(struct run *run, enum split split, const struct eval_result *results, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        const struct eval_result *r = &results[i];
        const char *task = run->model.task[r->task].name;
        log_info("step %lld %s %s: loss %.4f accuracy %.4f f1_macro %.4f mcc %.4f (%lld sentences)",
                 (long long)run->machine.step, split_name(split), task, r->loss,
                 r->metrics.accuracy, r->metrics.f1_macro, r->metrics.mcc,
                 (long long)r->metrics.count);
        if (run->events == NULL)
            continue;
        struct json_writer *w = jsonl_begin(run->events, "eval");
        json_write_int(w, "step", run->machine.step);
        json_write_string(w, "split", split_name(split));
        json_write_string(w, "task", task);
        json_write_int(w, "sentences", r->metrics.count);
        json_write_real(w, "loss", r->loss);
        json_write_real(w, "accuracy", r->metrics.accuracy);
        json_write_real(w, "f1_macro", r->metrics.f1_macro);
        json_write_real(w, "mcc", r->metrics.mcc);
        if (r->confusion != NULL)
            write_confusion(w, run, r);
        end_event(run);
    }
}

void event_checkpoint(struct run *run, const struct saver *save)
{
    char path[CHECKPOINT_PATH_BYTES];
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "checkpoint");
    json_write_int(w, "step", save->step);
    json_write_real(w, "seconds", save->stood_s);
    json_write_real(w, "write_s", save->write_s);
    if (checkpoint_path(path, run->job.run_dir, save->step) == MT_OK)
        json_write_string(w, "path", path);
    else
        mt_error_clear();
    json_write_int(w, "bytes", save->size_bytes);
    json_write_bool(w, "best", save->best);
    json_write_int(w, "frozen_verified", save->frozen_tensors);
    end_event(run);
}

void event_control(struct run *run, const char *command, const char *key, const char *value)
{
    log_info("command %s%s%s%s%s after step %lld", command, key[0] != '\0' ? " " : "", key,
             key[0] != '\0' ? " = " : "", value, (long long)run->machine.step);
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "control");
    json_write_int(w, "step", run->machine.step);
    json_write_string(w, "command", command);
    if (key[0] != '\0') {
        json_write_string(w, "key", key);
        json_write_string(w, "value", value);
    }
    end_event(run);
}

void event_change(struct run *run, const char *key, const char *before, const char *after,
                  const char *kind)
{
    log_info("resumed with %s = %s (was %s): %s", key, after, before, kind);
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "change");
    json_write_int(w, "step", run->machine.step);
    json_write_string(w, "key", key);
    json_write_string(w, "before", before);
    json_write_string(w, "after", after);
    json_write_string(w, "class", kind);
    end_event(run);
}

void event_anomaly(struct run *run, const struct step_report *report, const char *kind,
                   const char *action, const char *bundle)
{
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "anomaly");
    json_write_int(w, "step", report->step);
    json_write_string(w, "phase", run->phase.plan->phase->name);
    json_write_string(w, "kind", kind);
    json_write_string(w, "action", action);
    json_write_real(w, "loss", report->loss);
    json_write_real(w, "grad_norm", report->grad_norm);
    json_write_string(w, "bundle", bundle);
    end_event(run);
}

void event_cache(struct run *run, int64_t bytes)
{
    double fill_s = prefix_cache_fill_s(run->cache);
    int64_t sentences = prefix_cache_sentences(run->cache);
    if (fill_s > 0.0)
        log_info("prefix cache filled: %lld sentences, %.1f MB in %.2f s (%.1f sentences/s)",
                 (long long)sentences, 1e-6 * (double)bytes, fill_s, (double)sentences / fill_s);
    else
        log_info("prefix cache found: %lld sentences, %.1f MB", (long long)sentences,
                 1e-6 * (double)bytes);
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "cache");
    json_write_int(w, "step", run->machine.step);
    json_write_int(w, "phase", run->machine.phase);
    json_write_int(w, "depth", prefix_cache_depth(run->cache));
    json_write_int(w, "sentences", sentences);
    json_write_int(w, "bytes", bytes);
    json_write_real(w, "fill_s", fill_s);
    end_event(run);
}

void event_probe(struct run *run, int32_t task, const struct probe_result *r)
{
    log_info("task %s: classifier on frozen embeddings, L2 %g, %d iterations, gradient %.1e (%s); "
             "accuracy train %.4f dev %.4f",
             run->model.task[task].name, r->l2, r->fit.iterations,
             r->fit.gradient_max / (double)r->train_rows, lbfgs_reason_text(r->fit.reason),
             r->train.accuracy, r->dev.accuracy);
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "probe");
    json_write_int(w, "step", run->machine.step);
    json_write_string(w, "task", run->model.task[task].name);
    json_write_real(w, "l2", r->l2);
    json_write_bool(w, "l2_by_folds", r->by_folds);
    json_write_int(w, "iterations", r->fit.iterations);
    json_write_real(w, "gradient_max", r->fit.gradient_max / (double)r->train_rows);
    json_write_string(w, "reason", lbfgs_reason_text(r->fit.reason));
    json_write_int(w, "rows", r->train_rows);
    json_write_int(w, "parameters", (int64_t)r->classes * (r->dim + 1));
    json_write_real(w, "train_accuracy", r->train.accuracy);
    json_write_real(w, "dev_accuracy", r->dev.accuracy);
    end_event(run);
}

void event_warning(struct run *run, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_warning("%s", text);
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "warning");
    json_write_int(w, "step", run->machine.step);
    json_write_string(w, "message", text);
    end_event(run);
}

void event_stop(struct run *run, const char *reason)
{
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "stop");
    json_write_int(w, "step", run->machine.step);
    json_write_string(w, "reason", reason);
    end_event(run);
}

void event_done(struct run *run)
{
    if (run->events == NULL)
        return;
    struct json_writer *w = jsonl_begin(run->events, "done");
    json_write_int(w, "step", run->machine.step);
    json_write_real(w, "seconds", run->machine.seconds);
    if (run->best.known) {
        json_write_int(w, "best_step", run->best.step);
        json_write_real(w, "best", run->best.value);
    }
    json_write_int(w, "frozen_verified", run->frozen_checks);
    json_write_int(w, "without_gradient", run->untouched);
    json_write_int(w, "peak_rss_bytes", run->peak.rank_bytes);
    json_write_int(w, "peak_rss_host_bytes", run->peak.host_bytes);
    end_event(run);
}

void event_report(struct run *run)
{
    if (run->events == NULL || report_write(run->job.run_dir) == MT_OK)
        return;
    log_warning("report.html is not written: %s", mt_error_peek()->message);
    mt_error_clear();
}

void event_summary(const struct run *run)
{
    log_info("done: %lld steps in %s; frozen: %lld tensors verified unchanged",
             (long long)run->machine.step, run->job.run_dir, (long long)run->frozen_checks);
    if (run->peak.rank_bytes > 0)
        log_info("memory at most: %.0f MiB on one rank (rank %d), %.0f MiB on one host (%s)",
                 (double)run->peak.rank_bytes / 1048576.0, run->peak.rank,
                 (double)run->peak.host_bytes / 1048576.0, comm_host(run->world, run->peak.host));
    if (run->best.known)
        log_info("best %s: %.4f at step %lld", run->job.train.best, run->best.value,
                 (long long)run->best.step);
    if (run->untouched > 0)
        log_warning("%lld tensors declared trainable never had a gradient: %s",
                    (long long)run->untouched, run->untouched_names);
}
