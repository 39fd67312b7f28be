/* processor: what the machine at hand can do, asked at run time. */
#ifndef MT_BASE_PROCESSOR_H
#define MT_BASE_PROCESSOR_H

/* Local.  "avx2 fma avx512f avx512_bf16 ...": the features that matter to the kernels; static. */
const char *processor_features(void);

#endif
