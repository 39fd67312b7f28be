/*
 * topology: which cores the ranks have, and whether they get in each other's way.
 */
#ifndef MT_COMM_TOPOLOGY_H
#define MT_COMM_TOPOLOGY_H

#include "comm/world.h"

enum { TOPOLOGY_LINES_MAX = 8, TOPOLOGY_LINE_BYTES = 320 };

struct topology {
    int32_t cores;       /* this rank may run on: affinity, cut by the cgroup's quota */
    int32_t node_cores;  /* all ranks of this host together may run on */
    int32_t threads;     /* suggestion for this rank, >= 1 */
    bool oversubscribed; /* on some host more ranks than cores */
    int32_t warning_count;
    char warning[TOPOLOGY_LINES_MAX][TOPOLOGY_LINE_BYTES]; /* for a person; the same on all ranks */
};

/* Local.  Cores that this process may run on; >= 1. */
int32_t topology_cores(void);

/* Collective.  Errors: NOMEM, MPI. */
mt_status topology_inspect(struct topology *out, const struct comm *c) MT_CHECKED;

/* Local.  One line: "4 ranks on 2 hosts, 2 threads a rank; rank 0 on node1 may use 4 cores". */
void topology_describe(const struct topology *t, const struct comm *c, char *text,
                       int64_t text_bytes);

#endif
