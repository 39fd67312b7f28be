/* Products on AVX2; see gemm_blocks.h. */
#include "trainer/model/gemm_native.h"

#if defined(__x86_64__)

#include "trainer/model/gemm_lanes_avx2.h"
/* before what stands on it */
#include "trainer/model/gemm_blocks.h"

LANES_TARGET void gemm_avx2(const struct gemm_product *p, int64_t count)
{
    multiply(p, count);
}

#else

void gemm_avx2(const struct gemm_product *p, int64_t count)
{
    (void)p, (void)count;
    __builtin_trap();
}

#endif
