/* slurm: what SLURM says about the job we are in, from the environment. */
#ifndef MT_JOBS_SLURM_H
#define MT_JOBS_SLURM_H

#include "comm/base/status.h"

struct slurm {
    bool present;   /* SLURM_JOB_ID is set */
    int64_t job_id; /* -1 = unknown, as for all numbers here */
    int64_t array_job_id, array_task_id;
    int64_t nodes, ranks, cpus_per_task, cpus_on_node;
    int64_t start_time_s, end_time_s; /* Unix time */
    int64_t restart_count;            /* 0 = the first start */
    char partition[64], node_list[256], cluster[64], job_name[128];
};

/* Local.  Never fails: what is missing or not a number is unknown. */
void slurm_read(struct slurm *s);

/* Local.  Seconds until SLURM ends the job, or a negative number where that is unknown. */
double slurm_seconds_left(const struct slurm *s, int64_t now_unix_s);

/* Local.  Line i (0 ...) of a description for a person; false past the last. */
bool slurm_describe(const struct slurm *s, int64_t now_unix_s, int32_t i, char *line,
                    size_t line_bytes);

#endif
