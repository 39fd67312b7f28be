/* See slurm.h. */
#include "jobs/slurm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/clock.h"

/* The number of an environment variable, or -1. */
static int64_t read_number(const char *name)
{
    const char *text = getenv(name);
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return -1;
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    /* "2(x3)" of SLURM_TASKS_PER_NODE style lists: the first number counts. */
    return errno == 0 && (*end == '\0' || *end == '(' || *end == ',') ? n : -1;
}

static void read_text(char *out, size_t bytes, const char *name)
{
    const char *text = getenv(name);
    (void)snprintf(out, bytes, "%s", text == NULL ? "" : text);
}

void slurm_read(struct slurm *s)
{
    memset(s, 0, sizeof *s);
    s->job_id = read_number("SLURM_JOB_ID");
    s->present = s->job_id >= 0;
    s->array_job_id = read_number("SLURM_ARRAY_JOB_ID");
    s->array_task_id = read_number("SLURM_ARRAY_TASK_ID");
    s->nodes = read_number("SLURM_JOB_NUM_NODES");
    s->ranks = read_number("SLURM_NTASKS");
    s->cpus_per_task = read_number("SLURM_CPUS_PER_TASK");
    s->cpus_on_node = read_number("SLURM_CPUS_ON_NODE");
    s->start_time_s = read_number("SLURM_JOB_START_TIME");
    s->end_time_s = read_number("SLURM_JOB_END_TIME");
    s->restart_count = read_number("SLURM_RESTART_COUNT");
    if (s->restart_count < 0)
        s->restart_count = 0;
    read_text(s->partition, sizeof s->partition, "SLURM_JOB_PARTITION");
    read_text(s->node_list, sizeof s->node_list, "SLURM_JOB_NODELIST");
    read_text(s->cluster, sizeof s->cluster, "SLURM_CLUSTER_NAME");
    read_text(s->job_name, sizeof s->job_name, "SLURM_JOB_NAME");
}

double slurm_seconds_left(const struct slurm *s, int64_t now_unix_s)
{
    if (!s->present || s->end_time_s < 0)
        return -1;
    return s->end_time_s > now_unix_s ? (double)(s->end_time_s - now_unix_s) : 0;
}

bool slurm_describe(const struct slurm *s, int64_t now_unix_s, int32_t i, char *line,
                    size_t line_bytes)
{
    char left[CLOCK_TEXT_BYTES];
    if (!s->present)
        return false;
    switch (i) {
    case 0:
        (void)snprintf(line, line_bytes, "SLURM job %lld (%s) in partition %s, start %lld",
                       (long long)s->job_id, s->job_name[0] == '\0' ? "-" : s->job_name,
                       s->partition[0] == '\0' ? "-" : s->partition,
                       (long long)s->restart_count + 1);
        return true;
    case 1:
        (void)snprintf(line, line_bytes, "nodes %lld (%s), ranks %lld, processors of a rank %lld",
                       (long long)s->nodes, s->node_list[0] == '\0' ? "-" : s->node_list,
                       (long long)s->ranks, (long long)s->cpus_per_task);
        return true;
    case 2:
        if (s->end_time_s < 0) {
            (void)snprintf(line, line_bytes, "no time limit is known");
        } else {
            clock_format_duration(left, slurm_seconds_left(s, now_unix_s));
            (void)snprintf(line, line_bytes, "time limit in %s", left);
        }
        return true;
    default:
        return false;
    }
}
