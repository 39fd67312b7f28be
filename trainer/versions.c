/* See versions.h. */
#include "trainer/versions.h"

#include "comm/base/processor.h"
#include "comm/world.h"
#include "io/libraries.h"
#include "trainer/model/gemm.h"

void versions_print(FILE *out)
{
    const char *why;
    fprintf(out, "mttrain   %s\n", MT_VERSION);
    fprintf(out, "MPI       %s\n", comm_library_version());
    fprintf(out, "HDF5      %s\n", io_hdf5_version());
    fprintf(out, "utf8proc  %s\n", io_utf8proc_version());
    fprintf(out, "jansson   %s\n", io_jansson_version());
    fprintf(out, "products  %s\n", gemm_description());
    fprintf(out, "bf16      %s\n", gemm_has_bf16(&why) ? gemm_chosen_bf16() : why);
    fprintf(out, "features  %s\n", processor_features());
}
