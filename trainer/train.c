/*
 * See train.h.  Everything that changes the world happens at a step boundary, in this order:
 *
 *   evaluation (may end a phase) -> leave the phase that is over -> enter the next -> save -> stop?
 *
 * A save therefore always holds a state from which the next thing is a step (or, where a stop cut
 * an evaluation short, that evaluation).  The ranks agree once per boundary, in one exchange.
 */
#include "trainer/train.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/file.h"
#include "jobs/slurm.h"
#include "trainer/control.h"
#include "trainer/decisions.h"
#include "trainer/events.h"
#include "trainer/freeze_audit.h"
#include "trainer/peak_memory.h"
#include "trainer/phase_run.h"
#include "trainer/probe_phase.h"
#include "trainer/resume.h"
#include "trainer/run_lock.h"
#include "trainer/save.h"
#include "trainer/save_parts.h"
#include "trainer/trace.h"
#include "trainer/update.h"
#include "trainer/watchdog.h"

static const double SAVE_MARGIN_S = 20.0; /* left of the time limit beside the costs measured */

/* What the ranks agree on at a boundary: the largest of each. */
enum boundary_word {
    WORD_SECONDS,
    WORD_STOP,
    WORD_SAVE,
    WORD_EVAL,
    WORD_LOG,
    WORD_SAVING,  /* a rank is writing for the save under way */
    WORD_CONTROL, /* a command waits */
    WORD_SLOWEST, /* busy time since the last step event, with the rank in it */
    WORD_FASTEST, /* the same, negated */
    WORDS
};

/* Both in one number that a double holds exactly: microseconds and, in the low 20 bits, the rank.
 */
static const double RANKS_MOST = 1048576.0;

/* A duration of the job in steps of the present phase; 0 = not by steps. */
static int64_t every_steps(const struct run *run, struct duration d)
{
    struct duration_scale scale = {.steps_per_epoch = run->phase.plan->steps_per_epoch,
                                   .run_steps = run->run_steps,
                                   .phase_steps = run->phase.steps};
    int64_t steps = duration_steps(d, &scale);
    return steps > 0 ? steps : 0;
}

static bool due_by_time(struct duration d, double since_s)
{
    return d.unit == DURATION_SECONDS && d.amount > 0.0 && clock_now_s() - since_s >= d.amount;
}

static bool due_by_step(const struct run *run, struct duration d)
{
    int64_t every = every_steps(run, d);
    return every > 0 && run->machine.step % every == 0;
}

/* When SLURM ends the job, by the clock that does not jump; INFINITY where it does not say. */
static double time_limit(void)
{
    struct slurm slurm;
    slurm_read(&slurm);
    double left = slurm_seconds_left(&slurm, clock_wall_s());
    return left >= 0.0 ? clock_now_s() + left : INFINITY;
}

/* Ends the run while a save still fits, also out of an evaluation or the filling of a cache. */
static void set_deadline(const struct run *run)
{
    stop_set_deadline(run->time_limit_s - SAVE_MARGIN_S - 2.0 * run->save_cost_s -
                      2.0 * run->step_cost_s);
}

static bool lookup_metric(void *context, enum metric_split split, int32_t task,
                          enum metric_kind kind, double *value)
{
    const struct run *run = context;
    enum split s = split == METRIC_DEV ? SPLIT_DEV : SPLIT_TEST;
    if (!run->evals.known[s][task])
        return false;
    *value = run->evals.value[s][task][kind];
    return true;
}

static mt_status evaluate_split(struct run *run, enum split split)
{
    const struct eval_result *results;
    int32_t count;
    double trace_s = trace_begin(run->trace);
    MT_TRY(evaluator_run(run->evaluator, split, run->params, run->cache, &results, &count));
    trace_end(run->trace, TRACE_EVALUATION, TRACE_ROW_MAIN, 0, trace_s);
    for (int32_t i = 0; i < count; i++) {
        double *value = run->evals.value[split][results[i].task];
        run->evals.known[split][results[i].task] = true;
        value[METRIC_LOSS] = results[i].loss;
        value[METRIC_ACCURACY] = results[i].metrics.accuracy;
        value[METRIC_F1_MACRO] = results[i].metrics.f1_macro;
        value[METRIC_MCC] = results[i].metrics.mcc;
    }
    event_eval(run, split, results, count);
    return MT_OK;
}

/* Keeps the state if the job's metric has never been better. */
static mt_status keep_best(struct run *run)
{
    const char *task_names[JOB_TASKS_MAX];
    struct metric metric;
    double value;
    job_task_names(&run->job, task_names);
    if (run->job.train.best == NULL || !metric_parse(&metric, run->job.train.best) ||
        !metric_value(&metric, task_names, run->job.task_count, lookup_metric, run, &value))
        return MT_OK;
    bool better = metric_rises(&metric) ? value > run->best.value : value < run->best.value;
    if (run->best.known && !better)
        return MT_OK;
    run->best = (struct best){true, value, run->machine.step};
    run->save_best = true;
    return MT_OK;
}

/* The pending evaluation; may end the phase. */
static mt_status evaluate(struct run *run)
{
    const char *task_names[JOB_TASKS_MAX];
    job_task_names(&run->job, task_names);
    control_tell(run, "evaluating", NULL);
    MT_TRY(evaluate_split(run, SPLIT_DEV));
    run->eval_pending = false;
    run->last_eval_s = clock_now_s();
    MT_TRY(keep_best(run));
    if (!run->machine.finished)
        (void)phase_machine_after_eval(&run->machine, &run->job.schedule, &run->length, task_names,
                                       run->job.task_count, lookup_metric, run);
    return MT_OK;
}

/* A save in a folder that is still ours. */
static mt_status save(struct run *run)
{
    MT_TRY(run_lock_check(run));
    return save_checkpoint(run);
}

/* Before a phase is left, the moments that ranks share out become whole for what comes; at the end
 * of the run nothing does but its last save, which is made while each rank still owns its part. */
static mt_status keep_moments(struct run *run)
{
    if (run->machine.finished && save_parts_wanted(run)) {
        MT_TRY(save(run));
        MT_TRY(save_wait(run));
        if (run->last_saved_step == run->machine.step)
            return MT_OK;
        run->save_due = true; /* it failed, and is tried once more */
    }
    return update_gather_moments(run);
}

static mt_status leave_phase(struct run *run)
{
    int32_t index = (int32_t)(run->phase.plan - run->plan);
    MT_TRY(save_wait(run)); /* it reads the frozen tensors where they lie */
    MT_TRY(freeze_audit_verify(run));
    run->frozen_checks += run->phase.plan->frozen_tensors;
    MT_TRY(freeze_audit_find_untouched(run));
    event_phase_end(run, index);
    MT_TRY(keep_moments(run));
    phase_run_leave(run);
    run->save_due = run->save_due || run->job.train.keep_phase_ends;
    return MT_OK;
}

/* After the evaluation that a stop cut short and the resumed run made again: the phase that it
 * ended was left untold.  Its frozen tensors were verified by the save that the stop made. */
static void tell_cut_phase(struct run *run)
{
    bool over = run->machine.finished || run->entered != run->machine.phase;
    if (run->phase.plan != NULL || run->entered < 0 || !over)
        return;
    run->frozen_checks += run->plan[run->entered].frozen_tensors;
    event_phase_end(run, run->entered);
    run->save_due = run->save_due || run->job.train.keep_phase_ends;
}

static bool phase_is_over(const struct run *run)
{
    return run->phase.plan != NULL &&
           (run->machine.finished || run->phase.plan != &run->plan[run->machine.phase]);
}

static void add_to_window(struct step_window *window, const struct step_report *r, int32_t tasks)
{
    window->steps++;
    window->sentences += r->sentences;
    window->tokens += r->tokens;
    window->reduced_bytes += r->reduced_bytes;
    window->imbalance += r->imbalance;
    window->busy_s += r->seconds - r->wait_data_s - r->wait_reduce_s;
    window->wait_data_s += r->wait_data_s;
    window->wait_reduce_s += r->wait_reduce_s;
    window->hidden_reduce_s += r->hidden_reduce_s;
    window->seconds += r->seconds;
    if (r->skipped)
        return;
    window->counted++;
    window->loss += r->loss;
    for (int32_t t = 0; t < tasks; t++) {
        window->task[t].loss += r->task[t].loss;
        window->task[t].weight += r->task[t].weight;
    }
}

static void show_progress(struct run *run, const struct step_report *r)
{
    char note[128];
    (void)snprintf(note, sizeof note, "%s  loss %.4f", run->phase.plan->phase->name, r->loss);
    progress_show(&run->progress, run->machine.step,
                  run->run_steps < INT64_MAX ? run->run_steps : 0, note);
}

/* A trace that cannot be written costs the run nothing. */
static mt_status write_trace(struct run *run)
{
    mt_status st = trace_write(run->trace);
    if (st != MT_IO)
        return st;
    log_warning("no trace: %s", mt_error_peek()->message);
    mt_error_clear();
    return MT_OK;
}

/* An end by time that cannot be recorded is only lost if the run is killed before its next save. */
static void record(mt_status st)
{
    if (st == MT_OK)
        return;
    log_warning("%s", mt_error_peek()->message);
    mt_error_clear();
}

/* One step, and what follows from it for evaluation, saving and stopping. */
static mt_status advance(struct run *run, struct step_window *window, enum stop_reason *stop)
{
    struct step_report report;
    MT_TRY(train_step(run, &report));
    if (run->rollback_due || run->replayed)
        return MT_OK;
    if (trace_is_due(run->trace, report.step, run->saver.under_way))
        MT_TRY(write_trace(run));
    add_to_window(window, &report, run->model.task_count);
    if (report.seconds > run->step_cost_s)
        run->step_cost_s = report.seconds;
    set_deadline(run);
    bool root = run->world->rank == 0;
    double word[WORDS] = {[WORD_SECONDS] = report.seconds,
                          [WORD_STOP] = (double)stop_reason_local(),
                          [WORD_SAVE] = root && due_by_time(run->every.save, run->last_save_s),
                          [WORD_EVAL] = root && due_by_time(run->every.eval, run->last_eval_s),
                          [WORD_LOG] = root && due_by_time(run->every.log, run->last_log_s),
                          [WORD_SAVING] = save_is_at_work(run),
                          [WORD_CONTROL] = control_is_pending(run),
                          [WORD_SLOWEST] =
                              floor(1e6 * window->busy_s) * RANKS_MOST + run->world->rank,
                          [WORD_FASTEST] = -window->busy_s};
    watchdog_beat(WATCHDOG_BOUNDARY);
    MT_TRY(comm_max_f64(run->world, word, WORDS));
    *stop = (enum stop_reason)word[WORD_STOP];
    window->busy.rank = (int32_t)fmod(word[WORD_SLOWEST], RANKS_MOST);
    window->busy.most_s = 1e-6 * floor(word[WORD_SLOWEST] / RANKS_MOST);
    window->busy.least_s = -word[WORD_FASTEST];

    int32_t phase = run->machine.phase;
    bool changed = phase_machine_after_step(&run->machine, &run->job.schedule, &run->length,
                                            report.tokens, word[WORD_SECONDS]);
    if (changed && run->machine.ended_by[phase] == ENDED_TIME && root)
        record(decisions_add_phase_end(run, phase, run->machine.step, ENDED_TIME));
    show_progress(run, &report);
    control_apply_settings(run);
    control_tell(run, "training", &report);
    if (changed || word[WORD_LOG] > 0.0 || due_by_step(run, run->every.log)) {
        run->last_log_s = clock_now_s();
        event_step(run, &report, window);
    }
    run->eval_pending = changed || word[WORD_EVAL] > 0.0 || due_by_step(run, run->every.eval);
    run->save_due = run->save_due || word[WORD_SAVE] > 0.0 || due_by_step(run, run->every.save);
    if (word[WORD_SAVING] == 0.0)
        MT_TRY(save_proceed(run));
    if (word[WORD_CONTROL] > 0.0)
        MT_TRY(control_obey(run));
    return MT_OK;
}

/* Saves and leaves: the same command goes on from here. */
static mt_status stop_here(struct run *run, enum stop_reason local)
{
    int64_t word = local; /* the wish may have come on another rank */
    MT_TRY(comm_max_i64(run->world, &word, 1));
    enum stop_reason reason = (enum stop_reason)word;
    progress_end(&run->progress);
    control_tell(run, "saving", NULL);
    MT_TRY(save(run));
    MT_TRY(save_wait(run));
    event_stop(run, stop_reason_text(reason));
    event_report(run);
    if (run->last_saved_step != run->machine.step)
        return MT_FAIL(
            MT_IO,
            "stopped by %s after step %lld, but its state could not be saved; the newest "
            "checkpoint is of step %lld",
            stop_reason_text(reason), (long long)run->machine.step,
            (long long)run->last_saved_step);
    return MT_FAIL(MT_STOPPED,
                   "stopped by %s after step %lld of %lld; the state is saved in %s, and the same "
                   "command goes on from there",
                   stop_reason_text(reason), (long long)run->machine.step,
                   (long long)run->run_steps, run->job.run_dir);
}

static mt_status finish(struct run *run)
{
    progress_end(&run->progress);
    MT_TRY(save(run));
    MT_TRY(save_wait(run));
    MT_TRY(evaluate_split(run, SPLIT_TEST));
    MT_TRY(save_export(run));
    MT_TRY(peak_memory_gather(&run->peak, run->world));
    event_done(run);
    event_report(run);
    return MT_OK;
}

static bool goes_back(const struct job *job)
{
    return job->train.nonfinite == JOB_NONFINITE_ROLLBACK || job->train.spike == JOB_SPIKE_ROLLBACK;
}

/* Back to the newest checkpoint, from where the offending batches are passed over. */
static mt_status go_back(struct run *run, struct step_window *window)
{
    run->rollback_due = false;
    progress_end(&run->progress);
    MT_TRY(save_wait(run));
    phase_run_leave(run);
    prefix_cache_close(&run->cache);
    memset(window, 0, sizeof *window);
    return resume_rollback(run);
}

static mt_status loop(struct run *run)
{
    struct step_window window = {0};
    enum stop_reason stop = STOP_NONE;
    progress_begin(&run->progress, "training", "steps", run->machine.step);
    for (;;) {
        if (run->eval_pending) {
            mt_status st = evaluate(run);
            if (st == MT_STOPPED)
                return stop_here(run, stop_reason_local());
            MT_TRY(st);
            tell_cut_phase(run);
        }
        if (phase_is_over(run))
            MT_TRY(leave_phase(run));
        if (run->machine.finished)
            return finish(run);
        if (run->phase.plan == NULL) {
            mt_status st = phase_run_enter(run);
            if (st == MT_STOPPED) {
                phase_run_leave(run);
                return stop_here(run, stop_reason_local());
            }
            MT_TRY(st);
            memset(&window, 0, sizeof window);
        }
        if (run->phase.plan->probe) {
            MT_TRY(probe_phase_run(run));
            phase_machine_end_now(&run->machine, &run->job.schedule, &run->length, ENDED_FITTED);
            run->eval_pending = run->save_due = true;
            continue;
        }
        if (run->save_due || run->save_best)
            MT_TRY(save(run));
        if (stop != STOP_NONE)
            return stop_here(run, stop);
        if (run->paused) {
            MT_TRY(save_wait(run));
            MT_TRY(control_wait(run));
            MT_TRY(stop_agree(run->world, &stop));
            continue;
        }
        MT_TRY(advance(run, &window, &stop));
        if (run->replayed)
            return MT_OK;
        if (run->rollback_due)
            MT_TRY(go_back(run, &window));
    }
}

/* Collective.  Whether a run that is at its end was also told to be: a kill may come between. */
static mt_status is_complete(const struct run *run, bool *complete)
{
    bool done = false;
    char *path = NULL;
    mt_status st = MT_OK;
    *complete = run->machine.finished && run->resumed_step >= 0 && !run->eval_pending;
    if (!*complete)
        return MT_OK;
    if (run->world->rank == 0) {
        st = file_path_join(&path, run->job.run_dir, "metrics.jsonl");
        if (st == MT_OK)
            st = jsonl_ends_with(path, "done", &done);
        mt_free(&path);
    }
    MT_TRY(comm_agree(run->world, st));
    int64_t word = done;
    MT_TRY(comm_max_i64(run->world, &word, 1));
    *complete = word != 0;
    return MT_OK;
}

/* Training that ends in bad numbers, on all ranks alike, still ends the save that is under way. */
static mt_status end_save(struct run *run, mt_status ended)
{
    struct mt_error error;
    if (ended != MT_NUMERIC)
        return ended;
    mt_error_get(&error);
    record(save_wait(run));
    return mt_error_set(&error);
}

mt_status train_run(struct run *run)
{
    bool complete;
    MT_TRY(is_complete(run, &complete));
    if (complete) {
        log_info("run %s is complete at step %lld; nothing to do (--resume never needs a fresh "
                 "run_dir)",
                 run->job.run_dir, (long long)run->machine.step);
        return save_export(run);
    }
    event_start(run);
    save_warn_kill_timeout(run);
    if (run->resumed_step < 0 && goes_back(&run->job))
        run->save_due = true; /* there must be something to go back to */
    watchdog_start(run->world, run->job.run_dir, run->job.watchdog_s);
    mt_status st = end_save(run, loop(run));
    watchdog_stop();
    return st;
}

static void show_slurm(void)
{
    struct slurm slurm;
    char line[512];
    slurm_read(&slurm);
    for (int32_t i = 0; slurm_describe(&slurm, clock_wall_s(), i, line, sizeof line); i++)
        log_info("%s", line);
}

/* By default the second to fourth step from here: the first touches all memory. */
static mt_status open_trace(struct run *run, const struct run_options *options)
{
    int64_t first = options->trace_first, last = options->trace_last;
    if (options->trace == NULL)
        return MT_OK;
    if (first == 0) {
        first = run->machine.step + 2;
        last = run->machine.step + 4;
    }
    return trace_open(&run->trace, run->world, options->trace, first, last);
}

/* What was traced, if it is not written yet; answers how the run ended. */
static mt_status end_trace(struct run *run, mt_status ended)
{
    struct mt_error error;
    if (run->trace == NULL)
        return ended;
    mt_error_get(&error);
    MT_TRY(write_trace(run));
    return ended == MT_OK ? MT_OK : mt_error_set(&error);
}

mt_status train_job(const struct comm *world, const char *job_path,
                    const struct run_options *options)
{
    struct run *run;
    MT_ALL(world, mt_alloc(&run, 1, sizeof *run, "a run"));
    double limit_s = time_limit();
    show_slurm();
    peak_memory_reset();
    stop_set_deadline(limit_s - SAVE_MARGIN_S);
    mt_status st = run_open(run, world, job_path, options);
    run->time_limit_s = limit_s;
    if (st == MT_OK)
        st = open_trace(run, options);
    if (st == MT_OK)
        st = train_run(run);
    control_close(run, st == MT_OK ? "done" : st == MT_STOPPED ? "stopped" : "failed");
    if (st == MT_OK || st == MT_STOPPED)
        st = end_trace(run, st);
    if (st == MT_OK)
        event_summary(run);
    run_close(run);
    mt_free(&run);
    return st;
}
