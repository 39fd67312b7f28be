/*
 * The idea: text flows through; nothing is kept but the ids, and with a limit only the first so
 * many of each part, the rest being counted, because the lengths of both decide how a pair is cut.
 * The hashes of all prefixes of what is left of a word come from one pass over it, so the search
 * for its longest piece costs a look-up a candidate and no hashing again.
 * Refused: a trie with failure links (Song et al., "Fast WordPiece Tokenization", EMNLP 2021),
 * linear where this is quadratic in the length of a word: words are short, and 100 characters at
 * most.  A cache of words: the table answers whole words at the first look-up.
 */
#include "io/tokenizer.h"

#include "comm/base/memory.h"
#include "io/word_split.h"

#include <string.h>

/* Ids of one part.  With a limit, ids past capacity are counted and not kept. */
struct part_ids {
    int32_t *ids; /* [capacity] */
    int64_t capacity, count;
    int64_t stop, stopped; /* count at the end of the word that first reached stop; 0 = not yet */
    bool grows;
};

struct tokenizer {
    const struct vocab *vocab;
    struct vocab_flags flags;
    struct word_split words;
    uint64_t hash[WORD_SPLIT_BYTES + 1]; /* of the first i bytes of what is left of a word */
    bool begins_added[256];              /* bytes that an added token begins with */
    char added_byte;                     /* the only one of them, if there is only one */
    bool has_one_byte;
    struct part_ids part[2];
    int32_t *ids, *types; /* [out_capacity] */
    int64_t out_capacity;
};

mt_status tokenizer_create(struct tokenizer **out, const struct vocab *vocab,
                           const struct vocab_flags *flags)
{
    struct tokenizer *t = NULL;
    MT_TRY(mt_alloc(&t, 1, sizeof *t, "tokenizer"));
    t->vocab = vocab;
    t->flags = flags != NULL ? *flags : vocab->flags;
    int32_t distinct = 0;
    for (int32_t i = 0; i < vocab->added_count; i++) {
        t->added_byte = vocab_token(vocab, vocab->added[i])[0];
        distinct += !t->begins_added[(unsigned char)t->added_byte];
        t->begins_added[(unsigned char)t->added_byte] = true;
    }
    t->has_one_byte = distinct == 1;
    *out = t;
    return MT_OK;
}

void tokenizer_destroy(struct tokenizer **t)
{
    if (*t == NULL)
        return;
    mt_free(&(*t)->part[0].ids);
    mt_free(&(*t)->part[1].ids);
    mt_free(&(*t)->ids);
    mt_free(&(*t)->types);
    mt_free(t);
}

const struct vocab *tokenizer_vocab(const struct tokenizer *t)
{
    return t->vocab;
}

struct vocab_flags tokenizer_flags(const struct tokenizer *t)
{
    return t->flags;
}

uint64_t tokenizer_hash(const struct tokenizer *t)
{
    struct vocab v = *t->vocab;
    v.flags = t->flags;
    return vocab_hash(&v);
}

static mt_status reserve_ids(struct part_ids *part, int64_t capacity)
{
    if (capacity <= part->capacity)
        return MT_OK;
    MT_TRY(mt_grow(&part->ids, part->capacity, capacity, sizeof *part->ids, "token ids"));
    part->capacity = capacity;
    return MT_OK;
}

static mt_status push_ids(struct part_ids *part, const int32_t *ids, int32_t count)
{
    if (part->grows && part->count + count > part->capacity) {
        if (part->count + count > INT32_MAX / 2)
            return MT_FAIL(MT_DATA, "a text has more than %d tokens; cut it or set a limit",
                           INT32_MAX / 2);
        MT_TRY(reserve_ids(part, 2 * (part->count + count)));
    }
    for (int32_t i = 0; i < count; i++, part->count++)
        if (part->count < part->capacity)
            part->ids[part->count] = ids[i];
    return MT_OK;
}

/* The longest token that the bytes begin with, its length in *taken; -1 = none. */
static int32_t longest_piece(struct tokenizer *t, const char *prefix, const char *bytes,
                             int32_t n_bytes, int32_t *taken)
{
    const struct vocab *v = t->vocab;
    int32_t prefix_bytes = prefix[0] == '\0' ? 0 : 2, length = v->longest_bytes - prefix_bytes;
    length = length < n_bytes ? length : n_bytes;
    uint64_t h = VOCAB_HASH_EMPTY;
    for (int32_t i = 0; i < prefix_bytes; i++)
        h = vocab_hash_step(h, prefix[i]);
    for (int32_t i = 0; i < length; i++)
        t->hash[i + 1] = h = vocab_hash_step(h, bytes[i]);
    for (; length > 0; length--) {
        bool inside_char = length < n_bytes && ((unsigned char)bytes[length] & 0xC0) == 0x80;
        if (inside_char)
            continue;
        int32_t id = vocab_find_hashed(v, t->hash[length], prefix, bytes, length);
        if (id >= 0) {
            *taken = length;
            return id;
        }
    }
    return -1;
}

static mt_status add_word(struct tokenizer *t, struct part_ids *part)
{
    const struct word_split *w = &t->words;
    int32_t pieces[WORD_SPLIT_CHARS], count = 0, begin = 0, taken = 0;
    if (w->word_chars > TOKENIZER_MAX_WORD_CHARS)
        return push_ids(part, &t->vocab->unk, 1);
    while (begin < w->word_bytes) {
        int32_t id = longest_piece(t, begin == 0 ? "" : "##", w->word + begin,
                                   w->word_bytes - begin, &taken);
        if (id < 0)
            return push_ids(part, &t->vocab->unk, 1);
        pieces[count++] = id;
        begin += taken;
    }
    return push_ids(part, pieces, count);
}

static mt_status add_words(struct tokenizer *t, struct part_ids *part, const char *text,
                           int64_t n_bytes, int64_t *replaced)
{
    word_split_begin(&t->words, &t->flags, text, n_bytes);
    while (word_split_next(&t->words)) {
        MT_TRY(add_word(t, part));
        if (part->stopped == 0 && part->stop > 0 && part->count >= part->stop)
            part->stopped = part->count;
    }
    *replaced += t->words.replaced;
    return MT_OK;
}

/* The added token that stands at p, or -1. */
static int32_t added_at(const struct vocab *v, const char *p, const char *end, int64_t *length)
{
    for (int32_t i = 0; i < v->added_count; i++) {
        int32_t id = v->added[i];
        *length = v->offset[id + 1] - v->offset[id] - 1;
        if (*length <= end - p && memcmp(p, v->text + v->offset[id], (size_t)*length) == 0)
            return id;
    }
    return -1;
}

/* Where an added token may begin, at p or later; end if nowhere. */
static const char *added_candidate(const struct tokenizer *t, const char *p, const char *end)
{
    if (t->has_one_byte) {
        const char *found = p < end ? memchr(p, t->added_byte, (size_t)(end - p)) : NULL;
        return found != NULL ? found : end;
    }
    while (p < end && !t->begins_added[(unsigned char)*p])
        p++;
    return p;
}

/* All ids of one text: added tokens as they stand, and the words between them. */
static mt_status add_text(struct tokenizer *t, struct part_ids *part, const char *text,
                          int64_t n_bytes, int64_t *replaced)
{
    const char *end = text + n_bytes, *begin = text;
    for (const char *p = added_candidate(t, text, end); p < end;) {
        int64_t length = 0;
        int32_t id = added_at(t->vocab, p, end, &length);
        if (id < 0) {
            p = added_candidate(t, p + 1, end);
            continue;
        }
        MT_TRY(add_words(t, part, begin, p - begin, replaced));
        MT_TRY(push_ids(part, &id, 1));
        begin = p + length;
        p = added_candidate(t, begin, end);
    }
    return add_words(t, part, begin, end - begin, replaced);
}

/* How much of each part stays where both together may have `limit` ids: the shorter one keeps all
 * it can, and if both are too long they share, the longer one taking an odd one. */
static void truncate_pair(int64_t *n1, int64_t *n2, int64_t limit)
{
    int64_t shorter = *n1, longer = *n2;
    if (shorter + longer <= limit)
        return;
    bool swapped = shorter > longer;
    if (swapped) {
        shorter = *n2;
        longer = *n1;
    }
    longer = shorter > limit || shorter > limit - shorter ? shorter : limit - shorter;
    if (shorter + longer > limit) {
        shorter = limit / 2;
        longer = shorter + limit % 2;
    }
    *n1 = swapped ? longer : shorter;
    *n2 = swapped ? shorter : longer;
}

/* The length that decides which part is the longer one: the reference stops after the word with
 * which a part alone reaches the whole limit, specials not deducted (since its version 0.23). */
static int64_t counted_length(const struct part_ids *part)
{
    return part->stopped > 0 ? part->stopped : part->count;
}

static mt_status reserve_out(struct tokenizer *t, int64_t capacity)
{
    if (capacity <= t->out_capacity)
        return MT_OK;
    capacity += t->out_capacity;
    MT_TRY(mt_grow(&t->ids, t->out_capacity, capacity, sizeof *t->ids, "token ids"));
    MT_TRY(mt_grow(&t->types, t->out_capacity, capacity, sizeof *t->types, "token types"));
    t->out_capacity = capacity;
    return MT_OK;
}

static void put_part(struct tokenizer *t, struct encoding *out, int32_t which, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        int32_t id = t->part[which].ids[i];
        t->ids[out->count] = id;
        t->types[out->count++] = which;
        out->unknown += id == t->vocab->unk;
    }
    t->ids[out->count] = t->vocab->sep;
    t->types[out->count++] = which;
}

mt_status tokenizer_encode(struct tokenizer *t, const char *text, int64_t text_bytes,
                           const char *pair, int64_t pair_bytes, int32_t max_tokens,
                           struct encoding *out)
{
    if (max_tokens != 0 && max_tokens < TOKENIZER_MIN_LIMIT_TOKENS)
        return MT_FAIL(MT_ARG, "the limit of tokens is %d; it must be 0 (none) or at least %d",
                       max_tokens, TOKENIZER_MIN_LIMIT_TOKENS);
    struct encoding e = {0};
    int32_t specials = pair != NULL ? 3 : 2;
    const char *texts[2] = {text_bytes > 0 ? text : "", pair_bytes > 0 ? pair : ""};
    int64_t bytes[2] = {text_bytes, pair_bytes};
    for (int32_t i = 0; i < specials - 1; i++) {
        t->part[i].count = 0;
        t->part[i].stop = max_tokens;
        t->part[i].stopped = 0;
        t->part[i].grows = max_tokens == 0;
        if (max_tokens > 0)
            MT_TRY(reserve_ids(&t->part[i], max_tokens));
        MT_TRY(add_text(t, &t->part[i], texts[i], bytes[i], &e.replaced));
    }
    int64_t n1 = counted_length(&t->part[0]), n2 = pair != NULL ? counted_length(&t->part[1]) : 0;
    e.full_count = t->part[0].count + (pair != NULL ? t->part[1].count : 0) + specials;
    if (max_tokens > 0 && pair != NULL)
        truncate_pair(&n1, &n2, max_tokens - specials);
    else if (max_tokens > 0 && n1 > max_tokens - specials)
        n1 = max_tokens - specials;
    MT_TRY(reserve_out(t, max_tokens > 0 ? max_tokens : n1 + n2 + specials));
    t->ids[0] = t->vocab->cls;
    t->types[0] = 0;
    e.count = 1;
    put_part(t, &e, 0, n1);
    if (pair != NULL)
        put_part(t, &e, 1, n2);
    e.ids = t->ids;
    e.types = t->types;
    e.truncated = e.full_count > e.count;
    *out = e;
    return MT_OK;
}
