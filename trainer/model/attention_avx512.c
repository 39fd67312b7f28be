/* The kernels of attention for AVX-512; CMakeLists.txt gives this file the instructions. */
#include "trainer/model/vector.h"

#if defined(VECTOR_AVX512)

#include "trainer/model/attention_body.h"

const struct attention_kernels *attention_kernels_avx512(void)
{
    static const struct attention_kernels kernels = {"avx512", head_forward, head_backward};
    return &kernels;
}

#else

#include "trainer/model/attention_head.h"

const struct attention_kernels *attention_kernels_avx512(void)
{
    return NULL;
}

#endif
