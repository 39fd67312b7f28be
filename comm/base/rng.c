/* See rng.h. */
#include "comm/base/rng.h"

#include <math.h>

struct rng_block rng_philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (struct rng_block){{c0, c1, c2, c3}};
}

uint64_t rng_key(uint64_t seed, enum rng_purpose purpose, uint64_t step)
{
    struct rng_block b =
        rng_philox(seed, (uint32_t)step, (uint32_t)(step >> 32), (uint32_t)purpose, 0x6d74u);
    return (uint64_t)b.v[1] << 32 | b.v[0];
}

double rng_uniform(uint32_t hi, uint32_t lo)
{
    uint64_t bits = ((uint64_t)hi << 32 | lo) >> 11;
    return (double)bits * 0x1.0p-53;
}

double rng_normal(uint64_t key, uint64_t stream, uint64_t i)
{
    struct rng_block b = rng_philox(key, (uint32_t)i, (uint32_t)(i >> 32), (uint32_t)stream,
                                    (uint32_t)(stream >> 32));
    double u = 1.0 - rng_uniform(b.v[0], b.v[1]); /* in (0,1] */
    double angle = 2.0 * 3.14159265358979323846 * rng_uniform(b.v[2], b.v[3]);
    return sqrt(-2.0 * log(u)) * cos(angle);
}

int64_t rng_permute(uint64_t key, int64_t n, int64_t i)
{
    int half_bits = 1;
    while (half_bits < 31 && ((int64_t)1 << (2 * half_bits)) < n)
        half_bits++;
    uint32_t mask = (uint32_t)(((uint64_t)1 << half_bits) - 1);
    uint64_t x = (uint64_t)i;
    do {
        uint32_t l = (uint32_t)(x >> half_bits) & mask, r = (uint32_t)x & mask;
        for (uint32_t round = 0; round < 4; round++) {
            uint32_t f = rng_philox(key, r, round, 0x5065726du, 0).v[0] & mask;
            uint32_t t = l ^ f;
            l = r;
            r = t;
        }
        x = (uint64_t)l << half_bits | r;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}
