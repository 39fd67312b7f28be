/* The manifest of packed shards of any bytes, alone and through the data set that it lists. */
#include "io/dataset.h"
#include "io/shard_manifest.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shard_manifest m = {0};
    struct dataset *d = NULL;
    const char *dir = fuzz_dir();
    (void)fuzz_file("shard-00000.h5", "not HDF5", 8);
    (void)fuzz_file("manifest.json", data, size);
    if (fuzz_ok(shard_manifest_read(&m, dir)))
        shard_manifest_release(&m);
    if (fuzz_ok(dataset_open(&d, "x", &dir, 1)))
        dataset_close(&d);
    return 0;
}
