/* See hash.h.  Little-endian reads by memcpy: the machines that run this are little-endian. */
#include "comm/base/hash.h"

#include <stdio.h>
#include <string.h>

static const uint64_t P1 = 0x9E3779B185EBCA87u, P2 = 0xC2B2AE3D27D4EB4Fu, P3 = 0x165667B19E3779F9u,
                      P4 = 0x85EBCA77C2B2AE63u, P5 = 0x27D4EB2F165667C5u;

static uint64_t rotl(uint64_t x, int r)
{
    return (x << r) | (x >> (64 - r));
}

static uint64_t read64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t read32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t round64(uint64_t acc, uint64_t lane)
{
    return rotl(acc + lane * P2, 31) * P1;
}

static void stripe(uint64_t acc[4], const unsigned char *p)
{
    for (int i = 0; i < 4; i++)
        acc[i] = round64(acc[i], read64(p + 8 * i));
}

void hash64_init(struct hash64 *h, uint64_t seed)
{
    memset(h, 0, sizeof *h);
    h->seed = seed;
    h->acc[0] = seed + P1 + P2;
    h->acc[1] = seed + P2;
    h->acc[2] = seed;
    h->acc[3] = seed - P1;
}

void hash64_add(struct hash64 *h, const void *bytes, int64_t count)
{
    const unsigned char *p = bytes;
    size_t n = (size_t)count;
    if (n == 0)
        return;
    h->total_bytes += n;
    if (h->tail_bytes > 0) {
        size_t take = 32 - h->tail_bytes < n ? 32 - h->tail_bytes : n;
        memcpy(h->tail + h->tail_bytes, p, take);
        h->tail_bytes += (uint32_t)take;
        p += take;
        n -= take;
        if (h->tail_bytes < 32)
            return;
        stripe(h->acc, h->tail);
        h->tail_bytes = 0;
    }
    for (; n >= 32; n -= 32, p += 32)
        stripe(h->acc, p);
    if (n > 0)
        memcpy(h->tail, p, n);
    h->tail_bytes = (uint32_t)n;
}

void hash64_add_string(struct hash64 *h, const char *text)
{
    hash64_add(h, text, (int64_t)strlen(text) + 1);
}

void hash64_add_int(struct hash64 *h, int64_t value)
{
    hash64_add(h, &value, (int64_t)sizeof value);
}

uint64_t hash64_value(const struct hash64 *h)
{
    uint64_t x;
    if (h->total_bytes >= 32) {
        x = rotl(h->acc[0], 1) + rotl(h->acc[1], 7) + rotl(h->acc[2], 12) + rotl(h->acc[3], 18);
        for (int i = 0; i < 4; i++)
            x = (x ^ round64(0, h->acc[i])) * P1 + P4;
    } else {
        x = h->seed + P5;
    }
    x += h->total_bytes;
    const unsigned char *p = h->tail;
    uint32_t n = h->tail_bytes;
    for (; n >= 8; n -= 8, p += 8)
        x = rotl(x ^ round64(0, read64(p)), 27) * P1 + P4;
    if (n >= 4) {
        x = rotl(x ^ (read32(p) * P1), 23) * P2 + P3;
        p += 4;
        n -= 4;
    }
    for (; n > 0; n--, p++)
        x = rotl(x ^ (*p * P5), 11) * P1;
    x = (x ^ (x >> 33)) * P2;
    x = (x ^ (x >> 29)) * P3;
    return x ^ (x >> 32);
}

uint64_t hash64_of(const void *bytes, int64_t count)
{
    struct hash64 h;
    hash64_init(&h, 0);
    hash64_add(&h, bytes, count);
    return hash64_value(&h);
}

void hash64_format(char text[HASH_TEXT_BYTES], uint64_t value)
{
    (void)snprintf(text, HASH_TEXT_BYTES, "%016llx", (unsigned long long)value);
}

bool hash64_parse(uint64_t *value, const char *text)
{
    uint64_t v = 0;
    for (int i = 0; i < 16; i++) {
        char c = text[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    if (text[16] != '\0')
        return false;
    *value = v;
    return true;
}
