/*
 * See control.h.  Commands cross in one packet of fixed size; a full one is followed by the next at
 * the next boundary.
 */
#include "trainer/control.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/clock.h"
#include "comm/exchange.h"
#include "comm/stop.h"
#include "trainer/ctl.h"
#include "trainer/decisions.h"
#include "trainer/events.h"
#include "trainer/watchdog.h"

enum { PACKET_COMMANDS = 8 };

struct packet {
    int32_t count;
    struct ctl_command command[PACKET_COMMANDS];
};

/* The settable keys. */
static struct duration *cadence(struct run *run, const char *key)
{
    const char *const names[] = {"train.log_every", "train.save_every", "train.eval_every"};
    struct duration *const fields[] = {&run->every.log, &run->every.save, &run->every.eval};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(key, names[i]) == 0)
            return fields[i];
    return NULL;
}

static bool is_lr_scale(const char *key)
{
    return strcmp(key, "lr_scale") == 0 || strcmp(key, "optimizer.lr_scale") == 0;
}

/* False for a key that cannot be set or a value it cannot take. */
static bool set(struct run *run, const char *key, const char *value)
{
    struct duration *field = cadence(run, key);
    if (field != NULL) {
        struct duration d;
        if (!duration_parse(&d, value))
            return false;
        *field = d;
        return true;
    }
    char *end;
    errno = 0;
    double scale = strtod(value, &end);
    if (!is_lr_scale(key) || errno != 0 || end == value || *end != '\0' || !isfinite(scale) ||
        scale < 0.0)
        return false;
    run->lr_scale = scale;
    return true;
}

/* Root.  Whether the command can be obeyed; answers it.  Journals what changes the run's course. */
static bool admit(struct run *run, const struct ctl_command *c)
{
    struct run_cadence every = run->every;
    double scale = run->lr_scale;
    const char *phase = run->phase.plan != NULL ? run->phase.plan->phase->name : "";
    long long step = (long long)run->machine.step;
    mt_status st = MT_OK;
    switch (c->verb) {
    case CTL_SET:
        if (!set(run, c->key, c->value)) {
            ctl_answer(run->ctl, c,
                       "error: cannot set %s = %s; train.log_every, train.save_every and "
                       "train.eval_every take a duration (10st, 0.5ep, 5min), lr_scale a number",
                       c->key, c->value);
            return false;
        }
        run->every = every; /* all ranks set it together */
        run->lr_scale = scale;
        st = decisions_add_set(run, c->key, c->value);
        break;
    case CTL_NEXT_PHASE:
        if (run->machine.finished || run->phase.plan == NULL ||
            run->phase.plan != &run->plan[run->machine.phase] ||
            run->machine.step == run->machine.phase_begin_step) {
            ctl_answer(run->ctl, c, "error: the phase has only begun; ask again after a step");
            return false;
        }
        st = decisions_add_phase_end(run, run->machine.phase, run->machine.step, ENDED_COMMAND);
        break;
    default:
        break;
    }
    if (st != MT_OK) {
        ctl_answer(run->ctl, c, "error: not recorded, so not done: %s", mt_error_peek()->message);
        mt_error_clear();
        return false;
    }
    switch (c->verb) {
    case CTL_CHECKPOINT:
        ctl_answer(run->ctl, c, "ok: a checkpoint of step %lld is being written", step);
        break;
    case CTL_PAUSE:
        ctl_answer(run->ctl, c, "ok: paused after step %lld", step);
        break;
    case CTL_RESUME:
        ctl_answer(run->ctl, c, "ok: goes on after step %lld", step);
        break;
    case CTL_NEXT_PHASE:
        ctl_answer(run->ctl, c, "ok: phase \"%s\" ends after step %lld", phase, step);
        break;
    case CTL_SET:
        ctl_answer(run->ctl, c, "ok: %s = %s from step %lld on", c->key, c->value, step + 1);
        break;
    default:
        ctl_answer(run->ctl, c, "ok");
        break;
    }
    return true;
}

static void obey_one(struct run *run, const struct ctl_command *c)
{
    switch (c->verb) {
    case CTL_CHECKPOINT:
        run->save_due = true;
        break;
    case CTL_PAUSE:
        run->paused = true;
        control_tell(run, "paused", NULL);
        break;
    case CTL_RESUME:
        run->paused = false;
        control_tell(run, "training", NULL);
        break;
    case CTL_NEXT_PHASE:
        phase_machine_end_now(&run->machine, &run->job.schedule, &run->length, ENDED_COMMAND);
        run->eval_pending = true;
        break;
    case CTL_SET:
        (void)set(run, c->key, c->value);
        break;
    default:
        break;
    }
    event_control(run, ctl_verb_name(c->verb), c->key, c->value);
}

void control_open(struct run *run)
{
    if (run->world->rank == 0)
        ctl_open(&run->ctl, run->job.run_dir);
}

void control_close(struct run *run, const char *state)
{
    if (run->ctl == NULL)
        return;
    if (state != NULL)
        control_tell(run, state, NULL);
    ctl_close(&run->ctl);
}

bool control_is_pending(const struct run *run)
{
    return run->ctl != NULL && ctl_pending(run->ctl) > 0;
}

mt_status control_obey(struct run *run)
{
    struct packet packet;
    memset(&packet, 0, sizeof packet);
    while (run->world->rank == 0 && packet.count < PACKET_COMMANDS &&
           ctl_take(run->ctl, &packet.command[packet.count]))
        if (admit(run, &packet.command[packet.count])) {
            packet.count++;
            if (packet.command[packet.count - 1].verb == CTL_NEXT_PHASE)
                break; /* what comes behind it belongs to the next phase */
        }
    MT_TRY(comm_broadcast(run->world, &packet, (int64_t)sizeof packet, 0));
    for (int32_t i = 0; i < packet.count; i++)
        obey_one(run, &packet.command[i]);
    return MT_OK;
}

mt_status control_wait(struct run *run)
{
    const double nap_s = 0.05;
    control_tell(run, "paused", NULL);
    for (;;) {
        double word[2] = {(double)stop_reason_local(), control_is_pending(run)};
        watchdog_beat(WATCHDOG_PAUSED);
        MT_TRY(comm_max_f64(run->world, word, 2));
        if (word[1] > 0.0)
            return control_obey(run);
        if (word[0] > 0.0)
            return MT_OK;
        clock_sleep_s(nap_s);
    }
}

void control_apply_settings(struct run *run)
{
    for (int32_t i = 0; i < run->setting_count; i++)
        if (run->setting[i].step == run->machine.step)
            (void)set(run, run->setting[i].key, run->setting[i].value);
}

void control_take_up_settings(struct run *run)
{
    run->every = (struct run_cadence){run->job.train.log_every, run->job.train.save_every,
                                      run->job.train.eval_every};
    for (int32_t i = 0; i < run->setting_count; i++) {
        const struct run_setting *s = &run->setting[i];
        bool in_state = is_lr_scale(s->key) && s->step < run->machine.step;
        if (s->step > run->machine.step || in_state)
            continue;
        if (set(run, s->key, s->value))
            log_info("%s = %s, as was set at step %lld", s->key, s->value, (long long)s->step);
    }
}

static double peak_rate(const struct run *run)
{
    double peak = 0.0;
    for (int32_t i = 0; i < run->model.table.count; i++)
        if (run->phase.plan->lr[i] > peak)
            peak = run->phase.plan->lr[i];
    return peak;
}

void control_tell(struct run *run, const char *state, const struct step_report *report)
{
    struct ctl_status *s = &run->status;
    const double share = 0.1; /* of a new step in the running mean */
    if (run->ctl == NULL)
        return;
    (void)snprintf(s->state, sizeof s->state, "%s", state);
    (void)snprintf(s->name, sizeof s->name, "%s", run->job.name);
    (void)snprintf(s->host, sizeof s->host, "%s", comm_host(run->world, 0));
    s->ranks = run->world->size;
    s->phases = run->job.schedule.count;
    s->phase_index = run->machine.phase;
    (void)snprintf(s->phase, sizeof s->phase, "%s",
                   run->plan == NULL || run->machine.finished
                       ? ""
                       : run->job.schedule.phase[s->phase_index].name);
    s->step = run->machine.step;
    s->steps = run->run_steps < INT64_MAX ? run->run_steps : 0;
    if (report != NULL && !report->skipped && report->seconds > 0.0) {
        double rate = (double)report->tokens / report->seconds;
        bool first = !(run->step_mean_s > 0.0);
        run->step_mean_s += (first ? 1.0 : share) * (report->seconds - run->step_mean_s);
        s->tokens_per_s += (first ? 1.0 : share) * (rate - s->tokens_per_s);
        s->loss = report->loss;
        s->lr = peak_rate(run) * report->lr_factor;
    }
    s->eta_s = s->steps > 0 && run->step_mean_s > 0.0
                   ? (double)(s->steps - s->step) * run->step_mean_s
                   : NAN;
    ctl_tell(run->ctl, s);
}
