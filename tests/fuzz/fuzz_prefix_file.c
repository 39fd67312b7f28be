/* A cache file of any bytes under a layout of three blocks: opened, its blocks checked and read. */
#include "io/prefix_file.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t first[] = {0, 4, 8, 12};
    struct prefix_layout layout = {.key = 7, .elements = 12, .blocks = 3, .first = first};
    struct prefix_file *f = NULL;
    float x[12];
    if (size == 0)
        return 0;
    layout.bf16 = data[0] & 1;
    if (!fuzz_ok(
            prefix_file_open(&f, fuzz_file("x.bin", data + 1, size - 1), &layout, data[0] & 2)))
        return 0;
    for (int64_t b = 0; b < 3; b++)
        if (prefix_file_check_block(f, b))
            prefix_file_read(f, first[b], 4, x);
    prefix_file_close(&f);
    return 0;
}
