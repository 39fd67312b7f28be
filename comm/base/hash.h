/*
 * hash: XXH64, streaming and in one call.
 *
 * Source: the xxHash specification, XXH64 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md); a
 * file's hash is what `xxhsum -H1 FILE` prints.  Guards against accidents, not against forgers.
 */
#ifndef MT_BASE_HASH_H
#define MT_BASE_HASH_H

#include "comm/base/status.h"

struct hash64 {
    uint64_t acc[4];
    uint64_t total_bytes;
    uint64_t seed;
    unsigned char tail[32];
    uint32_t tail_bytes;
};

enum { HASH_TEXT_BYTES = 17 }; /* 16 hexadecimal digits and the NUL */

void hash64_init(struct hash64 *h, uint64_t seed);
void hash64_add(struct hash64 *h, const void *bytes, int64_t count);
void hash64_add_string(struct hash64 *h, const char *text); /* with its NUL: "ab","c" != "a","bc" */
void hash64_add_int(struct hash64 *h, int64_t value);       /* as 8 little-endian bytes */
uint64_t hash64_value(const struct hash64 *h);
uint64_t hash64_of(const void *bytes, int64_t count);

void hash64_format(char text[HASH_TEXT_BYTES], uint64_t value);
bool hash64_parse(uint64_t *value, const char *text); /* false unless exactly 16 hex digits */

#endif
