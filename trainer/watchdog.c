/*
 * See watchdog.h.
 *
 * A record is one short file a rank, replaced by rename, with two counters: `beat` rises as long as
 * the process lives, `progress` whenever its main thread comes forward.  Only whether they rise is
 * looked at, so clocks of hosts may differ and jump.  Others' records are read only once this rank
 * has stood still for half the time: a healthy run costs one small write a second and rank.
 *
 * All ranks reach the same judgement at about the same time; the lowest rank that is not itself
 * silent speaks and aborts, the others follow some seconds later in case it cannot.
 *
 * Refused: messages between watchdogs (the network may be what hangs) and a central one (rank 0 may
 * be the one that hangs).
 */
#include "trainer/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/clock.h"
#include "comm/base/hash.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/jsonl.h"

enum { PATH_BYTES = 4200, RECORD_BYTES = 256, EXIT_AGAIN = 75, LAST_RESORT_S = 20, NAMED_MAX = 8 };

static atomic_ullong progress;
static atomic_llong place_step;
static atomic_int place_phase, operation_now;

static const struct {
    const char *name;
    bool waits;
} operations[WATCHDOG_OPERATIONS] = {
    [WATCHDOG_STARTING] = {"starting", false},
    [WATCHDOG_BATCH] = {"waiting for the next batch from its reader", false},
    [WATCHDOG_COMPUTE] = {"computing forward and backward", false},
    [WATCHDOG_REDUCE] = {"waiting for the reduction of gradients", true},
    [WATCHDOG_UPDATE] = {"updating parameters", false},
    [WATCHDOG_BOUNDARY] = {"waiting for all ranks at the step boundary", true},
    [WATCHDOG_EVALUATE] = {"evaluating", false},
    [WATCHDOG_CACHE] = {"filling the prefix cache", false},
    [WATCHDOG_PHASE] = {"entering a phase", false},
    [WATCHDOG_SAVE] = {"saving a checkpoint", false},
    [WATCHDOG_PAUSED] = {"paused", true},
};

struct seen {
    bool known;
    uint64_t beat, progress;
    double beat_s, progress_s; /* when each was last seen to change */
    struct watchdog_rank state;
};

static struct {
    const struct comm *world;
    char dir[PATH_BYTES], events[PATH_BYTES];
    double limit_s, tick_s;
    pthread_t thread;
    bool running;
    atomic_bool ends;
    uint64_t beat;
    struct seen *seen; /* [ranks] */
    struct watchdog_rank *rank;
    bool *culprit;
} dog;

const char *watchdog_operation_name(enum watchdog_operation operation)
{
    return (unsigned)operation < WATCHDOG_OPERATIONS ? operations[operation].name : "unknown";
}

bool watchdog_operation_waits(enum watchdog_operation operation)
{
    return (unsigned)operation < WATCHDOG_OPERATIONS && operations[operation].waits;
}

void watchdog_beat(enum watchdog_operation operation)
{
    atomic_store_explicit(&operation_now, (int)operation, memory_order_relaxed);
    atomic_fetch_add_explicit(&progress, 1, memory_order_relaxed);
}

void watchdog_place(int64_t step, int32_t phase)
{
    atomic_store_explicit(&place_step, step, memory_order_relaxed);
    atomic_store_explicit(&place_phase, phase, memory_order_relaxed);
}

static int32_t mark(const struct watchdog_rank *ranks, int32_t count, bool *culprit,
                    bool (*guilty)(const struct watchdog_rank *, double, int64_t), double limit_s,
                    int64_t least_step)
{
    int32_t found = 0;
    for (int32_t r = 0; r < count; r++) {
        culprit[r] = guilty(&ranks[r], limit_s, least_step);
        found += culprit[r];
    }
    return found;
}

static bool is_silent(const struct watchdog_rank *r, double limit_s, int64_t least_step)
{
    (void)limit_s;
    (void)least_step;
    return r->silent;
}

static bool is_stuck(const struct watchdog_rank *r, double limit_s, int64_t least_step)
{
    (void)least_step;
    return r->still_s >= limit_s && !watchdog_operation_waits(r->operation);
}

static bool is_behind(const struct watchdog_rank *r, double limit_s, int64_t least_step)
{
    (void)limit_s;
    return r->step == least_step;
}

int32_t watchdog_judge(const struct watchdog_rank *ranks, int32_t count, double limit_s,
                       bool *culprit)
{
    int64_t least = INT64_MAX;
    for (int32_t r = 0; r < count; r++)
        least = ranks[r].step < least ? ranks[r].step : least;
    int32_t found = mark(ranks, count, culprit, is_silent, limit_s, least);
    if (found == 0)
        found = mark(ranks, count, culprit, is_stuck, limit_s, least);
    return found > 0 ? found : mark(ranks, count, culprit, is_behind, limit_s, least);
}

static bool record_path(char path[PATH_BYTES], int32_t rank, const char *ending)
{
    int n = snprintf(path, PATH_BYTES, "%s/rank-%d%s", dog.dir, rank, ending);
    return n > 0 && n < PATH_BYTES;
}

/* Without a sync: a record is worth nothing after a crash. */
static void write_record(void)
{
    char path[PATH_BYTES], temp[PATH_BYTES], ending[32], text[RECORD_BYTES + 32];
    int n = snprintf(text, RECORD_BYTES, "%llu %llu %lld %d %d ", (unsigned long long)++dog.beat,
                     atomic_load(&progress), atomic_load(&place_step), atomic_load(&place_phase),
                     atomic_load(&operation_now));
    n += snprintf(text + n, 32, "%016llx\n", (unsigned long long)hash64_of(text, n));
    (void)snprintf(ending, sizeof ending, ".tmp-%ld", (long)getpid());
    if (!record_path(path, dog.world->rank, "") || !record_path(temp, dog.world->rank, ending))
        return;
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return;
    bool whole = write(fd, text, (size_t)n) == n;
    if (close(fd) == 0 && whole)
        (void)rename(temp, path);
}

/* False where there is no sound record at the moment. */
static bool read_record(int32_t rank, uint64_t *beat, uint64_t *steps_forward,
                        struct watchdog_rank *out)
{
    char path[PATH_BYTES], text[RECORD_BYTES + 32];
    unsigned long long b, p, hash;
    long long step;
    int phase, operation, length = 0;
    if (!record_path(path, rank, ""))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    if (sscanf(text, "%llu %llu %lld %d %d %n%llx", &b, &p, &step, &phase, &operation, &length,
               &hash) != 6 ||
        hash != hash64_of(text, length))
        return false;
    *beat = b;
    *steps_forward = p;
    out->step = step;
    out->phase = phase;
    out->operation = (enum watchdog_operation)operation;
    return true;
}

/* Reads all records and notes what has changed since the last time. */
static void look_round(double now_s)
{
    double silence_s =
        0.25 * dog.limit_s > 5.0 * dog.tick_s ? 0.25 * dog.limit_s : 5.0 * dog.tick_s;
    for (int32_t r = 0; r < dog.world->size; r++) {
        struct seen *s = &dog.seen[r];
        uint64_t beat = s->beat, forward = s->progress;
        bool sound = read_record(r, &beat, &forward, &s->state);
        if (!s->known || (sound && beat != s->beat))
            s->beat_s = now_s;
        if (!s->known || (sound && forward != s->progress))
            s->progress_s = now_s;
        s->known = true;
        s->beat = beat;
        s->progress = forward;
        dog.rank[r] = s->state;
        dog.rank[r].silent = r != dog.world->rank && now_s - s->beat_s >= silence_s;
        dog.rank[r].still_s = now_s - s->progress_s;
    }
}

/* "rank 2 on node3 (phase 1, step 120, updating parameters; not heard of)" */
static void describe(int32_t r, char *text, size_t bytes)
{
    const struct watchdog_rank *w = &dog.rank[r];
    (void)snprintf(text, bytes, "rank %d on %s (phase %d, step %lld, %s%s)", r,
                   comm_host(dog.world, r), w->phase, (long long)w->step,
                   watchdog_operation_name(w->operation),
                   w->silent ? "; its process or host is stopped, gone or cut off" : "");
}

static void list_ranks(char *text, size_t bytes, bool guilty)
{
    size_t used = 0;
    int32_t named = 0, more = 0;
    text[0] = '\0';
    for (int32_t r = 0; r < dog.world->size; r++) {
        char one[320];
        if (dog.culprit[r] != guilty)
            continue;
        describe(r, one, sizeof one);
        if (named == NAMED_MAX || used + strlen(one) + 40 > bytes) {
            more++;
            continue;
        }
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", named++ > 0 ? ", " : "", one);
    }
    if (more > 0)
        (void)snprintf(text + used, bytes - used, " and %d more", more);
}

static void write_event(const char *culprits, const char *waiting)
{
    struct jsonl *log = NULL;
    if (jsonl_open(&log, dog.events) == MT_OK) {
        struct json_writer *w = jsonl_begin(log, "watchdog");
        json_write_int(w, "by", dog.world->rank);
        json_write_real(w, "limit_s", dog.limit_s);
        json_write_array(w, "stuck");
        for (int32_t r = 0; r < dog.world->size; r++) {
            if (!dog.culprit[r])
                continue;
            json_write_object(w, NULL);
            json_write_int(w, "rank", r);
            json_write_string(w, "host", comm_host(dog.world, r));
            json_write_int(w, "step", dog.rank[r].step);
            json_write_int(w, "phase", dog.rank[r].phase);
            json_write_string(w, "operation", watchdog_operation_name(dog.rank[r].operation));
            json_write_bool(w, "silent", dog.rank[r].silent);
            json_write_end(w);
        }
        json_write_end(w);
        json_write_string(w, "message", culprits);
        json_write_string(w, "waiting", waiting);
        if (jsonl_end(log) != MT_OK)
            mt_error_clear();
    } else {
        mt_error_clear();
    }
    jsonl_close(&log);
}

static void *leave_at_last(void *context)
{
    (void)context;
    clock_sleep_s(LAST_RESORT_S);
    _exit(EXIT_AGAIN);
}

static void end_job(void)
{
    char culprits[2048], waiting[2048];
    pthread_t last;
    list_ranks(culprits, sizeof culprits, true);
    list_ranks(waiting, sizeof waiting, false);
    (void)pthread_create(&last, NULL, leave_at_last, NULL); /* MPI_Abort may hang, too */
    log_error("watchdog: no progress for %.0f s: %s. Waiting for it: %s. The job ends with exit "
              "code %d; start it again to go on from the newest checkpoint",
              dog.limit_s, culprits, waiting[0] != '\0' ? waiting : "nobody", EXIT_AGAIN);
    if (dog.world->rank != 0) /* rank 0, which speaks for all, may be the one */
        (void)fprintf(stderr, "mttrain: watchdog: no progress for %.0f s: %s\n", dog.limit_s,
                      culprits);
    write_event(culprits, waiting);
    comm_abort(dog.world, EXIT_AGAIN);
}

static bool speaks(double still_s)
{
    const double patience_s = 5.0;
    for (int32_t r = 0; r < dog.world->rank; r++)
        if (!dog.rank[r].silent)
            return still_s >= dog.limit_s + patience_s;
    return true;
}

static void *watch(void *context)
{
    unsigned long long last = atomic_load(&progress);
    double still_since_s = clock_now_s(), before_s = still_since_s;
    (void)context;
    while (!atomic_load(&dog.ends)) {
        double now_s = clock_now_s();
        unsigned long long now = atomic_load(&progress);
        bool was_away = now_s - before_s > 5.0 * dog.tick_s + 1.0; /* this process was stopped */
        before_s = now_s;
        write_record();
        if (now != last || was_away || atomic_load(&operation_now) == WATCHDOG_PAUSED) {
            still_since_s = now_s;
            memset(dog.seen, 0, (size_t)dog.world->size * sizeof *dog.seen);
        }
        last = now;
        double still_s = now_s - still_since_s;
        if (still_s >= 0.5 * dog.limit_s)
            look_round(now_s);
        if (still_s >= dog.limit_s) {
            /* the others' records have been looked at for half the time only */
            (void)watchdog_judge(dog.rank, dog.world->size, 0.4 * dog.limit_s, dog.culprit);
            if (speaks(still_s))
                end_job();
        }
        clock_sleep_s(dog.tick_s);
    }
    return NULL;
}

static mt_status prepare(const struct comm *world, const char *run_dir, double seconds)
{
    int n = snprintf(dog.dir, sizeof dog.dir, "%s/heartbeat", run_dir);
    int m = snprintf(dog.events, sizeof dog.events, "%s/metrics.jsonl", run_dir);
    if (n < 0 || n >= PATH_BYTES - 32 || m < 0 || m >= PATH_BYTES)
        return MT_FAIL(MT_ARG, "%.200s...: path too long", run_dir);
    MT_TRY(file_make_dir(dog.dir));
    MT_TRY(mt_alloc(&dog.seen, world->size, sizeof *dog.seen, "the watchdog's notes"));
    MT_TRY(mt_alloc(&dog.rank, world->size, sizeof *dog.rank, "the watchdog's notes"));
    MT_TRY(mt_alloc(&dog.culprit, world->size, sizeof *dog.culprit, "the watchdog's notes"));
    dog.world = world;
    dog.limit_s = seconds;
    dog.tick_s = seconds / 20.0 < 1.0 ? seconds / 20.0 : 1.0;
    atomic_store(&dog.ends, false);
    if (pthread_create(&dog.thread, NULL, watch, NULL) != 0)
        return MT_FAIL(MT_NOMEM, "no thread for the watchdog: %s", strerror(errno));
    dog.running = true;
    return MT_OK;
}

void watchdog_start(const struct comm *world, const char *run_dir, double seconds)
{
    if (seconds <= 0.0 || dog.running)
        return;
    if (prepare(world, run_dir, seconds) == MT_OK)
        return;
    log_warning("no watchdog: %s", mt_error_peek()->message);
    mt_error_clear();
    watchdog_stop();
}

void watchdog_stop(void)
{
    char path[PATH_BYTES];
    if (dog.running) {
        atomic_store(&dog.ends, true);
        (void)pthread_join(dog.thread, NULL);
        if (record_path(path, dog.world->rank, ""))
            (void)unlink(path);
    }
    dog.running = false;
    mt_free(&dog.seen);
    mt_free(&dog.rank);
    mt_free(&dog.culprit);
}
