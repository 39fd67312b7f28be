/*
 * peak: how fast one core multiplies and adds, and how fast it moves memory, at the very most.
 *
 * Loops of independent multiply-adds in registers, for the widest vectors that the processor has
 * and for its matrix unit.
 */
#ifndef MT_MODEL_PEAK_H
#define MT_MODEL_PEAK_H

#include <stdint.h>

/* Local.  float operations per second of fused multiply-adds (or of separate ones where there are
 * none), over about `seconds`; the best of windows of a tenth of a second, or of four
 * shorter ones. */
double peak_float(double seconds);

/* Local.  The same of bf16 products with float sums by vectors (vdpbf16ps) and by the matrix unit
 * (AMX's tdpbf16ps); 0 where there is none. */
double peak_bf16_vectors(double seconds);
double peak_bf16_unit(double seconds);

/* Local.  Bytes per second read and written by copying `bytes` from one buffer to the other. */
double peak_copy(char *to, const char *from, int64_t bytes, double seconds);

#endif
