/*
 * tokenizer: text to WordPiece ids, exactly as Hugging Face's fast BERT tokenizer.
 *
 * [CLS] A [SEP], or [CLS] A [SEP] B [SEP] with token types 0 and 1.  Tokens such as [MASK] that
 * stand in the text are that token; then the text is normalised and cut into words (word_split.h)
 * and each word is cut, from its left, into the longest pieces of the vocabulary ("##" marks a
 * piece inside a word); a word that cannot be cut whole, or of more than 100 characters, is [UNK].
 *
 * One tokenizer a thread; the vocabulary is shared.  It keeps its buffers: with a limit on tokens,
 * nothing is allocated after the first encode with that limit, and memory does not depend on the
 * length of the text.
 *
 *     struct tokenizer *t = NULL;
 *     struct encoding e;
 *     MT_TRY(tokenizer_create(&t, &vocab, NULL));
 *     MT_TRY(tokenizer_encode(t, text, n, NULL, 0, 512, &e));    // e.ids[0..e.count-1]
 *     tokenizer_destroy(&t);
 */
#ifndef MT_IO_TOKENIZER_H
#define MT_IO_TOKENIZER_H

#include "io/vocab.h"

enum { TOKENIZER_MAX_WORD_CHARS = 100, TOKENIZER_MIN_LIMIT_TOKENS = 3 };

struct tokenizer;

/* One text or pair as ids.  The arrays belong to the tokenizer and last until its next encode. */
struct encoding {
    const int32_t *ids;   /* [count] */
    const int32_t *types; /* [count] 0 or 1 */
    int32_t count;        /* with [CLS] and [SEP] */
    int32_t unknown;      /* ids that are [UNK] */
    int64_t full_count;   /* what count would be without a limit */
    int64_t replaced;     /* malformed UTF-8 sequences, read as U+FFFD */
    bool truncated;       /* full_count > count */
};

/* Local.  Borrows vocab, which must outlive it.  flags: NULL = the vocabulary's own.
 * Owns: the caller, until tokenizer_destroy.  Errors: NOMEM. */
mt_status tokenizer_create(struct tokenizer **out, const struct vocab *vocab,
                           const struct vocab_flags *flags) MT_CHECKED;

/* Local.  Sets *t to NULL; NULL is fine. */
void tokenizer_destroy(struct tokenizer **t);

/* What it was made of, to make one like it for another thread. */
const struct vocab *tokenizer_vocab(const struct tokenizer *t);
struct vocab_flags tokenizer_flags(const struct tokenizer *t);

/* Local.  A hash of vocabulary and flags: equal iff every text gives the same ids.  Costs a pass
 * over the vocabulary. */
uint64_t tokenizer_hash(const struct tokenizer *t);

/* Local.  Encodes text[0..text_bytes-1] and, unless pair is NULL, pair[0..pair_bytes-1].
 * max_tokens: all of [CLS], [SEP] and words, at least 3; 0 = no limit.  A pair too long is cut
 * "longest first" (tokenizers 0.23, src/utils/truncation.rs).
 * Errors: ARG for another limit; DATA for more than INT32_MAX ids; NOMEM. */
mt_status tokenizer_encode(struct tokenizer *t, const char *text, int64_t text_bytes,
                           const char *pair, int64_t pair_bytes, int32_t max_tokens,
                           struct encoding *out) MT_CHECKED;

#endif
