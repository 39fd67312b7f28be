/* versions: what this program is made of and runs on. */
#ifndef MT_TRAINER_VERSIONS_H
#define MT_TRAINER_VERSIONS_H

#include <stdio.h>

/* Local.  mttrain, MPI, HDF5, BLAS, oneDNN and the processor features in use, a line each. */
void versions_print(FILE *out);

#endif
