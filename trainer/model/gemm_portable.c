/* Products in plain C; see gemm_blocks.h. */
#include "trainer/model/gemm_lanes_portable.h"
/* before what stands on it */
#include "trainer/model/gemm_blocks.h"

void gemm_portable(const struct gemm_product *p, int64_t count)
{
    multiply(p, count);
}
