/*
 * The idea: characters are pulled through all steps one by one, so that no text is ever copied
 * whole.  The reference runs each step over the whole text; the one step that looks further than a
 * character is the canonical ordering of marks, so those wait in a run until a starter comes.
 * Nonspacing marks are dropped before they are ordered, which leaves the others in the same order
 * (the ordering is stable), but one that is a starter still ends the run.  A run too long for its
 * buffer goes on unordered: it lies inside one word, of more than 100 characters by then.
 * Refused: normalising with utf8proc_map, whose tables are newer than the reference's.
 * Cost: an ASCII character takes a few comparisons, any other up to six binary searches.
 * Source: tokenizers, src/normalizers/bert.rs and src/pre_tokenizers/bert.rs.
 */
#include "io/word_split.h"

#include "io/unicode_hf.h"

void word_split_begin(struct word_split *s, const struct vocab_flags *flags, const char *text,
                      int64_t n_bytes)
{
    s->p = text;
    s->end = text + n_bytes;
    s->flags = *flags;
    s->word_bytes = 0;
    s->word_chars = 0;
    s->replaced = 0;
    s->run_count = 0;
    s->queue_count = 0;
    s->queue_next = 0;
}

/* Lowers a character and hands it to the words. */
static void queue_add(struct word_split *s, uint32_t code)
{
    uint32_t lower[2] = {code, 0};
    int32_t count = s->flags.lowercase ? unicode_lower(code, lower) : 1;
    for (int32_t i = 0; i < count; i++)
        s->queue[s->queue_count++] = lower[i];
}

static void flush_run(struct word_split *s)
{
    for (int32_t i = 0; i < s->run_count; i++)
        queue_add(s, s->run[i].code);
    s->run_count = 0;
}

/* A character of the decomposition: marks are dropped or wait, a starter lets them pass. */
static void add_part(struct word_split *s, uint32_t code)
{
    int32_t order = unicode_combining_class(code);
    bool dropped = unicode_is_mark(code);
    if (order == 0)
        flush_run(s);
    if (dropped)
        return;
    if (order == 0) {
        queue_add(s, code);
        return;
    }
    if (s->run_count == WORD_SPLIT_RUN)
        flush_run(s);
    int32_t at = s->run_count++;
    for (; at > 0 && s->run[at - 1].order > order; at--)
        s->run[at] = s->run[at - 1];
    s->run[at] = (struct word_mark){code, order};
}

static void add_char(struct word_split *s, uint32_t code)
{
    if (!s->flags.strip_accents) {
        queue_add(s, code);
        return;
    }
    uint32_t parts[UNICODE_DECOMPOSED_CHARS];
    int32_t count = unicode_decompose(code, parts);
    for (int32_t i = 0; i < count; i++)
        add_part(s, parts[i]);
}

/* Reads characters until at least one comes out; false at the end of the text. */
static bool refill_queue(struct word_split *s)
{
    s->queue_count = 0;
    s->queue_next = 0;
    while (s->queue_count == 0 && s->p < s->end) {
        struct utf8_char c = utf8_decode(s->p, s->end);
        s->p += c.bytes;
        s->replaced += c.malformed;
        if (s->flags.clean_text) {
            if (c.code == 0 || c.code == UTF8_REPLACEMENT || unicode_is_control(c.code))
                continue;
            if (unicode_is_space(c.code))
                c.code = ' ';
        }
        bool alone = s->flags.chinese_chars && unicode_is_chinese(c.code);
        if (alone)
            add_char(s, ' ');
        add_char(s, c.code);
        if (alone)
            add_char(s, ' ');
    }
    if (s->queue_count == 0)
        flush_run(s);
    return s->queue_count > 0;
}

static void append_char(struct word_split *s, uint32_t code)
{
    if (s->word_chars < WORD_SPLIT_CHARS)
        s->word_bytes += utf8_encode(s->word + s->word_bytes, code);
    s->word_chars++;
}

static bool is_ascii_letter_or_digit(unsigned char c)
{
    return (unsigned char)((c | 0x20) - 'a') < 26 || (unsigned char)(c - '0') < 10;
}

/* Takes letters and digits of ASCII as long as there are some: what most text consists of. */
static void append_ascii(struct word_split *s)
{
    const char *p = s->p;
    bool lower = s->flags.lowercase;
    for (; p < s->end && is_ascii_letter_or_digit((unsigned char)*p); p++) {
        if (s->word_chars++ < WORD_SPLIT_CHARS) {
            bool capital = (unsigned char)(*p - 'A') < 26;
            s->word[s->word_bytes++] = lower && capital ? (char)(*p | 0x20) : *p;
        }
    }
    s->p = p;
}

enum part { PART_INSIDE, PART_SPACE, PART_ALONE };

static enum part part_of(uint32_t code)
{
    if (unicode_is_space(code))
        return PART_SPACE;
    return unicode_is_punctuation(code) ? PART_ALONE : PART_INSIDE;
}

bool word_split_next(struct word_split *s)
{
    s->word_bytes = 0;
    s->word_chars = 0;
    for (;;) {
        if (s->queue_next == s->queue_count) {
            if (s->run_count == 0)
                append_ascii(s);
            if (!refill_queue(s))
                return s->word_chars > 0;
        }
        uint32_t code = s->queue[s->queue_next];
        enum part part = part_of(code);
        if (part != PART_INSIDE && s->word_chars > 0) {
            s->queue_next += part == PART_SPACE;
            return true;
        }
        s->queue_next++;
        if (part == PART_SPACE)
            continue;
        append_char(s, code);
        if (part == PART_ALONE)
            return true;
    }
}
