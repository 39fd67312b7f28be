/*
 * See trace.h.  Threads take places in one block by an atomic counter, so recording needs no lock.
 * Rank 0 gets and writes one rank's spans at a time: its memory does not grow with the ranks.
 */
#include "trainer/trace.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/file.h"

enum { SPANS_MOST = 1 << 18, BUCKET_ROWS = 8, CLOCK_ROUNDS = 15 };

struct span {
    int64_t begin_ns, end_ns; /* of this host's clock */
    int64_t step, detail;
    int32_t kind, row;
};

/* What a rank tells rank 0 beside its spans. */
struct rank_facts {
    int64_t spans, dropped, clock_ns; /* clock_ns: to be subtracted */
};

/* A bucket that is under way. */
struct open_bucket {
    int32_t bucket; /* -1 = none */
    int64_t bytes;
    double begin_s;
};

struct trace {
    const struct comm *world;
    char *path;
    int64_t first, last;
    atomic_llong step;
    int64_t clock_ns; /* this host's clock minus rank 0's */
    double opened_s;
    atomic_bool active, written; /* a saver looks, too */
    bool seen;
    struct span *span; /* [SPANS_MOST] */
    atomic_llong taken;
    struct open_bucket open[BUCKET_ROWS];
};

static const char *const kind_name[TRACE_KINDS] = {
    [TRACE_STEP] = "step",
    [TRACE_WAIT_DATA] = "wait for data",
    [TRACE_LANES] = "lanes",
    [TRACE_LANE] = "lane",
    [TRACE_FORWARD] = "forward",
    [TRACE_BACKWARD] = "backward",
    [TRACE_GROUP] = "kernels",
    [TRACE_WAIT_REDUCTION] = "wait for reduction",
    [TRACE_BUCKET] = "bucket",
    [TRACE_UPDATE] = "update",
    [TRACE_EVALUATION] = "evaluation",
    [TRACE_SAVE] = "save",
    [TRACE_WRITE] = "write checkpoint",
};

/* What the number of a span means; NULL = nothing. */
static const char *const detail_name[TRACE_KINDS] = {[TRACE_LANE] = "lane",
                                                     [TRACE_FORWARD] = "depth",
                                                     [TRACE_BACKWARD] = "depth",
                                                     [TRACE_BUCKET] = "bytes"};

mt_status trace_parse_steps(const char *text, int64_t *first, int64_t *last)
{
    char *end;
    long long from = strtoll(text, &end, 10), to = from;
    bool good = end != text;
    if (good && *end == '-') {
        const char *second = end + 1;
        to = strtoll(second, &end, 10);
        good = end != second;
    }
    if (!good || *end != '\0' || from < 1 || to < from)
        return MT_FAIL(MT_ARG, "--trace-steps %s: expected steps like 10 or 10-12", text);
    *first = from;
    *last = to;
    return MT_OK;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* This host's clock minus rank 0's: all leave a barrier at nearly the same time. */
static mt_status measure_clock(struct trace *t)
{
    const struct comm *w = t->world;
    double *all = NULL, difference[CLOCK_ROUNDS];
    int32_t leader = 0; /* one rank speaks for its host */
    mt_status st = mt_alloc(&all, w->size, sizeof *all, "the ranks' clocks");
    MT_TRY_GOTO(st, comm_agree(w, st), done);
    while (comm_node_of(w, leader) != w->node_index)
        leader++;
    for (int32_t i = 0; i < CLOCK_ROUNDS; i++) {
        MT_TRY_GOTO(st, comm_barrier(w), done);
        double now_s = clock_now_s();
        MT_TRY_GOTO(st, comm_allgather(w, &now_s, (int64_t)sizeof now_s, all), done);
        difference[i] = all[leader] - all[0];
    }
    qsort(difference, CLOCK_ROUNDS, sizeof *difference, by_size);
    t->clock_ns = (int64_t)(1e9 * difference[CLOCK_ROUNDS / 2]);
    t->opened_s = all[0];
done:
    mt_free(&all);
    return st;
}

static mt_status create(struct trace **out, const char *path, bool root)
{
    char *dir = NULL;
    MT_TRY(mt_alloc(out, 1, sizeof **out, "a trace"));
    MT_TRY(mt_strdup(&(*out)->path, path));
    MT_TRY(mt_alloc(&(*out)->span, SPANS_MOST, sizeof *(*out)->span, "spans of a trace"));
    if (!root)
        return MT_OK;
    MT_TRY(file_path_dir(&dir, path));
    bool there = file_is_dir(dir) && !file_is_dir(path);
    mt_free(&dir);
    return there ? MT_OK
                 : MT_FAIL(MT_IO, "--trace %s: its folder is not there, or it is a folder itself",
                           path);
}

mt_status trace_open(struct trace **out, const struct comm *world, const char *path, int64_t first,
                     int64_t last)
{
    struct trace *t = NULL;
    mt_status st = comm_agree(world, create(&t, path, world->rank == 0));
    MT_TRY_GOTO(st, st, failed);
    t->world = world;
    t->first = first;
    t->last = last;
    for (int32_t i = 0; i < BUCKET_ROWS; i++)
        t->open[i].bucket = -1;
    MT_TRY_GOTO(st, measure_clock(t), failed);
    *out = t;
    return MT_OK;
failed:
    trace_close(&t);
    return st;
}

void trace_close(struct trace **trace)
{
    struct trace *t = *trace;
    if (t == NULL)
        return;
    mt_free(&t->path);
    mt_free(&t->span);
    mt_free(trace);
}

void trace_step(struct trace *t, int64_t step)
{
    if (t == NULL)
        return;
    t->step = step;
    t->active = !t->written && step >= t->first && step <= t->last;
    t->seen = t->seen || t->active;
}

double trace_begin(const struct trace *t)
{
    return t != NULL && t->active ? clock_now_s() : 0.0;
}

static void keep(struct trace *t, enum trace_kind kind, int32_t row, int64_t detail, double begin_s,
                 double end_s)
{
    long long at = atomic_fetch_add(&t->taken, 1);
    if (at >= SPANS_MOST)
        return;
    t->span[at] = (struct span){
        (int64_t)(1e9 * begin_s), (int64_t)(1e9 * end_s), t->step, detail, (int32_t)kind, row};
}

void trace_end(struct trace *t, enum trace_kind kind, int32_t row, int64_t detail, double begin_s)
{
    if (t != NULL && begin_s > 0.0 && !t->written)
        keep(t, kind, row, detail, begin_s, clock_now_s());
}

/* A timing_watch whose context is the lane. */
static void watch(void *context, const struct timing_span *s)
{
    const struct trace_lane *lane = context;
    static const enum trace_kind kinds[] = {[TIMING_SPAN_GROUP] = TRACE_GROUP,
                                            [TIMING_SPAN_FORWARD] = TRACE_FORWARD,
                                            [TIMING_SPAN_BACKWARD] = TRACE_BACKWARD};
    keep(lane->trace, kinds[s->kind], lane->row, s->detail, s->begin_s, s->end_s);
}

void trace_lane_begin(struct trace_lane *lane, struct trace *t, int32_t worker)
{
    lane->begin_s = trace_begin(t);
    if (lane->begin_s <= 0.0)
        return;
    lane->trace = t;
    lane->row = TRACE_ROW_MAIN + worker;
    lane->timing = timing_current();
    if (lane->timing == NULL) {
        memset(&lane->own, 0, sizeof lane->own);
        lane->timing = &lane->own;
        timing_set(lane->timing);
    } else {
        timing_mark(TIMING_OTHER);
    }
    lane->timing->watch = watch;
    lane->timing->context = lane;
    lane->begin_s = lane->timing->last_s;
}

void trace_lane_end(struct trace_lane *lane, int32_t number)
{
    if (lane->begin_s <= 0.0)
        return;
    timing_mark(TIMING_OTHER);
    lane->timing->watch = NULL;
    if (lane->timing == &lane->own)
        timing_set(NULL);
    trace_end(lane->trace, TRACE_LANE, lane->row, number, lane->begin_s);
}

/* Buckets are under way side by side: each takes the first row that is free. */
void trace_bucket(void *context, int32_t bucket, int64_t elements, bool done)
{
    struct trace *t = context;
    if (!t->active)
        return;
    for (int32_t i = 0; i < BUCKET_ROWS; i++) {
        struct open_bucket *o = &t->open[i];
        if (!done && o->bucket < 0) {
            *o = (struct open_bucket){bucket, elements * (int64_t)sizeof(float), clock_now_s()};
            return;
        }
        if (done && o->bucket == bucket) {
            trace_end(t, TRACE_BUCKET, TRACE_ROW_REDUCTION + i, o->bytes, o->begin_s);
            o->bucket = -1;
            return;
        }
    }
}

bool trace_is_due(const struct trace *t, int64_t steps_done, bool saving)
{
    return t != NULL && t->seen && !t->written && !saving && steps_done > t->last;
}

static mt_status put(struct file_writer *w, const char *text)
{
    return file_writer_write(w, text, (int64_t)strlen(text));
}

static void row_name(char *text, int64_t bytes, int32_t row)
{
    if (row == TRACE_ROW_MAIN)
        (void)snprintf(text, (size_t)bytes, "main");
    else if (row == TRACE_ROW_SAVER)
        (void)snprintf(text, (size_t)bytes, "saver");
    else if (row >= TRACE_ROW_REDUCTION)
        (void)snprintf(text, (size_t)bytes, "reduction %d", row - TRACE_ROW_REDUCTION + 1);
    else
        (void)snprintf(text, (size_t)bytes, "worker %d", row);
}

/* Names of a rank and of each row that it has spans on. */
static mt_status write_names(const struct trace *t, struct file_writer *w, int32_t rank,
                             const struct span *span, int64_t count)
{
    char line[256], host[COMM_HOST_BYTES], name[32];
    bool named[TRACE_ROW_SAVER + 1] = {false};
    (void)snprintf(host, sizeof host, "%s", comm_host(t->world, rank));
    for (char *c = host; *c != '\0'; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = '_';
    (void)snprintf(line, sizeof line,
                   "%s{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":\"rank "
                   "%d on %s\"}},\n{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":%d,"
                   "\"args\":{\"sort_index\":%d}}",
                   rank == 0 ? "" : ",\n", rank, rank, host, rank, rank);
    MT_TRY(put(w, line));
    for (int64_t i = 0; i < count; i++) {
        int32_t row = span[i].row;
        if (named[row])
            continue;
        named[row] = true;
        row_name(name, (int64_t)sizeof name, row);
        (void)snprintf(
            line, sizeof line,
            ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d,\"args\":{"
            "\"name\":\"%s\"}},\n{\"ph\":\"M\",\"name\":\"thread_sort_index\",\"pid\":%d,"
            "\"tid\":%d,\"args\":{\"sort_index\":%d}}",
            rank, row, name, rank, row, row);
        MT_TRY(put(w, line));
    }
    return MT_OK;
}

static mt_status write_span(struct file_writer *w, int32_t rank, const struct span *s,
                            int64_t zero_ns)
{
    char line[320], name[48], detail[48] = "";
    const char *what = kind_name[s->kind];
    if (s->kind == TRACE_GROUP)
        (void)snprintf(name, sizeof name, "%s", timing_name((enum timing_group)s->detail));
    else if (s->kind == TRACE_LANE || s->kind == TRACE_FORWARD || s->kind == TRACE_BACKWARD)
        (void)snprintf(name, sizeof name, "%s %lld", what, (long long)s->detail);
    else
        (void)snprintf(name, sizeof name, "%s", what);
    if (detail_name[s->kind] != NULL)
        (void)snprintf(detail, sizeof detail, ",\"%s\":%lld", detail_name[s->kind],
                       (long long)s->detail);
    int64_t at = s->begin_ns - zero_ns, took = s->end_ns - s->begin_ns;
    (void)snprintf(line, sizeof line,
                   ",\n{\"ph\":\"X\",\"name\":\"%s\",\"cat\":\"%s\",\"pid\":%d,\"tid\":%d,"
                   "\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"step\":%lld%s}}",
                   name, what, rank, s->row, 1e-3 * (double)at, 1e-3 * (double)took,
                   (long long)s->step, detail);
    return put(w, line);
}

static mt_status write_rank(const struct trace *t, struct file_writer *w, int32_t rank,
                            const struct span *span, const struct rank_facts *facts)
{
    int64_t zero_ns = (int64_t)(1e9 * t->opened_s) + facts->clock_ns;
    MT_TRY(write_names(t, w, rank, span, facts->spans));
    for (int64_t i = 0; i < facts->spans; i++)
        MT_TRY(write_span(w, rank, &span[i], zero_ns));
    return MT_OK;
}

static mt_status write_end(const struct trace *t, struct file_writer *w, int64_t dropped)
{
    char line[256];
    (void)snprintf(line, sizeof line,
                   "\n],\"displayTimeUnit\":\"ms\",\"otherData\":{\"program\":\"mttrain\","
                   "\"first_step\":%lld,\"last_step\":%lld,\"ranks\":%d,\"dropped_spans\":%lld}}\n",
                   (long long)t->first, (long long)t->last, t->world->size, (long long)dropped);
    MT_TRY(put(w, line));
    return file_writer_commit(w);
}

/* A rank's spans on rank 0 (*all, else NULL); only that rank has something to send. */
static mt_status fetch(const struct trace *t, int32_t rank, int64_t spans, void **all,
                       int64_t *offsets)
{
    int64_t bytes = t->world->rank == rank ? spans * (int64_t)sizeof(struct span) : 0;
    return comm_gatherv(t->world, t->span, bytes, all, offsets, 0);
}

static mt_status write_all(struct trace *t, const struct rank_facts *facts, int64_t *offsets,
                           struct file_writer *w)
{
    bool root = t->world->rank == 0;
    int64_t dropped = 0, spans = 0;
    mt_status st = MT_OK, written = MT_OK;
    if (root) {
        written = file_writer_open(w, t->path);
        if (written == MT_OK)
            written = put(w, "{\"traceEvents\":[\n");
    }
    for (int32_t rank = 0; rank < t->world->size; rank++) {
        void *all = NULL;
        st = fetch(t, rank, facts[rank].spans, &all, offsets);
        if (st == MT_OK && root && written == MT_OK)
            written = write_rank(t, w, rank, all, &facts[rank]);
        mt_free(&all);
        MT_TRY(st);
        dropped += facts[rank].dropped;
        spans += facts[rank].spans;
    }
    if (root && written == MT_OK)
        written = write_end(t, w, dropped);
    MT_TRY(comm_agree(t->world, written));
    log_info("trace of steps %lld-%lld: %lld spans of %d rank%s in %s", (long long)t->first,
             (long long)t->last, (long long)spans, t->world->size, t->world->size == 1 ? "" : "s",
             t->path);
    if (dropped > 0)
        log_warning("%lld spans did not fit the trace; choose fewer steps", (long long)dropped);
    return MT_OK;
}

mt_status trace_write(struct trace *t)
{
    if (t == NULL || t->written)
        return MT_OK;
    if (!t->seen) {
        log_warning("no trace: none of the steps %lld-%lld was done", (long long)t->first,
                    (long long)t->last);
        return MT_OK;
    }
    const struct comm *w = t->world;
    long long taken = atomic_load(&t->taken);
    struct rank_facts mine = {.spans = taken < SPANS_MOST ? taken : SPANS_MOST,
                              .clock_ns = t->clock_ns},
                      *facts = NULL;
    struct file_writer writer = {.fd = -1};
    int64_t *offsets = NULL;
    t->active = false;
    t->written = true;
    mine.dropped = taken - mine.spans;
    mt_status st = mt_alloc(&facts, w->size, sizeof *facts, "what ranks trace");
    if (st == MT_OK)
        st = mt_alloc(&offsets, w->size + 1, sizeof *offsets, "what ranks trace");
    MT_TRY_GOTO(st, comm_agree(w, st), done);
    MT_TRY_GOTO(st, comm_allgather(w, &mine, (int64_t)sizeof mine, facts), done);
    st = write_all(t, facts, offsets, &writer);
done:
    file_writer_discard(&writer);
    mt_free(&facts);
    mt_free(&offsets);
    return st;
}
