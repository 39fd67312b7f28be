/*
 * See topology.h.
 *
 * Affinity masks of all ranks are gathered (128 bytes each) and looked at host by host, by every
 * rank for itself, so all ranks say the same.  Of cgroups only the process's own cpu.max (version
 * 2) is read: that is where containers and SLURM put a quota; nested groups above it are not
 * walked.  What mpirun has left out by binding is seen from the mask of its daemon, the parent.
 */
#include "comm/topology.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"

/* What a rank tells the others about itself. */
struct seat {
    cpu_set_t mask;
    int32_t quota;      /* cores by cgroup, 0 = none set */
    int32_t online;     /* cores of the host */
    int32_t one_openmp; /* OMP_NUM_THREADS=1 in the environment */
    int32_t launcher;   /* cores that mpirun may use on the host, 0 = unknown */
};

/* "max 100000" or "200000 100000"; rounds up, since half a core is still one thread's work. */
static int32_t quota_in(const char *path)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    long long quota = 0, period = 0;
    int fields = fscanf(f, "%lld %lld", &quota, &period);
    (void)fclose(f);
    if (fields != 2 || quota <= 0 || period <= 0)
        return 0;
    long long cores = (quota + period - 1) / period;
    return cores > CPU_SETSIZE ? 0 : (int32_t)cores;
}

static int32_t cgroup_quota(void)
{
    char line[512], path[640];
    int32_t quota = quota_in("/sys/fs/cgroup/cpu.max"); /* inside a container */
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (f == NULL)
        return quota;
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", line + 3);
        int32_t own = quota_in(path);
        if (own > 0 && (quota == 0 || own < quota))
            quota = own;
    }
    (void)fclose(f);
    return quota;
}

static void take_seat(struct seat *s)
{
    memset(s, 0, sizeof *s);
    if (sched_getaffinity(0, sizeof s->mask, &s->mask) != 0 || CPU_COUNT(&s->mask) == 0)
        CPU_SET(0, &s->mask);
    s->quota = cgroup_quota();
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    s->online = online > 0 && online <= CPU_SETSIZE ? (int32_t)online : CPU_COUNT(&s->mask);
    const char *omp = getenv("OMP_NUM_THREADS");
    s->one_openmp = omp != NULL && strcmp(omp, "1") == 0;
    cpu_set_t parent;
    if (getenv("OMPI_COMM_WORLD_SIZE") != NULL && getenv("SLURM_STEP_ID") == NULL &&
        sched_getaffinity(getppid(), sizeof parent, &parent) == 0)
        s->launcher = CPU_COUNT(&parent);
}

static int32_t cut_by_quota(int32_t cores, const struct seat *s)
{
    return s->quota > 0 && s->quota < cores ? s->quota : cores;
}

int32_t topology_cores(void)
{
    struct seat s;
    take_seat(&s);
    return cut_by_quota(CPU_COUNT(&s.mask), &s);
}

static void warn(struct topology *t, const char *format, ...) MT_PRINTF(2, 3);

static void warn(struct topology *t, const char *format, ...)
{
    if (t->warning_count == TOPOLOGY_LINES_MAX)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(t->warning[t->warning_count++], TOPOLOGY_LINE_BYTES, format, args);
    va_end(args);
}

/* One host as seen from all of its ranks. */
struct host_view {
    int32_t first, ranks;     /* lowest rank, how many */
    int32_t cores;            /* of all masks together, cut by the quota */
    int32_t launcher;         /* cores that mpirun had, cut likewise; 0 = unknown */
    int32_t twice_a, twice_b; /* two ranks bound to one and the same core; -1 = none */
    bool disjoint;            /* no core belongs to two ranks */
};

static void view_host(struct host_view *v, const struct comm *c, const struct seat *seats,
                      int32_t node)
{
    cpu_set_t seen, common;
    CPU_ZERO(&seen);
    *v = (struct host_view){.first = -1, .twice_a = -1, .twice_b = -1, .disjoint = true};
    for (int32_t r = 0; r < c->size; r++) {
        if (comm_node_of(c, r) != node)
            continue;
        if (v->first < 0)
            v->first = r;
        v->ranks++;
        CPU_AND(&common, &seen, &seats[r].mask);
        if (CPU_COUNT(&common) > 0)
            v->disjoint = false;
        CPU_OR(&seen, &seen, &seats[r].mask);
        for (int32_t q = v->first; q < r && v->twice_a < 0 && CPU_COUNT(&seats[r].mask) == 1; q++)
            if (comm_node_of(c, q) == node && CPU_EQUAL(&seats[q].mask, &seats[r].mask)) {
                v->twice_a = q;
                v->twice_b = r;
            }
    }
    v->cores = cut_by_quota(CPU_COUNT(&seen), &seats[v->first]);
    v->launcher = cut_by_quota(seats[v->first].launcher, &seats[v->first]);
}

static void judge_host(struct topology *t, const struct comm *c, const struct seat *seats,
                       const struct host_view *v)
{
    const char *host = comm_host(c, v->first);
    if (v->ranks > v->cores) {
        t->oversubscribed = true;
        warn(t,
             "%d ranks share %d core%s on %s: they take turns, which is slower than %d rank%s; "
             "start fewer ranks a host",
             v->ranks, v->cores, v->cores == 1 ? "" : "s", host, v->cores,
             v->cores == 1 ? "" : "s");
    }
    if (v->twice_a >= 0 && seats[v->first].online > v->cores)
        warn(t,
             "ranks %d and %d are bound to the same core of %s, which has %d: use --bind-to none "
             "or --map-by slot:PE=N with mpirun, --cpus-per-task with srun",
             v->twice_a, v->twice_b, host, seats[v->first].online);
    else if (v->launcher > v->cores)
        warn(t,
             "the %d rank%s on %s %s bound to %d of %d cores, the others are idle: start mpirun "
             "with "
             "--bind-to none, --map-by slot:PE=N, or more ranks",
             v->ranks, v->ranks == 1 ? "" : "s", host, v->ranks == 1 ? "is" : "are", v->cores,
             v->launcher);
    for (int32_t r = v->first; r < c->size; r++)
        if (comm_node_of(c, r) == comm_node_of(c, v->first) && seats[r].one_openmp &&
            CPU_COUNT(&seats[r].mask) > 1 && v->cores > v->ranks) {
            warn(t,
                 "OMP_NUM_THREADS=1 is set for rank %d on %s although it may use %d cores: the "
                 "launcher may have set it; mttrain goes by the cores and its own key for threads",
                 r, host, CPU_COUNT(&seats[r].mask));
            break;
        }
}

mt_status topology_inspect(struct topology *out, const struct comm *c)
{
    struct seat *seats = NULL, mine;
    struct topology t = {0};
    mt_status st;
    MT_TRY_GOTO(st, comm_agree(c, mt_alloc(&seats, c->size, sizeof *seats, "the ranks' cores")),
                done);
    take_seat(&mine);
    MT_TRY_GOTO(st, comm_allgather(c, &mine, (int64_t)sizeof mine, seats), done);
    for (int32_t node = 0; node < c->node_count; node++) {
        struct host_view v;
        view_host(&v, c, seats, node);
        judge_host(&t, c, seats, &v);
        if (node != c->node_index)
            continue;
        t.cores = cut_by_quota(CPU_COUNT(&mine.mask), &mine);
        t.node_cores = v.cores;
        int32_t share = v.cores / v.ranks;
        if (v.disjoint && mine.quota == 0) /* the launcher has dealt the cores out */
            share = t.cores;
        t.threads = share < 1 ? 1 : share < t.cores ? share : t.cores;
    }
    *out = t;
done:
    mt_free(&seats);
    return st;
}

void topology_describe(const struct topology *t, const struct comm *c, char *text,
                       int64_t text_bytes)
{
    (void)snprintf(text, (size_t)text_bytes,
                   "%d rank%s on %d host%s, %d thread%s a rank; rank %d on %s may use %d of the "
                   "%d core%s that the host's ranks have",
                   c->size, c->size == 1 ? "" : "s", c->node_count, c->node_count == 1 ? "" : "s",
                   t->threads, t->threads == 1 ? "" : "s", c->rank, comm_host(c, c->rank), t->cores,
                   t->node_cores, t->node_cores == 1 ? "" : "s");
}
