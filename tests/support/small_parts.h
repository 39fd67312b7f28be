/* small_parts: writes the moments of a checkpoint as several ranks would, one after the other. */
#ifndef MT_TEST_SMALL_PARTS_H
#define MT_TEST_SMALL_PARTS_H

#include "comm/base/tensors.h"
#include "io/checkpoint_part.h"

/* Local.  Cuts the announced arrays (CHECKPOINT_PART_BIT) into stretches of `stretch` elements of
 * the flat block, deals them out to `parts` files in turn, and adds these to w. */
static inline mt_status small_parts_write(struct checkpoint_writer *w, const char *run,
                                          int64_t step, const struct tensor_table *table,
                                          const uint8_t *groups, const float *adam_m,
                                          const float *adam_v, int32_t parts, int64_t stretch)
{
    const float *const block[CHECKPOINT_GROUPS] = {NULL, adam_m, adam_v};
    mt_status st = MT_OK;
    for (int32_t number = 0; number < parts && st == MT_OK; number++) {
        struct checkpoint_part p = {.number = number};
        for (int32_t i = 0; i < table->count; i++) {
            const struct tensor *t = &table->entry[i];
            for (int g = CHECKPOINT_ADAM_M; g < CHECKPOINT_GROUPS; g++)
                for (int64_t at = 0, end; at < t->count; at = end) {
                    int64_t turn = (t->offset + at) / stretch;
                    end = (turn + 1) * stretch - t->offset;
                    end = end < t->count ? end : t->count;
                    if (turn % parts != number || !(groups[i] & CHECKPOINT_PART_BIT(g)))
                        continue;
                    MT_TRY_GOTO(st, checkpoint_part_add(&p, (enum checkpoint_group)g, i, at, end),
                                next);
                }
        }
        MT_TRY_GOTO(st, checkpoint_part_begin(&p, run, step, table), next);
        for (int64_t i = 0; i < p.count; i++)
            MT_TRY_GOTO(st,
                        checkpoint_part_write(&p, i,
                                              block[p.piece[i].group] +
                                                  table->entry[p.piece[i].tensor].offset +
                                                  p.piece[i].begin),
                        next);
        MT_TRY_GOTO(st, checkpoint_part_finish(&p), next);
        MT_TRY_GOTO(st, checkpoint_add_part(w, &p), next);
    next:
        checkpoint_part_release(&p);
    }
    return st;
}

#endif
