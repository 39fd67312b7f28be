/* Any bytes as text and pair, under a small vocabulary, with and without a limit. */
#include "io/tokenizer.h"
#include "tests/fuzz/fuzz_file.h"

static const char *const TOKENS[] = {
    "[PAD]", "[UNK]", "[CLS]", "[SEP]",    "[MASK]",       "a",          "b", "##a", "##b",
    "the",   "##ing", "!",     "\xc3\xa9", "\xe4\xb8\xad", "##\xc3\xa9", "1"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vocab v;
    static struct tokenizer *t;
    struct encoding e;
    if (t == NULL) {
        (void)fuzz_dir();
        struct vocab_flags flags = vocab_flags_default(true);
        fuzz_claim(fuzz_ok(vocab_create(&v, TOKENS, sizeof TOKENS / sizeof *TOKENS, flags, "x")) &&
                       fuzz_ok(tokenizer_create(&t, &v, NULL)),
                   "the vocabulary is sound");
    }
    struct fuzz_bytes b = {data, data + size};
    int32_t limit = fuzz_byte(&b) % 40;
    const char *text = (const char *)b.at;
    int64_t first = (int64_t)fuzz_upto(&b, '\n'), all = (int64_t)fuzz_rest(&b);
    const char *pair = first < all ? text + first + 1 : NULL;
    if (fuzz_ok(tokenizer_encode(t, text, first, pair, pair != NULL ? all - first - 1 : 0,
                                 limit < 3 ? 0 : limit, &e))) {
        fuzz_claim(limit < 3 || e.count <= limit, "the limit holds");
        fuzz_claim(e.count >= 2 && e.count <= e.full_count, "counts agree");
        for (int32_t i = 0; i < e.count; i++)
            fuzz_claim(e.ids[i] >= 0 && e.ids[i] < v.count && e.types[i] >= 0 && e.types[i] <= 1,
                       "ids are in the vocabulary");
    }
    return 0;
}
