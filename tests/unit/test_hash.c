/* Known answers: what xxhsum -H1 and the python-xxhash package print. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/hash.h"

static uint64_t seeded(const char *text, uint64_t seed)
{
    struct hash64 h;
    hash64_init(&h, seed);
    hash64_add(&h, text, (int64_t)strlen(text));
    return hash64_value(&h);
}

static void published_answers_come_out(void **state)
{
    (void)state;
    assert_true(seeded("", 0) == 0xef46db3751d8e999);
    assert_true(seeded("a", 0) == 0xd24ec4f1a98c6e5b);
    assert_true(seeded("abc", 0) == 0x44bc2cf5ad770999);
    assert_true(seeded("xxhash", 20141025) == 13067679811253438005u);
    assert_true(seeded("Nobody inspects the spammish repetition", 0) == 0xfbcea83c8a378bf1);
}

static void pieces_hash_like_the_whole(void **state)
{
    (void)state;
    unsigned char bytes[301];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37 + i / 7);
    for (int64_t length = 0; length <= (int64_t)sizeof bytes; length += 7) {
        for (int64_t piece = 1; piece <= 65; piece += 3) {
            struct hash64 h;
            hash64_init(&h, 0);
            for (int64_t at = 0; at < length; at += piece)
                hash64_add(&h, bytes + at, piece < length - at ? piece : length - at);
            assert_true(hash64_value(&h) == hash64_of(bytes, length));
        }
    }
}

static void value_can_be_read_in_between(void **state)
{
    (void)state;
    struct hash64 h;
    hash64_init(&h, 0);
    hash64_add(&h, "ab", 2);
    assert_true(hash64_value(&h) == hash64_of("ab", 2));
    hash64_add(&h, "c", 1);
    assert_true(hash64_value(&h) == hash64_of("abc", 3));
}

static void strings_keep_their_borders(void **state)
{
    (void)state;
    struct hash64 a, b;
    hash64_init(&a, 0);
    hash64_init(&b, 0);
    hash64_add_string(&a, "ab");
    hash64_add_string(&a, "c");
    hash64_add_string(&b, "a");
    hash64_add_string(&b, "bc");
    assert_true(hash64_value(&a) != hash64_value(&b));
}

static void text_form_goes_there_and_back(void **state)
{
    (void)state;
    const uint64_t values[] = {0, 1, 0xef46db3751d8e999, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[HASH_TEXT_BYTES];
        uint64_t back = 5;
        hash64_format(text, values[i]);
        assert_int_equal(strlen(text), 16);
        assert_true(hash64_parse(&back, text));
        assert_true(back == values[i]);
    }
}

static void text_that_is_no_hash_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"",
                               "0",
                               "ef46db3751d8e99",
                               "ef46db3751d8e9999",
                               "EF46DB3751D8E999",
                               " f46db3751d8e999",
                               "ef46db3751d8e99g"};
    uint64_t value = 42;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(hash64_parse(&value, bad[i]));
    assert_true(value == 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_answers_come_out),
        cmocka_unit_test(pieces_hash_like_the_whole),
        cmocka_unit_test(value_can_be_read_in_between),
        cmocka_unit_test(strings_keep_their_borders),
        cmocka_unit_test(text_form_goes_there_and_back),
        cmocka_unit_test(text_that_is_no_hash_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
