/* The kernels of attention for any machine, and in double. */
#include "trainer/model/attention_body.h"

const struct attention_kernels *attention_kernels_plain(void)
{
    static const struct attention_kernels kernels = {"plain", head_forward, head_backward};
    return &kernels;
}
