/*
 * gemm_split: float products by the processor's matrix unit (AMX), which multiplies bf16.
 *
 * A float's 24 bits are those of three bf16, exactly: x = x1 + x2 + x3, each the rest rounded to
 * its upper half (ties away from zero).  Of the nine products of the parts of two floats the six
 * largest are made; the others come to at most 2^-22 of the product, to 2^-26 as a rule.  Each is
 * exact in the unit, and 32 of them meet before they are rounded into a sum, so that errors are
 * smaller than those of a chain of multiply-adds (tests/unit/test_gemm_split.c compares both with
 * double).
 *
 * Bits: a sum begins with +0, with its column's bias or, where the product is added, with the
 * element.  For 32 of k at a time six terms are added to it in turn, the products of parts
 * (2,2) (1,2) (1,3) (1,1) (2,1) (3,1) of a and b, each as Intel's manual defines TDPBF16PS.  So an
 * element depends on its row of a, its column of b and k alone.
 *
 * Limits: parts below 2^-126 count as zero, so that numbers below 2^-110 lose bits; numbers of more
 * than 3.39e38 and infinities give NaN.
 *
 * Source: Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
 * Higher-Precision Computations" (2019), arXiv:1904.06376.
 */
#ifndef MT_MODEL_GEMM_SPLIT_H
#define MT_MODEL_GEMM_SPLIT_H

#include <stdint.h>

#include "trainer/model/gemm_native.h"

/* Local.  Any thread.  As gemm_native; only where gemm_amx_has().  Packs in the thread's
 * workspace.h. */
void gemm_split(const struct gemm_product *p, int64_t count);

#endif
