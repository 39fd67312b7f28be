/* The kernels of attention for AVX2 and FMA; CMakeLists.txt gives this file the instructions. */
#include "trainer/model/vector.h"

#if defined(VECTOR_AVX2)

#include "trainer/model/attention_body.h"

const struct attention_kernels *attention_kernels_avx2(void)
{
    static const struct attention_kernels kernels = {"avx2", head_forward, head_backward};
    return &kernels;
}

#else

#include "trainer/model/attention_head.h"

const struct attention_kernels *attention_kernels_avx2(void)
{
    return NULL;
}

#endif
