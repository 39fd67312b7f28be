/* Any text as a pattern, a duration and a metric. */
#include <math.h>
#include <string.h>

#include "schedules/duration.h"
#include "schedules/metric.h"
#include "schedules/pattern.h"
#include "tests/fuzz/fuzz_file.h"

static const char *const NAMES[] = {"embeddings.word_embeddings.weight",
                                    "encoder.layer.11.attention.output.LayerNorm.weight",
                                    "pooler.dense.bias", "heads.sentiment.weight"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[512], again[DURATION_TEXT_BYTES];
    struct duration d, e;
    struct metric m;
    (void)fuzz_dir();
    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    bool sound = fuzz_ok(pattern_check(text, "x"));
    for (int i = 0; i < 4; i++) {
        struct tensor t = {.ndim = 1, .shape = {1, 1}, .count = 1, .depth = i == 1 ? 12 : 0};
        (void)strncpy(t.name, NAMES[i], sizeof t.name - 1);
        bool hit = pattern_match(text, &t, 12);
        fuzz_claim(sound || !hit, "a pattern of wrong syntax means nothing");
    }
    (void)pattern_top(text, 12);
    if (duration_parse(&d, text)) {
        fuzz_claim(isfinite(d.amount) && d.amount >= 0.0, "durations are finite");
        duration_format(again, d);
        fuzz_claim(duration_parse(&e, again) && e.unit == d.unit && e.amount == d.amount,
                   "what is printed parses to the same");
    }
    (void)metric_parse(&m, text);
    return 0;
}
