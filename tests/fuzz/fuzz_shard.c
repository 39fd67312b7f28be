/* A shard file of any bytes: opened, every row read, hashed. */
#include "io/shard.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shard *s = NULL;
    if (!fuzz_ok(shard_open(&s, fuzz_file("x.h5", data, size))))
        return 0;
    static int32_t ids[1 << 16], types[1 << 16];
    const struct shard_info *info = shard_info_of(s);
    uint64_t hash;
    for (int64_t row = 0; row < shard_rows(s) && row < 1000; row++) {
        int32_t n = shard_length(s, row);
        fuzz_claim(n >= 1 && n <= SHARD_ROW_TOKENS_MAX, "row lengths are in range");
        for (int32_t t = 0; t < info->task_count; t++) {
            int32_t label = shard_label(s, t, row);
            fuzz_claim(label >= -1 && label < info->tasks[t].classes, "labels are in range");
        }
        if (n > 1 << 16 || !fuzz_ok(shard_read_rows(s, row, 1, ids, types)))
            continue;
        for (int32_t i = 0; i < n; i++)
            fuzz_claim(ids[i] >= 0 && ids[i] < info->vocab_size, "ids are in the vocabulary");
    }
    if (shard_rows(s) < 100000)
        (void)fuzz_ok(shard_content_hash(s, &hash));
    shard_close(&s);
    return 0;
}
