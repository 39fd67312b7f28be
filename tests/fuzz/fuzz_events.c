/* metrics.jsonl of any bytes: opened for appending, cut back to a step, made into a report. */
#include "io/jsonl.h"
#include "io/report.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jsonl *log = NULL;
    int64_t dropped;
    const char *path = fuzz_file("metrics.jsonl", data, size);
    (void)fuzz_ok(report_write(fuzz_dir()));
    (void)fuzz_ok(jsonl_truncate_after(path, 3, &dropped));
    if (fuzz_ok(jsonl_open(&log, path))) {
        json_write_int(jsonl_begin(log, "step"), "step", 4);
        (void)fuzz_ok(jsonl_end(log));
        jsonl_close(&log);
    }
    (void)fuzz_ok(report_write(fuzz_dir()));
    return 0;
}
