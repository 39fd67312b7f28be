/*
 * wordpiece_learn: a WordPiece vocabulary learnt from text.
 *
 * As Hugging Face's WordPieceTrainer: words are cut into characters ("##" before each but the
 * first), and the pair of neighbours that is most frequent over all words melts into one piece,
 * again and again, until the vocabulary is full or no pair is frequent enough.  Equal counts go by
 * the lower ids, so the same text in any order of lines gives the same vocabulary.
 *
 *     struct wordpiece_learner *l = NULL;
 *     MT_TRY(wordpiece_learner_create(&l, NULL));
 *     while (read a line)
 *         MT_TRY(wordpiece_learner_add_text(l, line, n));
 *     MT_TRY(wordpiece_learner_train(l, 8000, &vocab));
 *     wordpiece_learner_destroy(&l);
 */
#ifndef MT_IO_WORDPIECE_LEARN_H
#define MT_IO_WORDPIECE_LEARN_H

#include "io/vocab.h"

struct wordpiece_options {
    struct vocab_flags flags; /* how text becomes words */
    int64_t min_frequency;    /* a pair seen less often is never melted; >= 1 */
    int32_t alphabet_limit;   /* the most frequent characters kept; >= 1 */
};

struct wordpiece_learner;

/* Local.  Lower case, min_frequency 2, alphabet_limit 1000. */
struct wordpiece_options wordpiece_options_default(void);

/* Local.  options: NULL = the defaults.  Owns: the caller.  Errors: ARG, NOMEM. */
mt_status wordpiece_learner_create(struct wordpiece_learner **out,
                                   const struct wordpiece_options *options) MT_CHECKED;
void wordpiece_learner_destroy(struct wordpiece_learner **l);

/* Local.  Counts the words of a text; words of more than 100 characters are passed over.  A word
 * never crosses two calls.  Errors: NOMEM; DATA past the 32-bit limits of its tables. */
mt_status wordpiece_learner_add_text(struct wordpiece_learner *l, const char *text,
                                     int64_t n_bytes) MT_CHECKED;

/* Local.  Distinct words counted so far, and all of them. */
int64_t wordpiece_learner_distinct_words(const struct wordpiece_learner *l);
int64_t wordpiece_learner_total_words(const struct wordpiece_learner *l);

/* Local.  Learns at most `size` tokens into *out: [PAD] [UNK] [CLS] [SEP] [MASK], the alphabet in
 * order of code point, its "##" forms, then merges in the order found.  A size below specials and
 * alphabet together still gives all of those.  Owns: out until vocab_close; the counts stay, so
 * another size may be learnt.  Errors: ARG (size out of 6..VOCAB_MAX_TOKENS), DATA (no words),
 * NOMEM. */
mt_status wordpiece_learner_train(struct wordpiece_learner *l, int32_t size,
                                  struct vocab *out) MT_CHECKED;

#endif
