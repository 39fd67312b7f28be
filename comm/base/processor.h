/* processor: what the machine at hand can do, asked at run time. */
#ifndef MT_BASE_PROCESSOR_H
#define MT_BASE_PROCESSOR_H

#include <stdbool.h>

/* Local.  "avx2 fma avx512f avx512_bf16 ...": the features that matter to the kernels; static. */
const char *processor_features(void);

/* Local.  Whether the processor multiplies tiles of bf16 (AMX) and the system lets this process do
 * so: Linux gives the tiles' registers only to whoever asks, as the first call does. */
bool processor_allows_amx(void);

/* Local.  From here on numbers below 2^-126 count as zero in this thread and in all that it starts:
 * gradients that fade out would otherwise cost a hundred cycles an operation.  The same on every
 * rank, so it is part of the bits; PyTorch calls it set_flush_denormal. */
void processor_flush_denormals(void);

#endif
