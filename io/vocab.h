/*
 * vocab: the tokens of a WordPiece vocabulary by id, ids by token, and the switches of the text
 * normaliser that belong to it.
 *
 * Read from a Hugging Face folder or from one file of it:
 *   - a folder: vocab.txt, or else the model of tokenizer.json;
 *   - a file ending in .json: tokenizer.json; any other file: vocab.txt, a token a line, the id is
 *     the line number counted from 0, LF or CRLF, an empty line is a token that nothing matches.
 * Switches: those the caller asks for, else tokenizer_config.json beside it, else tokenizer.json
 * beside it, else Hugging Face's defaults (lower case, accents follow the case, Chinese characters
 * stand alone).
 *
 *     struct vocab v;
 *     MT_TRY(vocab_open(&v, "models/bert", VOCAB_CASE_AUTO));
 *     int32_t id = vocab_find(&v, "##ing", 5);            // -1 = not there
 *     vocab_close(&v);
 *
 * Invariants after vocab_open: unk, cls and sep are ids; pad and mask are ids or -1; every id is
 * below count.  Read-only from then on, so threads may share it.
 */
#ifndef MT_IO_VOCAB_H
#define MT_IO_VOCAB_H

#include "comm/base/hash.h"
#include "comm/base/status.h"

enum {
    VOCAB_MAX_TOKENS = 4000000,
    VOCAB_MAX_BYTES = 100 << 20,     /* of vocab.txt */
    VOCAB_MAX_JSON_BYTES = 64 << 20, /* of tokenizer.json, whose parse tree is far larger */
    VOCAB_ADDED_CAPACITY = 256
};

enum vocab_case {
    VOCAB_CASE_AUTO, /* as the files beside the vocabulary say */
    VOCAB_CASE_LOWER,
    VOCAB_CASE_CASED
};

/* What the normaliser does to text before it is cut into words. */
struct vocab_flags {
    bool clean_text;    /* control characters go, white space becomes U+0020 */
    bool chinese_chars; /* CJK ideographs are words of their own */
    bool strip_accents; /* canonical decomposition without its nonspacing marks */
    bool lowercase;
};

struct vocab_slot {
    uint32_t check; /* upper half of the hash */
    int32_t id;     /* -1 = free */
};

struct vocab {
    int32_t count; /* V, ids are 0..count-1 */
    int32_t pad, unk, cls, sep, mask;
    struct vocab_flags flags;
    int64_t duplicates; /* lines whose token stands again later; the last id is the one found */
    int64_t
        max_length_tokens; /* model_max_length of tokenizer_config.json; 0 = absent, unlimited */
    int32_t longest_bytes; /* of any token, "##" included */

    /* Matched in text before it is normalised, longest first where two begin alike: the five
     * above that exist and the added tokens of tokenizer.json or tokenizer_config.json. */
    int32_t added[VOCAB_ADDED_CAPACITY];
    int32_t added_count;

    char *text;              /* every token followed by a NUL, in order of id */
    int64_t *offset;         /* [count+1] into text */
    struct vocab_slot *slot; /* [slot_count] open addressing */
    int64_t slot_count;      /* a power of two */
};

/* Local.  Opens a folder or file as said above; a case other than AUTO sets lowercase, and
 * strip_accents too unless a file beside the vocabulary says otherwise.
 * Owns: v until vocab_close.  Errors: IO (cannot read), DATA (no [UNK], [CLS] or [SEP], not a
 * WordPiece model, past the limits above, ids with holes), NOMEM; all name the file. */
mt_status vocab_open(struct vocab *v, const char *path, enum vocab_case letter_case) MT_CHECKED;

/* Local.  A vocabulary of the given tokens (NUL-terminated, copied), ids in order.
 * `where` begins error messages.  Errors: DATA, NOMEM. */
mt_status vocab_create(struct vocab *v, const char *const *tokens, int64_t count,
                       struct vocab_flags flags, const char *where) MT_CHECKED;

/* Local.  Accepts a zeroed vocab. */
void vocab_close(struct vocab *v);

/* Local.  Hugging Face's defaults for a model that lowers case or keeps it. */
struct vocab_flags vocab_flags_default(bool lowercase);

/* Local.  Id of the token of n bytes, or -1. */
int32_t vocab_find(const struct vocab *v, const char *bytes, int64_t n_bytes);

/* Local.  The token's bytes, NUL-terminated, borrowed from v; "" outside 0..count-1. */
const char *vocab_token(const struct vocab *v, int32_t id);

/* Local.  A hash of all tokens in order, the flags and the added tokens: two vocabularies turn
 * every text into the same ids iff it is equal. */
uint64_t vocab_hash(const struct vocab *v);

/* Local.  Writes vocab.txt, under a temporary name until it is whole and on the disk.
 * Errors: IO; DATA where a token holds a line end. */
mt_status vocab_write(const struct vocab *v, const char *path) MT_CHECKED;

/* The hash behind vocab_find, a byte at a time, so that the hashes of all prefixes of a word cost
 * one pass: h = VOCAB_HASH_EMPTY; h = vocab_hash_step(h, byte) ...; FNV-1a, 64 bit. */
#define VOCAB_HASH_EMPTY UINT64_C(0xcbf29ce484222325)
static inline uint64_t vocab_hash_step(uint64_t h, char byte)
{
    return (h ^ (unsigned char)byte) * UINT64_C(0x100000001b3);
}

/* Local.  vocab_find of "prefix" followed by n bytes, whose hash the caller has; prefix is "" or
 * "##". */
int32_t vocab_find_hashed(const struct vocab *v, uint64_t hash, const char *prefix,
                          const char *bytes, int64_t n_bytes);

#endif
