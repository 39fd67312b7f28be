/*
 * ctl: commands to a running job or daemon, through a folder.
 *
 *     DIR/ctl/ID.cmd     one command, put there by rename; DIR is a run_dir or a spool
 *     DIR/ctl/ID.answer  what came of it; whoever asked removes it
 *     DIR/status.json    what the job is doing, written every few seconds
 *
 * A thread of rank 0 looks at the folder several times a second and hands commands to the loop,
 * which tells the other ranks at the next step boundary; "stop" also sets the stop flag at once, so
 * that it works inside evaluation and cache building.
 */
#ifndef MT_TRAINER_CTL_H
#define MT_TRAINER_CTL_H

#include "comm/base/status.h"

enum ctl_verb {
    CTL_CHECKPOINT,
    CTL_STOP,
    CTL_PAUSE,
    CTL_RESUME,
    CTL_NEXT_PHASE,
    CTL_SET,
    CTL_STOP_AFTER_JOB, /* of a daemon */
    CTL_VERBS
};

enum { CTL_ID_BYTES = 64, CTL_TEXT_BYTES = 160, CTL_PENDING_MAX = 32 };

struct ctl_command {
    enum ctl_verb verb;
    char key[CTL_TEXT_BYTES], value[CTL_TEXT_BYTES]; /* of CTL_SET */
    char id[CTL_ID_BYTES];                           /* of its file */
    bool from_spool;
};

/* What status.json says; texts are copied. */
struct ctl_status {
    char state[32]; /* training, paused, evaluating, saving, done, stopped ... */
    char name[128], phase[128], host[64];
    int32_t ranks, phase_index, phases;
    int64_t step, steps;
    double loss, lr, tokens_per_s, eta_s; /* NaN = unknown */
};

/* Local.  Verb and arguments as typed ("set", "train.log_every=5st").  Errors: ARG. */
mt_status ctl_parse(struct ctl_command *out, const char *verb, const char *argument) MT_CHECKED;
const char *ctl_verb_name(enum ctl_verb verb);

/* Root.  Begins to listen in dir; commands left over from before are answered as void.  A folder
 * that cannot be made costs the commands, not the run: a warning. */
struct ctl;
void ctl_open(struct ctl **out, const char *dir);
void ctl_close(struct ctl **ctl);

/* Root.  Besides its own folder every ctl that is opened from now on listens in this spool's; NULL
 * ends that. */
void ctl_use_spool(const char *spool);

/* Local.  Commands waiting; the oldest of them. */
int32_t ctl_pending(struct ctl *ctl);
bool ctl_take(struct ctl *ctl, struct ctl_command *out);

/* Local.  Answers a command ("ok ..." or "error: ...") and removes its file. */
void ctl_answer(struct ctl *ctl, const struct ctl_command *command, const char *format, ...)
    MT_PRINTF(3, 4);

/* Local.  What the thread writes to status.json from now on; cheap. */
void ctl_tell(struct ctl *ctl, const struct ctl_status *status);

/* Root.  For a daemon: empties spool/ctl at its start; between jobs answers what stands there, true
 * where it was told to stop; says in spool/status.json that it is `state` ("idle", "stopped").
 * Errors: IO. */
mt_status ctl_prepare(const char *spool) MT_CHECKED;
bool ctl_poll(const char *spool);
void ctl_tell_idle(const char *spool, const char *state, const char *host, int32_t ranks);

/* Local.  Whether a daemon was told to stop after the present job. */
bool ctl_stop_after_job(void);

/* Local.  The asking side: puts a command into dir/ctl and waits for its answer, wait_s at most
 * (0 = does not wait).  answer[answer_bytes].  Errors: IO; DATA where nobody answers. */
mt_status ctl_ask(const char *dir, const struct ctl_command *command, double wait_s, char *answer,
                  int64_t answer_bytes) MT_CHECKED;

#endif
