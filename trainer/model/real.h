/* real: the type of every number in the model; float in the program, double in derivative tests. */
#ifndef MT_MODEL_REAL_H
#define MT_MODEL_REAL_H

#if defined(MT_REAL_double)
typedef double real;
#else
typedef float real;
#endif

#endif
