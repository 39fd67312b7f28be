/*
 * One handler per kind of event in a table; each takes what it knows from the object and leaves the
 * rest.  Lines come from a buffer of at most LINE_BYTES_MAX: a longer one is counted as unreadable.
 */
#include "io/run_history.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/markup.h"

enum { READ_BYTES = 1 << 16, LINE_BYTES_MAX = 4 << 20 };

static double number_of(const struct json_node *node)
{
    double v;
    return json_node_real(node, &v) ? v : NAN;
}

static double number_at(const struct json_node *object, const char *key)
{
    return number_of(json_node_get(object, key));
}

/* Copies as many whole characters as fit. */
static void copy_text(char *to, size_t capacity, const char *from)
{
    size_t n = strlen(from);
    if (n >= capacity)
        n = capacity - 1;
    while (n > 0 && from[n] != '\0' && ((unsigned char)from[n] & 0xC0) == 0x80)
        n--;
    memcpy(to, from, n);
    to[n] = '\0';
}

/* A string, number or truth as text; false for anything else. */
static bool text_of(char *to, size_t capacity, const struct json_node *node)
{
    char text[MARKUP_NUMBER_BYTES];
    const char *string = json_node_string(node);
    int64_t whole;
    double real;
    bool truth;
    to[0] = '\0';
    if (string == NULL) {
        string = text;
        if (json_node_bool(node, &truth))
            (void)snprintf(text, sizeof text, "%s", truth ? "yes" : "no");
        else if (json_node_int(node, &whole))
            markup_format_count(text, whole);
        else if (json_node_real(node, &real))
            markup_format_number(text, real, 6);
        else
            return false;
    }
    copy_text(to, capacity, string);
    return true;
}

static void read_facts(struct history_facts *facts, const struct json_node *event)
{
    void *iter = NULL;
    const char *key;
    const struct json_node *value;
    facts->count = 0;
    while (facts->count < HISTORY_FACTS_MAX && json_node_next(event, &iter, &key, &value)) {
        struct history_fact *f = &facts->fact[facts->count];
        if (strcmp(key, "event") == 0 || strcmp(key, "time") == 0 || strcmp(key, "iso") == 0)
            continue;
        if (!text_of(f->value, sizeof f->value, value))
            continue;
        copy_text(f->key, sizeof f->key, key);
        facts->count++;
    }
}

static mt_status on_start(struct run_history *h, const struct json_node *event)
{
    h->starts++;
    h->is_done = h->is_stopped = false;
    read_facts(&h->start, event);
    h->parameters = number_at(event, "parameters");
    (void)text_of(h->name, sizeof h->name, json_node_get(event, "name"));
    return MT_OK;
}

/* The task of this name, made where it is new; NULL where there are too many. */
static mt_status find_task(struct run_history *h, const char *name, struct history_task **out)
{
    char cut[HISTORY_TEXT_BYTES];
    copy_text(cut, sizeof cut, name);
    *out = NULL;
    for (int32_t t = 0; t < h->task_count; t++) {
        if (strcmp(h->task[t].name, cut) == 0) {
            *out = &h->task[t];
            return MT_OK;
        }
    }
    if (h->task_count == HISTORY_TASKS_MAX)
        return MT_OK;
    MT_TRY(mt_grow(&h->task, h->task_count, h->task_count + 1, sizeof *h->task, "tasks"));
    *out = &h->task[h->task_count++];
    memcpy((*out)->name, cut, sizeof cut);
    return MT_OK;
}

static mt_status read_task_losses(struct run_history *h, const struct json_node *losses,
                                  double step)
{
    void *iter = NULL;
    const char *key;
    const struct json_node *value;
    bool seen[HISTORY_TASKS_MAX] = {false};
    while (json_node_next(losses, &iter, &key, &value)) {
        struct history_task *t;
        if (strcmp(key, "total") == 0)
            continue;
        MT_TRY(find_task(h, key, &t));
        if (t == NULL)
            continue;
        seen[t - h->task] = true;
        MT_TRY(curve_add(&t->loss, step, number_of(value)));
    }
    for (int32_t i = 0; i < h->task_count; i++)
        if (!seen[i])
            MT_TRY(curve_add(&h->task[i].loss, step, NAN));
    return MT_OK;
}

/* A number, or the largest of an array's or object's. */
static double largest_of(const struct json_node *node)
{
    double most = number_of(node);
    void *iter = NULL;
    const char *key;
    const struct json_node *value;
    while (json_node_next(node, &iter, &key, &value))
        most = fmax(most, number_of(value));
    for (int64_t i = 0; json_node_is_array(node) && i < json_node_count(node); i++)
        most = fmax(most, number_of(json_node_at(node, i)));
    return most;
}

/* Seconds of waiting, in wait_s or by themselves, over the seconds that the tokens took. */
static double wait_share(const struct json_node *event, const char *part, const char *key)
{
    double seconds = number_at(json_node_get(event, "wait_s"), part);
    if (isnan(seconds))
        seconds = number_at(event, key);
    return seconds * number_at(event, "tokens_per_s") / number_at(event, "tokens");
}

static mt_status on_step(struct run_history *h, const struct json_node *event)
{
    double step = number_at(event, "step");
    if (!isfinite(step))
        return MT_OK;
    const struct json_node *loss = json_node_get(event, "loss");
    const struct json_node *losses = json_node_get(event, "losses");
    if (!json_node_is_object(losses) && json_node_is_object(loss))
        losses = loss;
    double total = json_node_is_object(loss) ? number_at(loss, "total") : number_of(loss);
    h->last_step = step;
    MT_TRY(curve_add(&h->loss, step, total));
    MT_TRY(read_task_losses(h, losses, step));
    MT_TRY(curve_add(&h->rate, step, largest_of(json_node_get(event, "lr"))));
    MT_TRY(curve_add(&h->gradient_norm, step, number_at(event, "grad_norm")));
    MT_TRY(curve_add(&h->speed, step, number_at(event, "tokens_per_s")));
    MT_TRY(curve_add(&h->wait_data, step, wait_share(event, "data", "wait_data_s")));
    MT_TRY(curve_add(&h->wait_reduce, step, wait_share(event, "reduction", "wait_reduce_s")));
    return MT_OK;
}

static mt_status find_eval(struct run_history *h, const struct json_node *event,
                           struct history_eval **out)
{
    char split[HISTORY_TEXT_BYTES], task[HISTORY_TEXT_BYTES];
    (void)text_of(split, sizeof split, json_node_get(event, "split"));
    (void)text_of(task, sizeof task, json_node_get(event, "task"));
    *out = NULL;
    for (int32_t i = 0; i < h->eval_count; i++) {
        if (strcmp(h->eval[i].split, split) == 0 && strcmp(h->eval[i].task, task) == 0) {
            *out = &h->eval[i];
            return MT_OK;
        }
    }
    if (h->eval_count == HISTORY_EVALS_MAX)
        return MT_OK;
    MT_TRY(mt_grow(&h->eval, h->eval_count, h->eval_count + 1, sizeof *h->eval, "evaluations"));
    *out = &h->eval[h->eval_count++];
    memcpy((*out)->split, split, sizeof split);
    memcpy((*out)->task, task, sizeof task);
    return MT_OK;
}

/* A square table of counts replaces the one before; anything else leaves none. */
static mt_status read_confusion(struct history_eval *e, const struct json_node *event)
{
    const struct json_node *rows = json_node_get(event, "confusion");
    const struct json_node *labels = json_node_get(event, "labels");
    int64_t K = json_node_is_array(rows) ? json_node_count(rows) : 0;
    e->classes = 0;
    mt_free(&e->confusion);
    mt_free(&e->labels);
    if (K < 2 || K > HISTORY_CLASSES_MAX)
        return MT_OK;
    MT_TRY(mt_alloc(&e->confusion, K * K, sizeof *e->confusion, "a confusion table"));
    for (int64_t i = 0; i < K; i++) {
        const struct json_node *row = json_node_at(rows, i);
        if (!json_node_is_array(row) || json_node_count(row) != K)
            return MT_OK;
        for (int64_t j = 0; j < K; j++) {
            int64_t *n = &e->confusion[i * K + j];
            if (!json_node_int(json_node_at(row, j), n) || *n < 0 || *n > INT64_MAX / (4 * K * K))
                return MT_OK;
        }
    }
    e->classes = (int32_t)K;
    if (!json_node_is_array(labels) || json_node_count(labels) != K)
        return MT_OK;
    MT_TRY(mt_alloc(&e->labels, K, sizeof *e->labels, "names of classes"));
    for (int64_t i = 0; i < K; i++)
        (void)text_of(e->labels[i], sizeof e->labels[i], json_node_at(labels, i));
    return MT_OK;
}

static mt_status on_eval(struct run_history *h, const struct json_node *event)
{
    static const char *const KEYS[] = {"loss", "accuracy", "f1_macro", "mcc"};
    struct history_eval *e;
    double step = number_at(event, "step");
    if (!isfinite(step))
        return MT_OK;
    MT_TRY(find_eval(h, event, &e));
    if (e == NULL)
        return MT_OK;
    struct curve *curves[] = {&e->loss, &e->accuracy, &e->f1_macro, &e->mcc};
    for (int i = 0; i < 4; i++) {
        e->last[i] = number_at(event, KEYS[i]);
        MT_TRY(curve_add(curves[i], step, e->last[i]));
    }
    e->last_step = step;
    MT_TRY(read_confusion(e, event));
    return MT_OK;
}

static mt_status begin_phase(struct run_history *h, const struct json_node *event, const char *name,
                             double step)
{
    char planned[MARKUP_NUMBER_BYTES];
    while (h->phase_count > 0 && h->phase[h->phase_count - 1].begin_step > step)
        h->phase_count--;
    struct history_phase *last = h->phase_count > 0 ? &h->phase[h->phase_count - 1] : NULL;
    if (last != NULL && strcmp(last->name, name) == 0 &&
        (isnan(last->end_step) || last->begin_step == step))
        h->phase_count--; /* said again after a resume: it goes on */
    else
        last = NULL;
    if (h->phase_count == HISTORY_PHASES_MAX)
        return MT_OK;
    if (last == NULL) {
        MT_TRY(mt_grow(&h->phase, h->phase_count, h->phase_count + 1, sizeof *h->phase, "phases"));
        last = &h->phase[h->phase_count];
        memset(last, 0, sizeof *last);
        last->begin_step = step;
        last->begin_s = number_at(event, "time");
        memcpy(last->name, name, HISTORY_TEXT_BYTES);
    }
    h->phase_count++;
    last->end_step = last->end_s = last->seconds = NAN;
    last->trainable = number_at(event, "trainable_parameters");
    last->total = number_at(event, "total_parameters");
    if (isnan(last->total))
        last->total = h->parameters;
    if (!text_of(last->until, sizeof last->until, json_node_get(event, "until")) &&
        text_of(planned, sizeof planned, json_node_get(event, "planned_end")))
        (void)snprintf(last->until, sizeof last->until, "step %s", planned);
    return MT_OK;
}

static mt_status on_phase(struct run_history *h, const struct json_node *event)
{
    char name[HISTORY_TEXT_BYTES], action[16];
    double step = number_at(event, "step");
    if (!isfinite(step))
        return MT_OK;
    if (!text_of(name, sizeof name, json_node_get(event, "phase")) &&
        !text_of(name, sizeof name, json_node_get(event, "name")))
        (void)text_of(name, sizeof name, json_node_get(event, "index"));
    (void)text_of(action, sizeof action, json_node_get(event, "action"));
    if (strcmp(action, "end") != 0)
        return begin_phase(h, event, name, step);
    for (int32_t i = h->phase_count - 1; i >= 0; i--) {
        struct history_phase *p = &h->phase[i];
        if (strcmp(p->name, name) != 0 || step < p->begin_step)
            continue;
        p->end_step = step;
        p->end_s = number_at(event, "time");
        p->seconds = number_at(event, "seconds");
        (void)text_of(p->reason, sizeof p->reason, json_node_get(event, "reason"));
        break;
    }
    return MT_OK;
}

static mt_status on_checkpoint(struct run_history *h, const struct json_node *event)
{
    struct history_checkpoint c = {.step = number_at(event, "step"),
                                   .seconds = number_at(event, "seconds"),
                                   .bytes = number_at(event, "bytes")};
    (void)text_of(c.path, sizeof c.path, json_node_get(event, "path"));
    (void)json_node_bool(json_node_get(event, "best"), &c.best);
    while (h->checkpoint_count > 0 && h->checkpoint[h->checkpoint_count - 1].step >= c.step)
        h->checkpoint_count--;
    if (h->checkpoint_count == HISTORY_CHECKPOINTS_MAX) {
        memmove(h->checkpoint, h->checkpoint + 1, sizeof c * (HISTORY_CHECKPOINTS_MAX - 1));
        h->checkpoint_count--;
        h->checkpoints_before++;
    }
    h->checkpoint[h->checkpoint_count++] = c;
    return MT_OK;
}

static mt_status on_warning(struct run_history *h, const struct json_node *event)
{
    const char *message = json_node_string(json_node_get(event, "message"));
    double step = number_at(event, "step");
    struct history_warning w = {.first_step = step, .last_step = step, .times = 1};
    copy_text(w.message, sizeof w.message, message != NULL ? message : "(no message)");
    for (int32_t i = 0; i < h->warning_count; i++) {
        if (strcmp(h->warning[i].message, w.message) == 0) {
            h->warning[i].times++;
            h->warning[i].last_step = step;
            return MT_OK;
        }
    }
    if (h->warning_count == HISTORY_WARNINGS_MAX) {
        h->warnings_left_out++;
        return MT_OK;
    }
    MT_TRY(mt_grow(&h->warning, h->warning_count, h->warning_count + 1, sizeof w, "warnings"));
    h->warning[h->warning_count++] = w;
    return MT_OK;
}

static mt_status on_stop(struct run_history *h, const struct json_node *event)
{
    h->stops++;
    h->is_stopped = true;
    (void)text_of(h->stop_reason, sizeof h->stop_reason, json_node_get(event, "reason"));
    return MT_OK;
}

static mt_status on_done(struct run_history *h, const struct json_node *event)
{
    h->is_done = true;
    read_facts(&h->done, event);
    return MT_OK;
}

static const struct {
    const char *event;
    mt_status (*take)(struct run_history *, const struct json_node *);
} EVENTS[] = {
    {"start", on_start},           {"step", on_step},       {"eval", on_eval}, {"phase", on_phase},
    {"checkpoint", on_checkpoint}, {"warning", on_warning}, {"stop", on_stop}, {"done", on_done},
};

static mt_status take_line(struct run_history *h, const char *line, int64_t bytes, bool torn)
{
    struct json_doc *doc = NULL;
    mt_status st = MT_OK;
    while (bytes > 0 && (line[bytes - 1] == '\r' || line[bytes - 1] == ' '))
        bytes--;
    if (bytes == 0)
        return MT_OK;
    st = json_doc_parse(&doc, line, bytes, "metrics.jsonl");
    if (st == MT_NOMEM)
        return st;
    const struct json_node *root = st == MT_OK ? json_doc_root(doc) : NULL;
    const char *event = json_node_string(json_node_get(root, "event"));
    if (st != MT_OK) {
        mt_error_clear();
        st = MT_OK;
    }
    if (event == NULL) {
        h->bad_lines += !torn;
    } else {
        double time = number_at(root, "time");
        h->lines++;
        h->first_s = isnan(h->first_s) ? time : h->first_s;
        h->last_s = isnan(time) ? h->last_s : time;
        for (size_t i = 0; st == MT_OK && i < sizeof EVENTS / sizeof *EVENTS; i++)
            if (strcmp(event, EVENTS[i].event) == 0)
                st = EVENTS[i].take(h, root);
    }
    json_doc_destroy(&doc);
    return st;
}

/* What has been read and not yet taken as a line. */
struct line_buffer {
    char *bytes;
    int64_t used, capacity;
    bool skipping; /* inside a line that is too long */
};

/* Takes all whole lines; keeps the rest. */
static mt_status take_lines(struct run_history *h, struct line_buffer *b)
{
    int64_t begin = 0;
    for (;;) {
        const char *end = memchr(b->bytes + begin, '\n', (size_t)(b->used - begin));
        if (end == NULL)
            break;
        int64_t bytes = end - (b->bytes + begin);
        if (b->skipping)
            b->skipping = false;
        else
            MT_TRY(take_line(h, b->bytes + begin, bytes, false));
        begin += bytes + 1;
    }
    memmove(b->bytes, b->bytes + begin, (size_t)(b->used - begin));
    b->used -= begin;
    if (b->used >= LINE_BYTES_MAX) {
        h->bad_lines += !b->skipping;
        b->skipping = true;
    }
    if (b->skipping)
        b->used = 0;
    return MT_OK;
}

mt_status run_history_read(struct run_history *h, const char *path)
{
    mt_status st;
    int fd = -1;
    int64_t size, got = 0;
    struct line_buffer b = {0};
    memset(h, 0, sizeof *h);
    h->first_s = h->last_s = h->last_step = h->parameters = NAN;
    MT_TRY(file_fd_open(&fd, &size, path));
    do {
        if (b.capacity - b.used < READ_BYTES) {
            int64_t capacity = b.capacity > 0 ? 2 * b.capacity : 2 * READ_BYTES;
            MT_TRY_GOTO(st, mt_grow(&b.bytes, b.capacity, capacity, 1, "a line of events"), done);
            b.capacity = capacity;
        }
        MT_TRY_GOTO(st, file_fd_read(fd, b.bytes + b.used, READ_BYTES, &got, path), done);
        b.used += got;
        MT_TRY_GOTO(st, take_lines(h, &b), done);
    } while (got > 0);
    if (b.used > 0 && !b.skipping)
        MT_TRY_GOTO(st, take_line(h, b.bytes, b.used, true), done);
done:
    mt_free(&b.bytes);
    file_fd_close(&fd);
    return st;
}

void run_history_release(struct run_history *h)
{
    struct curve *own[] = {&h->loss,  &h->rate,      &h->gradient_norm,
                           &h->speed, &h->wait_data, &h->wait_reduce};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        curve_release(own[i]);
    for (int32_t i = 0; i < h->task_count; i++)
        curve_release(&h->task[i].loss);
    for (int32_t i = 0; i < h->eval_count; i++) {
        struct history_eval *e = &h->eval[i];
        curve_release(&e->loss);
        curve_release(&e->accuracy);
        curve_release(&e->f1_macro);
        curve_release(&e->mcc);
        mt_free(&e->confusion);
        mt_free(&e->labels);
    }
    mt_free(&h->task);
    mt_free(&h->eval);
    mt_free(&h->phase);
    mt_free(&h->warning);
    memset(h, 0, sizeof *h);
}
