/* A safetensors file of any bytes: opened, every tensor read. */
#include <stdlib.h>

#include "io/safetensors.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *f = NULL;
    if (!fuzz_ok(safetensors_open(&f, fuzz_file("x.safetensors", data, size))))
        return 0;
    for (int32_t i = 0; i < safetensors_count(f); i++) {
        const struct safetensors_entry *e = safetensors_at(f, i);
        fuzz_claim(safetensors_find(f, e->name) == e, "every name is found");
        fuzz_claim(e->size_bytes >= 0 && e->size_bytes <= (int64_t)size, "tensors lie in the file");
        const unsigned char *bytes = safetensors_bytes(f, e);
        unsigned sum = 0;
        for (int64_t k = 0; k < e->size_bytes; k++)
            sum += bytes[k];
        float *copy = malloc((size_t)e->count * sizeof(float) + sum % 2);
        if (copy != NULL)
            (void)fuzz_ok(safetensors_copy_f32(f, e, copy));
        free(copy);
    }
    safetensors_close(&f);
    return 0;
}
