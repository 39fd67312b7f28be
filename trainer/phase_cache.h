/* phase_cache: whether a phase uses the prefix cache, decided once and remembered. */
#ifndef MT_TRAINER_PHASE_CACHE_H
#define MT_TRAINER_PHASE_CACHE_H

#include "trainer/run.h"

/* Local.  What a phase's cache would hold. */
struct prefix_setup phase_cache_setup(const struct run *run, const struct phase_plan *plan);

/* Local.  Whether `cache = auto` uses a cache in a phase of so many steps: some prefix is frozen
 * and without dropout, sentences are visited more than once, and the file fits the disk's free
 * bytes
 * (-1 = unknown).  *why says so in a few words. */
bool phase_cache_pays(const struct run *run, const struct phase_plan *plan, int64_t steps,
                      int64_t bytes, int64_t free_bytes, const char **why);

/* Local.  Whether a phase of so many steps would use a cache, free_bytes as above; where `cache` is
 * not auto, as it says.  Errors: CONFIG (cache = on where that cannot be). */
mt_status phase_cache_choose(const struct run *run, const struct phase_plan *plan, int64_t steps,
                             int64_t free_bytes, bool *use, const char **why) MT_CHECKED;

/* Collective.  At the entry of the phase of run->phase: decides (or keeps the decision that the
 * checkpoint or run_dir/decisions.jsonl records), fills and opens run->cache, or closes it.
 * Errors: CONFIG (cache = on where that cannot be), IO, STOPPED. */
mt_status phase_cache_open(struct run *run) MT_CHECKED;

#endif
