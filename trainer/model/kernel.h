/*
 * kernel: loops that one binary runs with the widest vectors of the processor at hand.
 *
 * Where the compiler may not use AVX2 anyway (the portable preset), a function marked KERNEL is
 * compiled three times and the loader picks one.  Its bits do not depend on which: no clone
 * contracts a product and a sum, and sums of rows run in lanes of a fixed number (vector_math.h).
 */
#ifndef MT_MODEL_KERNEL_H
#define MT_MODEL_KERNEL_H

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && !defined(__AVX2__) &&  \
    !defined(__SANITIZE_ADDRESS__) && !defined(MT_REAL_double)
#define KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KERNEL
#endif

#endif
