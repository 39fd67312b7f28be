/*
 * The idea: pair counts are kept up to date, not counted anew: each pair has the list of words it
 * was seen in, and melting it changes only those.  The next pair comes from a heap whose entries
 * may be out of date: counts of old pairs only fall, so an entry that claims too much comes up
 * early and is put back with its true count.
 * Refused: the likelihood criterion of Schuster and Nakajima ("Japanese and Korean voice search",
 * ICASSP 2012), which Hugging Face's trainer does not use either; threads (it takes seconds).
 * Cost: about 8 bytes a character of distinct words for the sequences and lists, 24 to 50 bytes a
 * distinct pair; time near linear in the number of changes, a few million a second.
 * Source: tokenizers, src/models/bpe/trainer.rs (Sennrich et al., ACL 2016, on words).
 */
#include "io/wordpiece_learn.h"

#include "comm/base/memory.h"
#include "io/string_table.h"
#include "io/word_split.h"

#include <stdlib.h>
#include <string.h>

enum { CODE_COUNT = 0x110000, SPECIAL_COUNT = 5 };

struct wordpiece_learner {
    struct wordpiece_options options;
    struct word_split split;
    struct string_table words;
    int64_t *count; /* [count_capacity] of each word */
    int64_t count_capacity, total;
};

struct wordpiece_options wordpiece_options_default(void)
{
    return (struct wordpiece_options){
        .flags = vocab_flags_default(true), .min_frequency = 2, .alphabet_limit = 1000};
}

mt_status wordpiece_learner_create(struct wordpiece_learner **out,
                                   const struct wordpiece_options *options)
{
    struct wordpiece_options o = options != NULL ? *options : wordpiece_options_default();
    if (o.min_frequency < 1 || o.alphabet_limit < 1)
        return MT_FAIL(MT_ARG, "the least frequency and the alphabet's limit must be at least 1");
    struct wordpiece_learner *l = NULL;
    MT_TRY(mt_alloc(&l, 1, sizeof *l, "vocabulary learner"));
    l->options = o;
    *out = l;
    return MT_OK;
}

void wordpiece_learner_destroy(struct wordpiece_learner **l)
{
    if (*l == NULL)
        return;
    string_table_release(&(*l)->words);
    mt_free(&(*l)->count);
    mt_free(l);
}

int64_t wordpiece_learner_distinct_words(const struct wordpiece_learner *l)
{
    return l->words.count;
}

int64_t wordpiece_learner_total_words(const struct wordpiece_learner *l)
{
    return l->total;
}

mt_status wordpiece_learner_add_text(struct wordpiece_learner *l, const char *text, int64_t n_bytes)
{
    struct word_split *s = &l->split;
    word_split_begin(s, &l->options.flags, n_bytes > 0 ? text : "", n_bytes);
    while (word_split_next(s)) {
        if (s->word_chars > WORD_SPLIT_CHARS)
            continue;
        int32_t word = 0;
        MT_TRY(string_table_add(&l->words, s->word, s->word_bytes, &word));
        if (word >= l->count_capacity) {
            int64_t capacity = 2 * l->count_capacity + 1024;
            MT_TRY(
                mt_grow(&l->count, l->count_capacity, capacity, sizeof *l->count, "word counts"));
            l->count_capacity = capacity;
        }
        l->count[word]++;
        l->total++;
    }
    return MT_OK;
}

struct pair {
    int32_t left, right; /* pieces */
    int64_t count;
    int32_t seen; /* head of the list of words, -1 = none */
    bool raised;  /* since the last merge */
};

struct seen {
    int32_t word, next;
};

struct heap_entry {
    int64_t count;
    int32_t pair;
};

/* One training: pieces, words as pieces, pairs, heap. */
struct trainer {
    const struct wordpiece_learner *l;
    struct string_table pieces;
    int32_t *plain, *inside; /* [CODE_COUNT] piece of a character; 0 = not in the alphabet */

    int32_t *symbol; /* all words one after another */
    int64_t *begin;  /* [words+1] into symbol */
    int32_t *length; /* [words] */

    struct pair *pair; /* [pair_capacity] */
    int32_t pair_count, pair_capacity;
    int32_t *slot; /* [slot_count] pair or -1 */
    int64_t slot_count;

    struct seen *seen; /* [seen_capacity] */
    int32_t seen_count, seen_capacity, seen_free;

    struct heap_entry *heap; /* [heap_capacity] */
    int64_t heap_count, heap_capacity;

    int32_t *raised; /* [raised_capacity] pairs whose count rose in this merge */
    int64_t raised_count, raised_capacity;
};

static void trainer_release(struct trainer *t)
{
    string_table_release(&t->pieces);
    mt_free(&t->plain);
    mt_free(&t->inside);
    mt_free(&t->symbol);
    mt_free(&t->begin);
    mt_free(&t->length);
    mt_free(&t->pair);
    mt_free(&t->slot);
    mt_free(&t->seen);
    mt_free(&t->heap);
    mt_free(&t->raised);
}

/* The heap's order: more frequent first, then the lower pieces. */
static bool comes_before(const struct trainer *t, struct heap_entry a, struct heap_entry b)
{
    if (a.count != b.count)
        return a.count > b.count;
    const struct pair *p = &t->pair[a.pair], *q = &t->pair[b.pair];
    return p->left != q->left ? p->left < q->left : p->right < q->right;
}

static mt_status heap_push(struct trainer *t, int32_t pair)
{
    if (t->heap_count == t->heap_capacity) {
        int64_t capacity = 2 * t->heap_capacity + 1024;
        MT_TRY(mt_grow(&t->heap, t->heap_capacity, capacity, sizeof *t->heap, "pair queue"));
        t->heap_capacity = capacity;
    }
    struct heap_entry e = {t->pair[pair].count, pair};
    int64_t at = t->heap_count++;
    for (; at > 0 && comes_before(t, e, t->heap[(at - 1) / 2]); at = (at - 1) / 2)
        t->heap[at] = t->heap[(at - 1) / 2];
    t->heap[at] = e;
    return MT_OK;
}

static struct heap_entry heap_pop(struct trainer *t)
{
    struct heap_entry top = t->heap[0], last = t->heap[--t->heap_count];
    int64_t at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= t->heap_count)
            break;
        if (child + 1 < t->heap_count && comes_before(t, t->heap[child + 1], t->heap[child]))
            child++;
        if (!comes_before(t, t->heap[child], last))
            break;
        t->heap[at] = t->heap[child];
        at = child;
    }
    if (t->heap_count > 0)
        t->heap[at] = last;
    return top;
}

static int64_t pair_slot(const struct trainer *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9E3779B97F4A7C15);
    int64_t mask = t->slot_count - 1, i = (int64_t)((h ^ h >> 32) & (uint64_t)mask);
    for (; t->slot[i] >= 0; i = (i + 1) & mask) {
        const struct pair *p = &t->pair[t->slot[i]];
        if (p->left == left && p->right == right)
            break;
    }
    return i;
}

static mt_status grow_pairs(struct trainer *t)
{
    if (t->pair_capacity > INT32_MAX / 4)
        return MT_FAIL(MT_DATA, "more than %d distinct pairs; give less text", t->pair_capacity);
    int32_t capacity = 2 * t->pair_capacity + 1024, *slot = NULL;
    int64_t slot_count = 4096;
    while (slot_count < 2 * (int64_t)capacity)
        slot_count *= 2;
    MT_TRY(mt_grow(&t->pair, t->pair_capacity, capacity, sizeof *t->pair, "pairs"));
    t->pair_capacity = capacity;
    MT_TRY(mt_alloc(&slot, slot_count, sizeof *slot, "pair index"));
    mt_free(&t->slot);
    t->slot = slot;
    t->slot_count = slot_count;
    memset(slot, 0xFF, (size_t)slot_count * sizeof *slot);
    for (int32_t i = 0; i < t->pair_count; i++)
        slot[pair_slot(t, t->pair[i].left, t->pair[i].right)] = i;
    return MT_OK;
}

static mt_status remember_word(struct trainer *t, struct pair *p, int32_t word)
{
    if (p->seen >= 0 && t->seen[p->seen].word == word)
        return MT_OK;
    int32_t at = t->seen_free;
    if (at >= 0) {
        t->seen_free = t->seen[at].next;
    } else {
        if (t->seen_count == t->seen_capacity) {
            if (t->seen_capacity > INT32_MAX / 4)
                return MT_FAIL(MT_DATA, "too many distinct words; give less text");
            int32_t capacity = 2 * t->seen_capacity + 4096;
            MT_TRY(mt_grow(&t->seen, t->seen_capacity, capacity, sizeof *t->seen, "pair places"));
            t->seen_capacity = capacity;
        }
        at = t->seen_count++;
    }
    t->seen[at] = (struct seen){word, p->seen};
    p->seen = at;
    return MT_OK;
}

static mt_status raise_pair(struct trainer *t, int32_t left, int32_t right, int32_t word)
{
    if (t->pair_count == t->pair_capacity)
        MT_TRY(grow_pairs(t));
    int32_t *slot = &t->slot[pair_slot(t, left, right)];
    if (*slot < 0) {
        *slot = t->pair_count++;
        t->pair[*slot] = (struct pair){.left = left, .right = right, .seen = -1};
    }
    struct pair *p = &t->pair[*slot];
    p->count += t->l->count[word];
    MT_TRY(remember_word(t, p, word));
    if (p->raised)
        return MT_OK;
    if (t->raised_count == t->raised_capacity) {
        int64_t capacity = 2 * t->raised_capacity + 1024;
        MT_TRY(mt_grow(&t->raised, t->raised_capacity, capacity, sizeof *t->raised, "new pairs"));
        t->raised_capacity = capacity;
    }
    p->raised = true;
    t->raised[t->raised_count++] = *slot;
    return MT_OK;
}

static void lower_pair(struct trainer *t, int32_t left, int32_t right, int32_t word)
{
    int32_t found = t->slot[pair_slot(t, left, right)];
    if (found >= 0)
        t->pair[found].count -= t->l->count[word];
}

/* Queues the pairs that are new or more frequent than before. */
static mt_status queue_raised(struct trainer *t)
{
    for (int64_t i = 0; i < t->raised_count; i++) {
        struct pair *p = &t->pair[t->raised[i]];
        p->raised = false;
        if (p->count >= t->l->options.min_frequency)
            MT_TRY(heap_push(t, t->raised[i]));
    }
    t->raised_count = 0;
    return MT_OK;
}

/* Replaces left,right by piece in a word, from the left, and keeps the neighbours' counts. */
static mt_status merge_in_word(struct trainer *t, int32_t word, int32_t left, int32_t right,
                               int32_t piece)
{
    int32_t *s = t->symbol + t->begin[word];
    int32_t length = t->length[word], written = 0;
    for (int32_t i = 0; i < length; i++, written++) {
        bool here = i + 1 < length && s[i] == left && s[i + 1] == right;
        if (here && written > 0) {
            lower_pair(t, s[written - 1], left, word);
            MT_TRY(raise_pair(t, s[written - 1], piece, word));
        }
        if (here && i + 2 < length) {
            lower_pair(t, right, s[i + 2], word);
            MT_TRY(raise_pair(t, piece, s[i + 2], word));
        }
        s[written] = here ? piece : s[i];
        i += here;
    }
    t->length[word] = written;
    return MT_OK;
}

/* The piece made of two; text of the second without its "##". */
static mt_status join_pieces(struct trainer *t, const struct pair *p, int32_t *piece)
{
    char joined[2 * (WORD_SPLIT_BYTES + 2)];
    int64_t left_bytes = 0, right_bytes = 0;
    const char *left = string_table_get(&t->pieces, p->left, &left_bytes);
    memcpy(joined, left, (size_t)left_bytes);
    const char *right = string_table_get(&t->pieces, p->right, &right_bytes);
    memcpy(joined + left_bytes, right + 2, (size_t)(right_bytes - 2));
    return string_table_add(&t->pieces, joined, left_bytes + right_bytes - 2, piece);
}

static mt_status merge_pair(struct trainer *t, int32_t index)
{
    struct pair p = t->pair[index];
    int32_t piece = 0, last = -1;
    MT_TRY(join_pieces(t, &p, &piece));
    t->pair[index].seen = -1;
    for (int32_t i = p.seen; i >= 0; i = t->seen[i].next) {
        MT_TRY(merge_in_word(t, t->seen[i].word, p.left, p.right, piece));
        last = i;
    }
    if (last >= 0) {
        t->seen[last].next = t->seen_free;
        t->seen_free = p.seen;
    }
    t->pair[index].count = 0;
    return queue_raised(t);
}

static mt_status merge_pairs(struct trainer *t, int32_t size)
{
    while (t->pieces.count < size && t->heap_count > 0) {
        struct heap_entry top = heap_pop(t);
        int64_t count = t->pair[top.pair].count;
        if (count == top.count)
            MT_TRY(merge_pair(t, top.pair));
        else if (count < top.count && count >= t->l->options.min_frequency)
            MT_TRY(heap_push(t, top.pair));
    }
    return MT_OK;
}

struct letter {
    uint32_t code;
    int64_t count;
};

static int compare_by_count(const void *a, const void *b)
{
    const struct letter *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return (x->code > y->code) - (x->code < y->code);
}

static int compare_by_code(const void *a, const void *b)
{
    const struct letter *x = a, *y = b;
    return (x->code > y->code) - (x->code < y->code);
}
/* Counts the characters of all words and finds where each may stand; answers the highest. */
static uint32_t count_letters(const struct wordpiece_learner *l, struct letter *letters,
                              int32_t *inside)
{
    uint32_t highest = 0;
    for (int32_t w = 0; w < l->words.count; w++) {
        int64_t bytes = 0;
        const char *word = string_table_get(&l->words, w, &bytes);
        for (const char *p = word; p < word + bytes;) {
            struct utf8_char c = utf8_decode(p, word + bytes);
            letters[c.code].code = c.code;
            letters[c.code].count += l->count[w];
            inside[c.code] |= p > word;
            highest = c.code > highest ? c.code : highest;
            p += c.bytes;
        }
    }
    return highest;
}

static mt_status add_letter(struct trainer *t, const char *prefix, uint32_t code, int32_t *piece)
{
    char text[2 + UTF8_MAX_BYTES];
    int64_t bytes = (int64_t)strlen(prefix);
    memcpy(text, prefix, (size_t)bytes);
    bytes += utf8_encode(text + bytes, code);
    return string_table_add(&t->pieces, text, bytes, piece);
}

static mt_status add_alphabet(struct trainer *t, struct letter *letters, uint32_t highest)
{
    int64_t count = 0;
    for (uint32_t i = 0; i <= highest; i++)
        if (letters[i].count > 0)
            letters[count++] = letters[i];
    qsort(letters, (size_t)count, sizeof *letters, compare_by_count);
    if (count > t->l->options.alphabet_limit)
        count = t->l->options.alphabet_limit;
    qsort(letters, (size_t)count, sizeof *letters, compare_by_code);
    for (int64_t i = 0; i < count; i++)
        MT_TRY(add_letter(t, "", letters[i].code, &t->plain[letters[i].code]));
    for (int64_t i = 0; i < count; i++) {
        int32_t *inside = &t->inside[letters[i].code];
        if (*inside != 0)
            MT_TRY(add_letter(t, "##", letters[i].code, inside));
    }
    return MT_OK;
}

/* Specials first, then the alphabet in order of code point, then its forms inside words. */
static mt_status begin_pieces(struct trainer *t)
{
    static const char *const specials[SPECIAL_COUNT] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                                        "[MASK]"};
    struct letter *letters = NULL;
    mt_status st;
    MT_TRY(mt_alloc(&t->plain, CODE_COUNT, sizeof *t->plain, "alphabet"));
    MT_TRY(mt_alloc(&t->inside, CODE_COUNT, sizeof *t->inside, "alphabet"));
    MT_TRY(mt_alloc(&letters, CODE_COUNT, sizeof *letters, "alphabet"));
    for (int32_t i = 0, number = 0; i < SPECIAL_COUNT; i++)
        MT_TRY_GOTO(
            st, string_table_add(&t->pieces, specials[i], (int64_t)strlen(specials[i]), &number),
            done);
    st = add_alphabet(t, letters, count_letters(t->l, letters, t->inside));
done:
    mt_free(&letters);
    return st;
}

/* Cuts every word into its characters; those outside the alphabet are left out. */
static mt_status cut_words(struct trainer *t)
{
    const struct string_table *words = &t->l->words;
    int64_t used = 0;
    MT_TRY(mt_alloc(&t->begin, (int64_t)words->count + 1, sizeof *t->begin, "words"));
    MT_TRY(mt_alloc(&t->length, words->count, sizeof *t->length, "words"));
    MT_TRY(mt_alloc(&t->symbol, words->text_bytes, sizeof *t->symbol, "pieces of words"));
    for (int32_t w = 0; w < words->count; w++) {
        int64_t bytes = 0;
        const char *word = string_table_get(words, w, &bytes);
        t->begin[w] = used;
        for (const char *p = word; p < word + bytes;) {
            struct utf8_char c = utf8_decode(p, word + bytes);
            if (t->plain[c.code] != 0)
                t->symbol[used++] = p == word ? t->plain[c.code] : t->inside[c.code];
            p += c.bytes;
        }
        t->length[w] = (int32_t)(used - t->begin[w]);
    }
    return MT_OK;
}

static mt_status count_pairs(struct trainer *t)
{
    t->seen_free = -1;
    MT_TRY(grow_pairs(t));
    for (int32_t w = 0; w < t->l->words.count; w++) {
        const int32_t *s = t->symbol + t->begin[w];
        for (int32_t i = 0; i + 1 < t->length[w]; i++)
            MT_TRY(raise_pair(t, s[i], s[i + 1], w));
    }
    return queue_raised(t);
}

static mt_status hand_over(struct trainer *t, struct vocab *out)
{
    const char **tokens = NULL;
    MT_TRY(mt_alloc(&tokens, t->pieces.count, sizeof *tokens, "vocabulary"));
    for (int32_t i = 0; i < t->pieces.count; i++)
        tokens[i] = t->pieces.text + t->pieces.offset[i];
    mt_status st =
        vocab_create(out, tokens, t->pieces.count, t->l->options.flags, "learnt vocabulary");
    mt_free(&tokens);
    return st;
}

mt_status wordpiece_learner_train(struct wordpiece_learner *l, int32_t size, struct vocab *out)
{
    if (size <= SPECIAL_COUNT || size > VOCAB_MAX_TOKENS)
        return MT_FAIL(MT_ARG, "the size of a vocabulary is %d; it must be in %d..%d", size,
                       SPECIAL_COUNT + 1, VOCAB_MAX_TOKENS);
    if (l->words.count == 0)
        return MT_FAIL(MT_DATA, "there is no word in the text to learn a vocabulary from");
    struct trainer t = {.l = l};
    mt_status st;
    MT_TRY_GOTO(st, begin_pieces(&t), done);
    MT_TRY_GOTO(st, cut_words(&t), done);
    MT_TRY_GOTO(st, count_pairs(&t), done);
    MT_TRY_GOTO(st, merge_pairs(&t, size), done);
    st = hand_over(&t, out);
done:
    trainer_release(&t);
    return st;
}
