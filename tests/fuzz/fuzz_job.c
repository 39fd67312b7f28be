/* A job file of any bytes, read with an override, expanded, printed, and what was printed read
 * again to the same values. */
#include <string.h>

#include "comm/base/memory.h"
#include "jobs/job.h"
#include "schedules/config.h"
#include "tests/fuzz/fuzz_file.h"

static void use(struct job *job, const char *bundle)
{
    char *text = NULL;
    struct job again;
    uint64_t before = 0, after = 1;
    (void)bundle;
    (void)fuzz_ok(schedule_expand(&job->schedule, 4));
    if (!fuzz_ok(job_print(job, &text)))
        return;
    fuzz_claim(fuzz_ok(job_hash(job, OPTION_HARMLESS, &before)), "a job has a hash");
    mt_status st = job_load(&again, text, NULL, 0);
    if (st == MT_OK) {
        fuzz_claim(fuzz_ok(job_hash(&again, OPTION_HARMLESS, &after)), "a job has a hash");
        job_release(&again);
        fuzz_claim(before == after, "what is printed loads to the same values");
    } else {
        fuzz_claim(fuzz_ok(st), "what is printed loads");
    }
    mt_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes b = {data, data + size};
    static char override[512];
    const char *overrides[] = {override};
    struct job job;
    char *bundle = NULL;
    size_t n = fuzz_upto(&b, 0), rest = 0;
    const char *path = fuzz_file("x.cfg", b.at, n);
    if (n < fuzz_rest(&b)) {
        rest = fuzz_rest(&b) - n - 1;
        rest = rest < sizeof override - 1 ? rest : sizeof override - 1;
        memcpy(override, b.at + n + 1, rest);
    }
    override[rest] = '\0';
    if (!fuzz_ok(config_bundle_read(&bundle, path)))
        return 0;
    if (fuzz_ok(job_load(&job, bundle, overrides, rest > 0))) {
        use(&job, bundle);
        job_release(&job);
    }
    mt_free(&bundle);
    return 0;
}
