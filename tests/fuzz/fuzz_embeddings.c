/* An embeddings file of any bytes, .npy or .h5 by its first byte: opened, all rows read. */
#include <stdlib.h>

#include "io/embeddings.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct embeddings *e = NULL;
    if (!fuzz_ok(embeddings_open(&e, fuzz_file(data[0] == 0x89 ? "x.h5" : "x.npy", data, size))))
        return 0;
    int64_t rows = embeddings_rows(e);
    int32_t dim = embeddings_dim(e);
    fuzz_claim(rows >= 0 && dim >= 0, "shapes are in range");
    if (dim > 0 && rows > 0 && dim < 1 << 20) {
        float *x = malloc((size_t)dim * sizeof *x);
        int32_t label;
        for (int64_t r = 0; x != NULL && r < rows && r < 100; r++) {
            (void)fuzz_ok(embeddings_read_rows(e, r, 1, x));
            for (int32_t t = 0; t < embeddings_task_count(e); t++)
                if (fuzz_ok(embeddings_read_labels(e, t, r, 1, &label)))
                    fuzz_claim(label >= -1, "labels are in range");
        }
        (void)fuzz_ok(embeddings_read_rows(e, rows, 1, x));
        free(x);
    }
    embeddings_close(&e);
    return 0;
}
