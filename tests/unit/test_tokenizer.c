/* The tokenizer on a vocabulary small enough to read. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "io/tokenizer.h"

static const char *const tokens[] = {"[PAD]",
                                     "[UNK]",
                                     "[CLS]",
                                     "[SEP]",
                                     "[MASK]",
                                     "a",
                                     "b",
                                     "cafe",
                                     "un",
                                     "##able",
                                     "##a",
                                     "##ab",
                                     "A",
                                     "caf\xC3\xA9",
                                     "\xE4\xB8\xAD",
                                     "!",
                                     "mask",
                                     "[",
                                     "]",
                                     "i\xCC\x87",
                                     "\xE2\x80\x94",
                                     "stra\xC3\x9F"
                                     "e",
                                     "x"};
enum { COUNT = sizeof tokens / sizeof tokens[0] };

static struct vocab vocab[2]; /* cased, lower */
static struct tokenizer *tokenizer[2];

static int begin(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        if (vocab_create(&vocab[i], tokens, COUNT, vocab_flags_default(i == 1), "test") != MT_OK ||
            tokenizer_create(&tokenizer[i], &vocab[i], NULL) != MT_OK)
            return 1;
    return 0;
}

static int end(void **state)
{
    (void)state;
    struct mt_memory_stats s;
    for (int i = 0; i < 2; i++) {
        tokenizer_destroy(&tokenizer[i]);
        vocab_close(&vocab[i]);
    }
    mt_memory_stats(&s);
    return s.live_blocks != 0;
}

/* Encodes and asserts the tokens, written with spaces between. */
static struct encoding expect(int lower, const char *text, const char *pair, int32_t max,
                              const char *expected)
{
    struct encoding e;
    assert_int_equal(tokenizer_encode(tokenizer[lower], text, (int64_t)strlen(text), pair,
                                      pair != NULL ? (int64_t)strlen(pair) : 0, max, &e),
                     MT_OK);
    char got[4096] = "";
    for (int32_t i = 0; i < e.count; i++) {
        strcat(got, i > 0 ? " " : "");
        strcat(got, vocab_token(&vocab[lower], e.ids[i]));
    }
    assert_string_equal(got, expected);
    return e;
}

static void words_are_cut_into_the_longest_pieces_from_the_left(void **state)
{
    (void)state;
    expect(1, "unable", NULL, 0, "[CLS] un ##able [SEP]");
    expect(1, "unab a", NULL, 0, "[CLS] un ##ab a [SEP]");
    expect(1, "unaab", NULL, 0, "[CLS] un ##a ##ab [SEP]");
    struct encoding e = expect(1, "unabx b", NULL, 0, "[CLS] [UNK] b [SEP]");
    assert_int_equal(e.unknown, 1);
    expect(1, "", NULL, 0, "[CLS] [SEP]");
    expect(1, " \t\r ", NULL, 0, "[CLS] [SEP]");
}

static void lower_case_strips_accents_and_cased_keeps_them(void **state)
{
    (void)state;
    expect(1, "CAF\xC3\x89 cafe\xCC\x81", NULL, 0, "[CLS] cafe cafe [SEP]");
    expect(0, "caf\xC3\xA9 A a", NULL, 0, "[CLS] caf\xC3\xA9 A a [SEP]");
    expect(0, "CAFE cafe\xCC\x81", NULL, 0, "[CLS] [UNK] [UNK] [SEP]");
    expect(1,
           "STRA\xE1\xBA\x9E"
           "E",
           NULL, 0,
           "[CLS] stra\xC3\x9F"
           "e [SEP]");
    struct vocab_flags flags = vocab_flags_default(true);
    flags.strip_accents = false;
    struct tokenizer *t = NULL;
    struct encoding e;
    assert_int_equal(tokenizer_create(&t, &vocab[1], &flags), MT_OK);
    assert_int_equal(tokenizer_encode(t, "\xC4\xB0", 2, NULL, 0, 0, &e), MT_OK);
    assert_string_equal(vocab_token(&vocab[1], e.ids[1]), "i\xCC\x87");
    assert_true(tokenizer_hash(t) != vocab_hash(&vocab[1]));
    assert_true(tokenizer_hash(tokenizer[1]) == vocab_hash(&vocab[1]));
    tokenizer_destroy(&t);
}

static void punctuation_and_ideographs_stand_alone(void **state)
{
    (void)state;
    expect(1, "a!b!!", NULL, 0, "[CLS] a ! b ! ! [SEP]");
    expect(1,
           "a\xE2\x80\x94"
           "b",
           NULL, 0, "[CLS] a \xE2\x80\x94 b [SEP]");
    expect(1,
           "a\xE4\xB8\xAD\xE4\xB8\xAD"
           "b",
           NULL, 0, "[CLS] a \xE4\xB8\xAD \xE4\xB8\xAD b [SEP]");
    expect(1, "a[mask]", NULL, 0, "[CLS] a [ mask ] [SEP]");
}

static void control_characters_vanish_and_every_space_parts(void **state)
{
    (void)state;
    expect(1,
           "un\x01"
           "able",
           NULL, 0, "[CLS] un ##able [SEP]");
    expect(1,
           "un\xC2\xAD"
           "able\xE2\x80\x8B",
           NULL, 0, "[CLS] un ##able [SEP]");
    expect(1,
           "a\xE3\x80\x80"
           "b\xC2\xA0"
           "a",
           NULL, 0, "[CLS] a b a [SEP]");
    expect(1,
           "un\x0B"
           "able",
           NULL, 0, "[CLS] un ##able [SEP]");
    struct encoding e;
    assert_int_equal(tokenizer_encode(tokenizer[1], "a\0b", 3, NULL, 0, 0, &e), MT_OK);
    assert_int_equal(e.count, 3);
}

static void malformed_bytes_vanish_and_are_counted(void **state)
{
    (void)state;
    struct encoding e = expect(1,
                               "un\xFF"
                               "able a\xE2\x82",
                               NULL, 0, "[CLS] un ##able a [SEP]");
    assert_int_equal(e.replaced, 2);
    e = expect(1,
               "un\xEF\xBF\xBD"
               "able",
               NULL, 0, "[CLS] un ##able [SEP]");
    assert_int_equal(e.replaced, 0);
}

static void a_word_of_101_characters_is_unknown(void **state)
{
    (void)state;
    char text[512], pieces[1024];
    memset(text, 'a', sizeof text);
    text[100] = '\0';
    strcpy(pieces, "[CLS] a");
    for (int i = 0; i < 99; i++)
        strcat(pieces, " ##a");
    strcat(pieces, " [SEP]");
    expect(1, text, NULL, 0, pieces);
    text[100] = 'a';
    text[101] = '\0';
    expect(1, text, NULL, 0, "[CLS] [UNK] [SEP]");
    for (int i = 0; i < 100; i++) /* 100 characters of 200 bytes are not too long */
        memcpy(text + 2 * i, "\xC3\xA0", 2);
    text[200] = '\0';
    expect(1, text, NULL, 0, pieces);
}

static void special_tokens_in_the_text_are_themselves(void **state)
{
    (void)state;
    struct encoding e = expect(1, "[MASK]a[SEP][UNK]", NULL, 0, "[CLS] [MASK] a [SEP] [UNK] [SEP]");
    assert_int_equal(e.unknown, 1);
    expect(1, "un[MASK]able", NULL, 0, "[CLS] un [MASK] [UNK] [SEP]");
    expect(1, "[[MASK]]", NULL, 0, "[CLS] [ [MASK] ] [SEP]");
    expect(1, "[MASK", NULL, 0, "[CLS] [ mask [SEP]");
    expect(0, "[ MASK]", NULL, 0, "[CLS] [ [UNK] ] [SEP]");
}

static void a_pair_has_types_0_and_1(void **state)
{
    (void)state;
    struct encoding e = expect(1, "a b", "b", 0, "[CLS] a b [SEP] b [SEP]");
    const int32_t types[] = {0, 0, 0, 0, 1, 1};
    assert_memory_equal(e.types, types, sizeof types);
    expect(1, "", "", 0, "[CLS] [SEP] [SEP]");
    e = expect(1, "a", "", 0, "[CLS] a [SEP] [SEP]");
    assert_int_equal(e.types[3], 1);
}

static void a_pair_is_cut_longest_first(void **state)
{
    (void)state;
    static const struct {
        int n1, n2, limit, kept1, kept2;
    } cases[] = {
        {0, 0, 7, 0, 0}, {0, 2, 7, 0, 2},   {0, 4, 7, 0, 4},   {0, 8, 7, 0, 7}, {2, 0, 7, 2, 0},
        {2, 2, 7, 2, 2}, {2, 4, 7, 2, 4},   {2, 8, 7, 2, 5},   {4, 0, 7, 4, 0}, {4, 2, 7, 4, 2},
        {4, 4, 7, 3, 4}, {4, 8, 7, 3, 4},   {8, 0, 7, 7, 0},   {8, 2, 7, 5, 2}, {8, 4, 7, 4, 3},
        {8, 8, 7, 3, 4}, {8, 9, 0, 0, 0},   {0, 9, 0, 0, 0},   {9, 9, 1, 0, 1}, {9, 8, 1, 0, 1},
        {5, 2, 4, 2, 2}, {90, 60, 7, 3, 4}, {60, 90, 7, 3, 4}, {3, 3, 6, 3, 3},
    };
    char text[256], pair[256];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        text[0] = pair[0] = '\0';
        for (int k = 0; k < cases[i].n1; k++)
            strcat(text, "a ");
        for (int k = 0; k < cases[i].n2; k++)
            strcat(pair, "b ");
        struct encoding e;
        assert_int_equal(tokenizer_encode(tokenizer[1], text, (int64_t)strlen(text), pair,
                                          (int64_t)strlen(pair), cases[i].limit + 3, &e),
                         MT_OK);
        int kept1 = 0, kept2 = 0;
        for (int32_t k = 0; k < e.count; k++) {
            kept1 += e.ids[k] == 5;
            kept2 += e.ids[k] == 6;
        }
        assert_int_equal(kept1, cases[i].kept1);
        assert_int_equal(kept2, cases[i].kept2);
        assert_int_equal(e.full_count, cases[i].n1 + cases[i].n2 + 3);
        assert_int_equal(e.truncated, e.count < e.full_count);
    }
}

/* Both parts are too long and the odd id goes to the longer; how long a part is shows at the end of
 * the word with which it reaches the limit of the whole. */
static void which_part_is_longer_is_seen_where_the_reference_stops(void **state)
{
    (void)state;
    char text[64] = "";
    for (int i = 0; i < 9; i++)
        strcat(text, "a ");
    const char *odd = "[CLS] a a a [SEP] b b b b [SEP]", *even = "[CLS] a a a a [SEP] b b b [SEP]";
    expect(1, "a a a a a a a a a a a a", "b b b b b b b b b b b", 10, odd);
    strcat(text, "unable");
    expect(1, text, "b b b b b b b b b b b b b", 10, even);
    expect(1, "a a a a a a a a a a [MASK][MASK][MASK]", "b b b b b b b b b b", 10, odd);
    expect(1, "a a a a a a a a a [MASK][MASK][MASK]", "b b b b b b b b b b", 10, even);
}

static void a_single_text_is_cut_at_its_end(void **state)
{
    (void)state;
    struct encoding e = expect(1, "a b a b a", NULL, 5, "[CLS] a b a [SEP]");
    assert_true(e.truncated && e.full_count == 7);
    e = expect(1, "a b a", NULL, 5, "[CLS] a b a [SEP]");
    assert_false(e.truncated);
    assert_int_equal(tokenizer_encode(tokenizer[1], "a", 1, NULL, 0, 2, &e), MT_ARG);
    assert_int_equal(tokenizer_encode(tokenizer[1], "a", 1, NULL, 0, -1, &e), MT_ARG);
}

static void nothing_is_allocated_after_the_first_encode(void **state)
{
    (void)state;
    static char text[200000];
    struct mt_memory_stats before, after;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 2 ? ' ' : 'a';
    expect(1, "a", "b", 64, "[CLS] a [SEP] b [SEP]");
    mt_memory_stats(&before);
    struct encoding e;
    assert_int_equal(tokenizer_encode(tokenizer[1], text, sizeof text, text, sizeof text, 64, &e),
                     MT_OK);
    assert_int_equal(e.count, 64);
    assert_int_equal(e.full_count, sizeof text + 3);
    mt_memory_stats(&after);
    assert_int_equal(after.allocations, before.allocations);
}

static void random_bytes_never_harm(void **state)
{
    (void)state;
    static const char *const bits[] = {"[MASK]",           "[",           "a", "\xCC\x81",
                                       "\xE1\xB9\xA9",     " ",           "!", "\xE3\x80",
                                       "\xF0\x9D\x85\xA5", "\xEA\xB0\x81"};
    char text[600];
    uint64_t key = rng_key(7, RNG_TEST, 0);
    for (uint32_t round = 0; round < 20000; round++) {
        size_t n = 0;
        for (uint32_t i = 0; n < 500 && i < 200; i++) {
            struct rng_block b = rng_philox(key, round, i, 0, 0);
            uint32_t kind = round % 4 == 0 ? 8 : b.v[0] % 14;
            if (kind >= 10) {
                text[n++] = (char)b.v[1];
            } else {
                memcpy(text + n, bits[kind], strlen(bits[kind]));
                n += strlen(bits[kind]);
            }
        }
        char *exact = malloc(n); /* so that a sanitizer sees one byte too far */
        memcpy(exact, text, n);
        struct encoding e;
        assert_int_equal(tokenizer_encode(tokenizer[round & 1], exact, (int64_t)(n / 2),
                                          exact + n / 2, (int64_t)(n - n / 2), 32, &e),
                         MT_OK);
        assert_true(e.count >= 3 && e.count <= 32);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_cut_into_the_longest_pieces_from_the_left),
        cmocka_unit_test(lower_case_strips_accents_and_cased_keeps_them),
        cmocka_unit_test(punctuation_and_ideographs_stand_alone),
        cmocka_unit_test(control_characters_vanish_and_every_space_parts),
        cmocka_unit_test(malformed_bytes_vanish_and_are_counted),
        cmocka_unit_test(a_word_of_101_characters_is_unknown),
        cmocka_unit_test(special_tokens_in_the_text_are_themselves),
        cmocka_unit_test(a_pair_has_types_0_and_1),
        cmocka_unit_test(a_pair_is_cut_longest_first),
        cmocka_unit_test(which_part_is_longer_is_seen_where_the_reference_stops),
        cmocka_unit_test(a_single_text_is_cut_at_its_end),
        cmocka_unit_test(nothing_is_allocated_after_the_first_encode),
        cmocka_unit_test(random_bytes_never_harm),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
