/* The plan as text for people, and as JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/clock.h"
#include "trainer/plan/plan.h"

enum { SHORT = 48 };

static void format_bytes(char text[SHORT], double bytes)
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    int i = 0;
    for (; bytes >= 999.5 && i < 4; i++)
        bytes /= 1000.0;
    (void)snprintf(text, SHORT, i == 0 ? "%.0f %s" : "%.3g %s", bytes, unit[i]);
}

static void format_seconds(char text[CLOCK_TEXT_BYTES], double seconds)
{
    if (seconds < 0.0095)
        (void)snprintf(text, CLOCK_TEXT_BYTES, "%.2g ms", 1e3 * seconds);
    else if (seconds < 10.0)
        (void)snprintf(text, CLOCK_TEXT_BYTES, seconds < 1.0 ? "%.3g s" : "%.1f s", seconds);
    else
        clock_format_duration(text, seconds);
}

static double gflop(const struct plan_phase *ph)
{
    return ph->forward_gflop + ph->backward_gflop;
}

static void print_epochs(const struct plan *p, const struct plan_phase *ph)
{
    const char *separator = "";
    printf("   tasks      ");
    for (int32_t t = 0; t < p->run->job.task_count; t++) {
        if (!ph->plan->active[t])
            continue;
        printf("%s%s", separator, p->run->job.tasks[t].name);
        if (!ph->plan->probe)
            printf(" %.3g epochs (weight %g)", ph->epochs[t], ph->plan->loss_weight[t]);
        separator = ", ";
    }
    printf("\n");
}

/* Neighbouring layers with the same rates are one line. */
static void print_rates(const struct plan_phase *ph)
{
    for (int32_t g = ph->group_count - 1; g >= 0; g--) {
        const struct plan_group *top = &ph->group[g];
        int32_t low = g;
        if (top->trained == 0)
            continue;
        while (low > 0 && ph->group[low - 1].trained == ph->group[low - 1].elements &&
               top->trained == top->elements && ph->group[low - 1].lr_most == top->lr_most &&
               ph->group[low - 1].lr_least == top->lr_least && low - 1 > 0 &&
               strncmp(ph->group[low - 1].name, top->name, 14) == 0)
            low--;
        char name[128], part[SHORT] = "";
        if (low < g)
            (void)snprintf(name, sizeof name, "encoder.layer.%s-%s", ph->group[low].name + 14,
                           top->name + 14);
        else
            (void)snprintf(name, sizeof name, "%s", top->name);
        if (top->trained < top->elements)
            (void)snprintf(part, sizeof part, ", %.1f %% of it",
                           100.0 * (double)top->trained / (double)top->elements);
        printf("   rate       %-24s %.3g -> %.3g -> %.3g (start, peak, end)", name,
               top->lr_most * ph->first_factor, top->lr_most, top->lr_most * ph->last_factor);
        if (top->lr_least < top->lr_most)
            printf(", some %.3g", top->lr_least);
        printf("%s\n", part);
        g = low;
    }
}

static void print_memory(const struct plan_phase *ph)
{
    const struct plan_memory *m = &ph->memory;
    char text[9][SHORT], wire[SHORT], errors[SHORT + 32] = "";
    format_bytes(wire, (double)m->wire);
    if (m->wire > 0)
        (void)snprintf(errors, sizeof errors, "errors of bf16 wire %s, ", wire);
    format_bytes(text[0], (double)m->parameters);
    format_bytes(text[1], (double)m->gradients);
    format_bytes(text[2], (double)m->moments);
    format_bytes(text[3], (double)m->activations);
    format_bytes(text[4], (double)m->batches);
    format_bytes(text[5], (double)m->total);
    format_bytes(text[6], (double)m->evaluation);
    format_bytes(text[7], (double)m->copy);
    format_bytes(text[8], (double)m->copy_owned);
    printf("   memory     %s per rank: parameters %s, gradients %s (%d blocks), moments %s, "
           "%sactivations %s, batches %s, evaluation %s, copy to save from %s (other ranks %s)\n",
           text[5], text[0], text[1], m->gradient_blocks, text[2], errors, text[3], text[4],
           text[6], text[7], text[8]);
}

static void print_cache(const struct plan_phase *ph, int32_t layers)
{
    char bytes[SHORT];
    format_bytes(bytes, (double)ph->cache_bytes);
    if (ph->plan->train_from == 0)
        return;
    printf("   cache      %s: %s", ph->cached ? "used" : "not used", ph->cache_why);
    if (ph->cache_depth > layers)
        printf("; %s, one vector a sentence", bytes);
    else if (ph->cache_depth > 0)
        printf("; %s, input of layer %d", bytes, ph->cache_depth - 1);
    if (ph->cached && ph->fill_from > 0)
        printf(", filled from the cache before");
    printf("\n");
}

static void print_time(const struct plan_phase *ph)
{
    const struct plan_time *t = &ph->time;
    char text[6][CLOCK_TEXT_BYTES];
    format_seconds(text[0], t->total_s);
    printf("   time       %s", text[0]);
    if (t->fill_s > 0.0) {
        format_seconds(text[1], t->fill_s);
        printf("; cache %s", text[1]);
    }
    if (ph->plan->probe) {
        format_seconds(text[1], t->fit_s);
        printf("; fits about %s", text[1]);
    } else {
        format_seconds(text[1], t->steps_s);
        format_seconds(text[2], t->step_s);
        printf("; steps %s (%s each, %.4g sentences/s)", text[1], text[2], t->sentences_per_s);
    }
    format_seconds(text[3], t->evals_s);
    format_seconds(text[4], t->saves_s);
    printf("; %.0f evaluations %s; about %.0f saves %s\n", t->evals, text[3], t->saves, text[4]);
}

/* Of a step elsewhere: what it is made of. */
static void print_step(const struct plan_time *t)
{
    const struct plan_step *s = &t->step;
    const double seconds[] = {s->passes_s, s->waiting_s, s->exposed_s, s->gather_s, s->update_s};
    char text[5][CLOCK_TEXT_BYTES];
    if (s->passes_s <= 0.0)
        return;
    for (int i = 0; i < 5; i++)
        format_seconds(text[i], seconds[i]);
    printf(
        "   step       passes %s, waiting for the slowest rank %s, sums not hidden %s, gathering "
        "%s, update %s\n",
        text[0], text[1], text[2], text[3], text[4]);
}

static void print_phase(const struct plan *p, int32_t i)
{
    const struct plan_phase *ph = &p->phase[i];
    char least[SHORT], most[SHORT];
    printf("%d. %s: ", i + 1, ph->plan->phase->name);
    if (ph->plan->probe)
        printf("a separate classifier for each task on frozen sentence vectors\n");
    else
        printf("steps %lld..%lld (%lld), %lld sentences and %.0f tokens each\n",
               (long long)ph->begin, (long long)ph->end, (long long)(ph->end - ph->begin),
               (long long)ph->plan->phase->sentences, ph->tokens);
    print_epochs(p, ph);
    print_rates(ph);
    if (!ph->plan->probe) {
        printf("   compute    %.4g GFLOP a step (forward %.4g, backward %.4g)\n", gflop(ph),
               ph->forward_gflop, ph->backward_gflop);
        format_bytes(least, (double)ph->volume.rank0_bytes);
        format_bytes(most, (double)ph->volume.total_bytes);
        printf("   reduction  %s%s a step from rank 0, %s from all %d ranks\n",
               ph->least_bytes < ph->volume.rank0_bytes ? "at most " : "", least, most,
               p->target.ranks);
        format_bytes(least, (double)ph->least_bytes);
        if (ph->least_bytes < ph->volume.rank0_bytes)
            printf("              and at least %s: only the rows of the words in a step travel\n",
                   least);
    }
    print_memory(ph);
    print_cache(ph, p->run->model.config.num_hidden_layers);
    print_time(ph);
    print_step(&ph->time);
}

static void print_table(const struct plan *p)
{
    double total = 0.0;
    for (int32_t i = 0; i < p->run->model.table.count; i++)
        total += (double)p->run->model.table.entry[i].count;
    printf("\n   %-16s %8s %12s %8s %10s %10s %10s %-8s %9s\n", "phase", "steps", "trained",
           "share", "GFLOP/step", "sent/step", "memory", "cache", "time");
    for (int32_t i = 0; i < p->phase_count; i++) {
        const struct plan_phase *ph = &p->phase[i];
        char memory[SHORT], sent[SHORT], time[CLOCK_TEXT_BYTES], cache[SHORT] = "-";
        format_bytes(memory, (double)ph->memory.total);
        format_bytes(sent, (double)ph->volume.rank0_bytes);
        format_seconds(time, ph->time.total_s);
        if (ph->cached)
            format_bytes(cache, (double)ph->cache_bytes);
        printf("%2d %-16.16s %8lld %12lld %6.2f %% %10.4g %10s %10s %-8s %9s\n", i + 1,
               ph->plan->phase->name, (long long)(ph->end - ph->begin),
               (long long)ph->plan->trainable_elements,
               100.0 * (double)ph->plan->trainable_elements / total, gflop(ph), sent, memory, cache,
               time);
    }
}

static void print_end(const struct plan *p)
{
    char total[CLOCK_TEXT_BYTES], open[CLOCK_TEXT_BYTES], limit[CLOCK_TEXT_BYTES], bytes[SHORT];
    format_seconds(total, p->total_s);
    format_seconds(open, p->common.open_s);
    format_bytes(bytes, p->peak_bytes);
    printf("\nforecast: %s in all, of which %s before the first phase; at most %s per rank\n",
           total, open, bytes);
    printf("(steps measured %s; how often an evaluation is the best so far, and so saved, is a "
           "guess)\n",
           p->target.here ? "here" : "here and scaled to the ranks asked about");
    if (!isfinite(p->target.limit_s))
        return;
    format_seconds(limit, p->target.limit_left_s);
    if (p->submissions == 1)
        printf("fits the %s that are left: one submission\n", limit);
    else if (p->submissions > 1)
        printf("does not fit the %s that are left: %d submissions of the same command\n", limit,
               p->submissions);
    else
        printf("does not fit: the time limit leaves no room for a step and a save\n");
}

void plan_print(const struct plan *p)
{
    const struct job *job = &p->run->job;
    printf("plan of job \"%s\", schedule \"%s\": %d phases, %lld steps\n", job->name,
           job->schedule.name != NULL ? job->schedule.name : "unnamed", p->phase_count,
           (long long)p->run->run_steps);
    printf("on %d rank%s of %d thread%s%s, %lld lanes\n\n", p->target.ranks,
           p->target.ranks == 1 ? "" : "s", p->target.threads, p->target.threads == 1 ? "" : "s",
           p->target.here ? " here" : "", (long long)job->batch.lanes);
    for (int32_t i = 0; i < p->phase_count; i++)
        print_phase(p, i);
    print_table(p);
    print_end(p);
}

static void json_groups(const struct plan_phase *ph, struct json_writer *w)
{
    json_write_array(w, "groups");
    for (int32_t g = 0; g < ph->group_count; g++) {
        const struct plan_group *group = &ph->group[g];
        json_write_object(w, NULL);
        json_write_string(w, "name", group->name);
        json_write_int(w, "parameters", group->elements);
        json_write_int(w, "trained", group->trained);
        json_write_real(w, "lr_start", group->lr_most * ph->first_factor);
        json_write_real(w, "lr_peak", group->lr_most);
        json_write_real(w, "lr_end", group->lr_most * ph->last_factor);
        json_write_end(w);
    }
    json_write_end(w);
}

static void json_time(const struct plan_phase *ph, struct json_writer *w)
{
    const struct plan_time *t = &ph->time;
    json_write_object(w, "time");
    json_write_real(w, "total_s", t->total_s);
    json_write_real(w, "steps_s", t->steps_s);
    json_write_real(w, "step_s", t->step_s);
    json_write_real(w, "fill_s", t->fill_s);
    json_write_real(w, "fit_s", t->fit_s);
    json_write_real(w, "evals", t->evals);
    json_write_real(w, "evals_s", t->evals_s);
    json_write_real(w, "saves", t->saves);
    json_write_real(w, "saves_s", t->saves_s);
    json_write_real(w, "sentences_per_s", t->sentences_per_s);
    json_write_int(w, "measured_steps", ph->measured.steps);
    if (t->step.passes_s > 0.0) {
        json_write_object(w, "step");
        json_write_real(w, "passes_s", t->step.passes_s);
        json_write_real(w, "waiting_s", t->step.waiting_s);
        json_write_real(w, "exposed_s", t->step.exposed_s);
        json_write_real(w, "gather_s", t->step.gather_s);
        json_write_real(w, "update_s", t->step.update_s);
        json_write_end(w);
    }
    json_write_end(w);
}

static void json_phase(const struct plan *p, const struct plan_phase *ph, struct json_writer *w)
{
    const struct plan_memory *m = &ph->memory;
    json_write_object(w, NULL);
    json_write_string(w, "name", ph->plan->phase->name);
    json_write_int(w, "begin", ph->begin);
    json_write_int(w, "end", ph->end);
    json_write_int(w, "steps", ph->end - ph->begin);
    json_write_object(w, "epochs");
    for (int32_t t = 0; t < p->run->job.task_count; t++)
        if (ph->plan->active[t])
            json_write_real(w, p->run->job.tasks[t].name, ph->epochs[t]);
    json_write_end(w);
    json_write_int(w, "trainable_parameters", ph->plan->trainable_elements);
    json_write_int(w, "frozen_tensors", ph->plan->frozen_tensors);
    json_groups(ph, w);
    json_write_real(w, "gflop_per_step", gflop(ph));
    json_write_object(w, "memory_bytes");
    json_write_int(w, "parameters", m->parameters);
    json_write_int(w, "gradients", m->gradients);
    json_write_int(w, "gradient_blocks", m->gradient_blocks);
    json_write_int(w, "moments", m->moments);
    json_write_int(w, "wire_errors", m->wire);
    json_write_int(w, "activations", m->activations);
    json_write_int(w, "batches", m->batches);
    json_write_int(w, "evaluation", m->evaluation);
    json_write_int(w, "copy", m->copy);
    json_write_int(w, "copy_owned", m->copy_owned);
    json_write_int(w, "total", m->total);
    json_write_end(w);
    json_write_int(w, "reduced_bytes", ph->volume.rank0_bytes);
    json_write_int(w, "reduced_bytes_least", ph->least_bytes);
    json_write_int(w, "reduced_bytes_busiest", ph->volume.most_bytes);
    json_write_int(w, "reduced_bytes_all", ph->volume.total_bytes);
    json_write_bool(w, "cache", ph->cached);
    json_write_string(w, "cache_why", ph->cache_why);
    json_write_int(w, "cache_bytes", ph->cache_bytes);
    json_write_int(w, "cache_depth", ph->cache_depth);
    json_time(ph, w);
    json_write_end(w);
}

void plan_json(const struct plan *p, struct json_writer *w)
{
    json_write_object(w, NULL);
    json_write_string(w, "name", p->run->job.name);
    json_write_string(w, "schedule", p->run->job.schedule.name);
    json_write_int(w, "steps", p->run->run_steps);
    json_write_int(w, "ranks", p->target.ranks);
    json_write_int(w, "threads", p->target.threads);
    json_write_bool(w, "here", p->target.here);
    json_write_real(w, "total_s", p->total_s);
    json_write_real(w, "open_s", p->common.open_s);
    json_write_real(w, "export_s", p->common.export_s);
    json_write_real(w, "peak_bytes", p->peak_bytes);
    if (isfinite(p->target.limit_s)) {
        json_write_real(w, "limit_s", p->target.limit_s);
        json_write_int(w, "submissions", p->submissions);
    }
    json_write_array(w, "phases");
    for (int32_t i = 0; i < p->phase_count; i++)
        json_phase(p, &p->phase[i], w);
    json_write_end(w);
    json_write_end(w);
}
