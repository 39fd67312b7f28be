/*
 * See save_parts.h.  A rank tells of its part in whole numbers: number, size, hash, microseconds
 * of writing, count of pieces, and five for each piece.  Within a host a rank of BERT-base has some
 * 1,800 pieces of either moment (a stretch of each bucket), which makes 150 KB.
 */
#include "trainer/save_parts.h"

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"

enum { HEAD_WORDS = 5, PIECE_WORDS = 5 };

/* What a manifest tells of one by one: 20 MB of text. */
static const int64_t PIECES_MAX = 1 << 18;

bool save_parts_wanted(const struct run *run)
{
    if (!run->job.optimizer.shard || run->phase.reducer == NULL || run->world->size == 1)
        return false;
    int64_t pieces = 2 * (run->phase.owned_ranges + run->model.table.count);
    return run->world->size <= CHECKPOINT_PARTS_MAX && pieces <= PIECES_MAX;
}

static mt_status pack(int64_t **out, int64_t *words, const struct saver *s)
{
    const struct checkpoint_part *p = &s->part;
    int64_t *word;
    *words = HEAD_WORDS + p->count * PIECE_WORDS;
    MT_TRY(mt_alloc(&word, *words, sizeof *word, "a part of a checkpoint"));
    *out = word;
    *word++ = p->number;
    *word++ = p->bytes;
    *word++ = (int64_t)p->hash;
    *word++ = (int64_t)(1e6 * s->write_s);
    *word++ = p->count;
    for (int64_t i = 0; i < p->count; i++) {
        *word++ = p->piece[i].group;
        *word++ = p->piece[i].tensor;
        *word++ = p->piece[i].begin;
        *word++ = p->piece[i].end;
        *word++ = p->piece[i].offset;
    }
    return MT_OK;
}

/* Root.  Adds the part that `word` tells of, where there are pieces in it. */
static mt_status take(struct saver *s, const int64_t *word)
{
    struct checkpoint_part p = {
        .number = (int32_t)word[0], .bytes = word[1], .hash = (uint64_t)word[2], .file.fd = -1};
    double write_s = 1e-6 * (double)word[3];
    int64_t count = word[4];
    mt_status st = MT_OK;
    if (write_s > s->write_s)
        s->write_s = write_s;
    word += HEAD_WORDS;
    for (int64_t i = 0; i < count; i++, word += PIECE_WORDS) {
        MT_TRY_GOTO(st,
                    checkpoint_part_add(&p, (enum checkpoint_group)word[0], (int32_t)word[1],
                                        word[2], word[3]),
                    done);
        p.piece[i].offset = word[4];
    }
    if (count > 0)
        st = checkpoint_add_part(s->writer, &p);
done:
    checkpoint_part_release(&p);
    return st;
}

static mt_status take_all(struct saver *s, int32_t ranks, const char *all, const int64_t *offsets)
{
    for (int32_t r = 0; r < ranks; r++)
        MT_TRY(take(s, (const int64_t *)(const void *)(all + offsets[r])));
    return MT_OK;
}

mt_status save_parts_gather(struct run *run)
{
    const struct comm *w = run->world;
    int64_t *mine = NULL, *offsets = NULL, words = 0;
    void *all = NULL;
    mt_status st = mt_alloc(&offsets, w->size + 1, sizeof *offsets, "parts of a checkpoint");
    if (st == MT_OK)
        st = pack(&mine, &words, &run->saver);
    MT_TRY_GOTO(st, comm_agree(w, st), done);
    MT_TRY_GOTO(st,
                comm_gatherv(w, mine, words * (int64_t)sizeof *mine, &all,
                             w->rank == 0 ? offsets : NULL, 0),
                done);
    st = comm_agree(w, w->rank == 0 ? take_all(&run->saver, w->size, all, offsets) : MT_OK);
done:
    mt_free(&mine);
    mt_free(&offsets);
    mt_free(&all);
    return st;
}
