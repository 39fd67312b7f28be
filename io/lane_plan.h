/*
 * lane_plan: which lane each sample of a step goes to.
 *
 * A pure function of the samples' lengths, so that every rank has the same plan without a word
 * exchanged and a lane's content does not depend on the number of ranks.  Tokens, not sentences,
 * are balanced.
 *
 *     MT_TRY(lane_plan_create(&plan, lanes, batch_sentences));
 *     lane_plan_make(&plan, samples, count);
 *     for (int32_t i = plan.first[lane]; i < plan.first[lane + 1]; i++)
 *         use(samples[plan.slot[i]]);
 */
#ifndef MT_IO_LANE_PLAN_H
#define MT_IO_LANE_PLAN_H

#include "comm/base/status.h"
#include "io/batch.h"

enum { LANE_PLAN_LANES_MAX = 65536 };

struct lane_plan {
    int32_t lanes, capacity; /* samples of a step at most */
    int32_t *first;          /* [lanes+1] where a lane begins in slot */
    int32_t *slot;           /* [count] positions in samples, lane by lane, longest first */
    int64_t *tokens;         /* [lanes] */
    int64_t total_tokens;
    uint64_t *order;  /* [capacity] work space */
    int32_t *lane_of; /* [capacity] work space */
};

/* Local.  lanes 1..LANE_PLAN_LANES_MAX, capacity >= 1.  Owns its arrays.  Errors: NOMEM, CONFIG. */
mt_status lane_plan_create(struct lane_plan *p, int32_t lanes, int32_t capacity) MT_CHECKED;
void lane_plan_destroy(struct lane_plan *p);

/* Local.  Assigns samples[count] (0 <= count <= capacity, lengths filled in) to lanes: longest
 * processing time first (Graham, "Bounds on multiprocessing timing anomalies", 1969), ties by slot
 * and by lane.  A lane may stay empty.  Allocates nothing. */
void lane_plan_make(struct lane_plan *p, const struct sample *samples, int32_t count);

/* Local.  Tokens of the fullest lane over the mean of all lanes; 1 = perfectly even. */
double lane_plan_imbalance(const struct lane_plan *p);

/* Local.  No lane is ever given more tokens than this, if no sentence has more than max_tokens. */
int64_t lane_plan_tokens_bound(int32_t lanes, int32_t capacity, int32_t max_tokens);

#endif
