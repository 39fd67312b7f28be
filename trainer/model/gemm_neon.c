/* Products on NEON; see gemm_blocks.h. */
#include "trainer/model/gemm_native.h"

#if defined(__aarch64__)

#include "trainer/model/gemm_lanes_neon.h"
/* before what stands on it */
#include "trainer/model/gemm_blocks.h"

LANES_TARGET void gemm_neon(const struct gemm_product *p, int64_t count)
{
    multiply(p, count);
}

#else

void gemm_neon(const struct gemm_product *p, int64_t count)
{
    (void)p, (void)count;
    __builtin_trap();
}

#endif
