/* vocab.txt, or tokenizer.json and tokenizer_config.json (parted by a byte 0), of any bytes; what
 * opens also encodes a text. */
#include <string.h>
#include <unistd.h>

#include "io/tokenizer.h"
#include "tests/fuzz/fuzz_file.h"

static void encode(const struct vocab *v)
{
    static const char text[] = "The caf\xc3\xa9 [MASK] runs, un-affable \xe4\xb8\xad!";
    struct tokenizer *t = NULL;
    struct encoding e;
    if (!fuzz_ok(tokenizer_create(&t, v, NULL)))
        return;
    if (fuzz_ok(tokenizer_encode(t, text, (int64_t)strlen(text), text, 9, 16, &e)))
        for (int32_t i = 0; i < e.count; i++)
            fuzz_claim(e.ids[i] >= 0 && e.ids[i] < v->count, "ids are in the vocabulary");
    tokenizer_destroy(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes b = {data, data + size};
    struct vocab v;
    char path[512];
    bool json = fuzz_byte(&b) % 2 == 1;
    size_t n = json ? fuzz_upto(&b, 0) : fuzz_rest(&b);
    (void)strncpy(path, fuzz_file(json ? "tokenizer.json" : "vocab.txt", b.at, n), sizeof path - 1);
    path[sizeof path - 1] = '\0';
    const char *config = NULL;
    if (n < fuzz_rest(&b))
        config = fuzz_file("tokenizer_config.json", b.at + n + 1, fuzz_rest(&b) - n - 1);
    if (fuzz_ok(vocab_open(&v, path, VOCAB_CASE_AUTO))) {
        for (int32_t i = 0; i < v.count && i < 100; i++)
            fuzz_claim(strlen(vocab_token(&v, i)) <= (size_t)v.longest_bytes, "lengths are known");
        (void)vocab_hash(&v);
        encode(&v);
        vocab_close(&v);
    }
    (void)unlink(path);
    if (config != NULL)
        (void)unlink(config);
    return 0;
}
