/* The decoder against the cases of the Unicode Standard, and against a second reading of its
 * definition for random bytes. */
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/rng.h"
#include "io/utf8.h"

/* Decodes all of text into codes; answers how many. */
static int decode_all(const char *text, size_t n, uint32_t *codes)
{
    int count = 0;
    for (size_t at = 0; at < n;) {
        struct utf8_char c = utf8_decode(text + at, text + n);
        assert_true(c.bytes >= 1 && (size_t)c.bytes <= n - at);
        codes[count++] = c.code;
        at += (size_t)c.bytes;
    }
    return count;
}

static void every_scalar_value_survives_encoding(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        if (code >= 0xD800 && code < 0xE000)
            continue;
        char bytes[UTF8_MAX_BYTES];
        int32_t n = utf8_encode(bytes, code);
        struct utf8_char c = utf8_decode(bytes, bytes + n);
        assert_true(c.code == code && c.bytes == n && !c.malformed);
    }
}

static void malformed_bytes_become_one_replacement_per_maximal_subpart(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        uint32_t codes[12];
        int count;
    } cases[] = {
        /* Table 3-8 to 3-11 of the Unicode Standard */
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
         {0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 'A'},
         9},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41",
         {0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 'A'},
         9},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42",
         {0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 'A', 0xFFFD, 0xFFFD, 'B'},
         9},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", {0xFFFD, 0xFFFD, 0xFFFD, 0xFFFD, 'A'}, 5},
        {"\xE2\x82", {0xFFFD}, 1},
        {"a\xF0\x9F\x98", {'a', 0xFFFD}, 2},
        {"\xC3(", {0xFFFD, '('}, 2},
        {"\xEF\xBF\xBD", {0xFFFD}, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t codes[12];
        assert_int_equal(decode_all(cases[i].bytes, strlen(cases[i].bytes), codes), cases[i].count);
        assert_memory_equal(codes, cases[i].codes, (size_t)cases[i].count * sizeof codes[0]);
    }
}

static void the_first_invalid_byte_and_their_number_are_found(void **state)
{
    (void)state;
    assert_int_equal(utf8_first_invalid("plain", 5), -1);
    assert_int_equal(utf8_first_invalid("", 0), -1);
    assert_int_equal(utf8_first_invalid("\xC3\xA9t\xE9", 4), 3);
    assert_int_equal(utf8_first_invalid("ab\xE2\x82", 4), 2);
    assert_int_equal(utf8_count_invalid("ab\xE2\x82", 4), 1);
    assert_int_equal(utf8_count_invalid("\xFF\xFE\xFD", 3), 3);
    assert_int_equal(utf8_count_invalid("\xEF\xBF\xBD", 3), 0);
}

/* Bytes of a well-formed sequence at s, or 0: table 3-7, by trying every scalar value's form. */
static int well_formed(const char *s, size_t n)
{
    for (int length = 1; length <= 4 && (size_t)length <= n; length++) {
        uint32_t code = (unsigned char)s[0];
        if (length > 1)
            code &= 0x7Fu >> length;
        for (int i = 1; i < length; i++)
            code = code << 6 | ((unsigned char)s[i] & 0x3Fu);
        char back[4];
        if (code < 0x110000 && (code < 0xD800 || code > 0xDFFF) &&
            utf8_encode(back, code) == length && memcmp(back, s, (size_t)length) == 0)
            return length;
    }
    return 0;
}

static void random_bytes_are_valid_where_some_scalar_value_encodes_so(void **state)
{
    (void)state;
    static const unsigned char lead[] = {0x41, 0x7F, 0x80, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0,
                                         0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF};
    uint64_t key = rng_key(1, RNG_TEST, 0);
    for (uint32_t round = 0; round < 200000; round++) {
        struct rng_block b = rng_philox(key, round, 0, 0, 0);
        char s[4] = {(char)lead[b.v[0] % 16], (char)(0x78 + b.v[1] % 0x50),
                     (char)(0x78 + b.v[2] % 0x50), (char)(0x78 + b.v[3] % 0x50)};
        size_t n = 1 + (b.v[0] >> 8) % 4;
        struct utf8_char c = utf8_decode(s, s + n);
        int expected = well_formed(s, n);
        assert_int_equal(c.malformed, expected == 0);
        if (expected > 0)
            assert_int_equal(c.bytes, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_value_survives_encoding),
        cmocka_unit_test(malformed_bytes_become_one_replacement_per_maximal_subpart),
        cmocka_unit_test(the_first_invalid_byte_and_their_number_are_found),
        cmocka_unit_test(random_bytes_are_valid_where_some_scalar_value_encodes_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
