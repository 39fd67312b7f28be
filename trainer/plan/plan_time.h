/*
 * plan_time: from what was measured to seconds of the whole run, here or elsewhere.
 *
 * A step on R ranks lasts
 *
 *     passes + waiting + exposed + gather + update
 *
 * passes   a lane's forward and backward, times the rounds in which a rank's threads work through
 *          its lanes;
 * waiting  E(R) * spread * passes: all wait for the slowest rank, and the largest of R normal
 *          numbers lies E(R) standard deviations above the mean on average;
 * exposed  what of the sums is left when backward ends: see plan_exposed_s;
 * gather   of the parameters from their owners, with optimizer.shard;
 * update   of all parameters, or of a rank's share with optimizer.shard.
 *
 * The reduction's seconds come from comm/reduce_time.h; comm/README.md, "At scale", has a table of
 * forecasts beside simulations.
 */
#ifndef MT_TRAINER_PLAN_TIME_H
#define MT_TRAINER_PLAN_TIME_H

#include "trainer/plan/plan.h"

/* Local.  The largest of `count` >= 1 independent standard normal numbers, on average (within 0.03
 * of it).  Source: Blom, "Statistical Estimates and Transformed Beta-Variables", 1958. */
double plan_slowest(int32_t count);

/* Local.  Seconds of the sums after backward has ended.  hidden_s: from the first bucket's being
 * ready to the end of backward; late: the share of elements that are ready only then (those of the
 * lowest trained layer: the embeddings, a fifth of BERT-base); others become ready evenly. */
double plan_exposed_s(const struct reduce_time *t, double hidden_s, double late);

/* Local.  Fills in the times of all phases, total_s and submissions. */
void plan_forecast(struct plan *p);

#endif
