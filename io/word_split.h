/*
 * word_split: normalised words of a text, one after another, in memory that does not grow.
 *
 * What Hugging Face's BertNormalizer and BertPreTokenizer do together: control characters go,
 * white space parts words, CJK ideographs and punctuation characters are words of their own,
 * accents are stripped and letters lowered as the flags say.
 *
 *     word_split_begin(&s, &flags, text, n);
 *     while (word_split_next(&s))
 *         use(s.word, s.word_bytes);
 */
#ifndef MT_IO_WORD_SPLIT_H
#define MT_IO_WORD_SPLIT_H

#include "io/utf8.h"
#include "io/vocab.h"

enum {
    WORD_SPLIT_CHARS = 100, /* a longer word is only counted */
    WORD_SPLIT_BYTES = (WORD_SPLIT_CHARS + 1) * UTF8_MAX_BYTES,
    WORD_SPLIT_RUN = 2 * WORD_SPLIT_CHARS /* marks that wait for their canonical order */
};

struct word_mark {
    uint32_t code;
    int32_t order; /* canonical combining class */
};

struct word_split {
    /* the word found by word_split_next */
    char word[WORD_SPLIT_BYTES];
    int32_t word_bytes; /* of word, not NUL-terminated */
    int64_t word_chars; /* may pass WORD_SPLIT_CHARS: then word holds only the beginning */
    int64_t replaced;   /* malformed sequences since word_split_begin */

    /* private */
    const char *p, *end;
    struct vocab_flags flags;
    struct word_mark run[WORD_SPLIT_RUN];
    int32_t run_count;
    uint32_t queue[WORD_SPLIT_RUN + 8]; /* normalised characters that wait to be placed */
    int32_t queue_count, queue_next;
};

/* Local.  Borrows text until the last word. */
void word_split_begin(struct word_split *s, const struct vocab_flags *flags, const char *text,
                      int64_t n_bytes);

/* Local.  The next word; false at the end. */
bool word_split_next(struct word_split *s);

#endif
