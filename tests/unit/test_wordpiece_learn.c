/* The learner against a second one that counts everything anew before every merge. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "io/tokenizer.h"
#include "io/wordpiece_learn.h"

static struct wordpiece_learner *learner_of(const char *const *texts, int count,
                                            const struct wordpiece_options *options)
{
    struct wordpiece_learner *l = NULL;
    assert_int_equal(wordpiece_learner_create(&l, options), MT_OK);
    for (int i = 0; i < count; i++)
        assert_int_equal(wordpiece_learner_add_text(l, texts[i], (int64_t)strlen(texts[i])), MT_OK);
    return l;
}

static void expect_tokens(const struct vocab *v, const char *expected)
{
    char got[4096] = "";
    for (int32_t i = 5; i < v->count; i++) {
        strcat(got, i > 5 ? " " : "");
        strcat(got, vocab_token(v, i));
    }
    assert_string_equal(got, expected);
}

static void specials_alphabet_and_merges_come_in_this_order(void **state)
{
    (void)state;
    const char *texts[] = {"hug hug hug PUG", "pun bun hugs"};
    struct wordpiece_learner *l = learner_of(texts, 2, NULL);
    struct vocab v;
    assert_int_equal(wordpiece_learner_distinct_words(l), 5);
    assert_int_equal(wordpiece_learner_total_words(l), 7);
    assert_int_equal(wordpiece_learner_train(l, 1000, &v), MT_OK);
    assert_true(v.pad == 0 && v.unk == 1 && v.cls == 2 && v.sep == 3 && v.mask == 4);
    /* u,g 5 times; h,ug 4; u,n 2; all other pairs once */
    expect_tokens(&v, "b g h n p s u ##g ##n ##s ##u ##ug hug ##un");
    vocab_close(&v);
    assert_int_equal(wordpiece_learner_train(l, 18, &v), MT_OK);
    assert_int_equal(v.count, 18);
    assert_string_equal(vocab_token(&v, 17), "hug");
    vocab_close(&v);
    wordpiece_learner_destroy(&l);
}

static void lines_in_any_order_give_the_same_vocabulary(void **state)
{
    (void)state;
    const char *one[] = {"the cat sat", "on the mat", "that cat"};
    const char *two[] = {"that cat", "the cat sat", "on the mat"};
    struct wordpiece_learner *l = learner_of(one, 3, NULL), *m = learner_of(two, 3, NULL);
    struct vocab v, w;
    assert_int_equal(wordpiece_learner_train(l, 100, &v), MT_OK);
    assert_int_equal(wordpiece_learner_train(m, 100, &w), MT_OK);
    assert_true(vocab_hash(&v) == vocab_hash(&w));
    vocab_close(&v);
    vocab_close(&w);
    wordpiece_learner_destroy(&l);
    wordpiece_learner_destroy(&m);
}

static void rare_characters_and_rare_pairs_are_left_out(void **state)
{
    (void)state;
    const char *texts[] = {"aab aab aab ccd"};
    struct wordpiece_options o = wordpiece_options_default();
    o.alphabet_limit = 2;
    o.min_frequency = 4;
    struct wordpiece_learner *l = learner_of(texts, 1, &o);
    struct vocab v;
    assert_int_equal(wordpiece_learner_train(l, 100, &v), MT_OK);
    expect_tokens(&v, "a b ##a ##b");
    vocab_close(&v);
    wordpiece_learner_destroy(&l);
    o.min_frequency = 0;
    assert_int_equal(wordpiece_learner_create(&l, &o), MT_ARG);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    const char *texts[] = {" \t "};
    struct wordpiece_learner *l = learner_of(texts, 1, NULL);
    struct vocab v;
    assert_int_equal(wordpiece_learner_train(l, 100, &v), MT_DATA);
    assert_int_equal(wordpiece_learner_train(l, 5, &v), MT_ARG);
    assert_int_equal(wordpiece_learner_train(l, VOCAB_MAX_TOKENS + 1, &v), MT_ARG);
    wordpiece_learner_destroy(&l);
}

enum { WORDS = 60, LETTERS = 4, PIECES = 400, LONGEST = 14 };

/* The slow learner: words of letters a.. as piece numbers. */
struct slow {
    char piece[PIECES][LONGEST + 4];
    int count;
    int word[WORDS][LONGEST], length[WORDS], frequency[WORDS];
};

static int slow_piece(struct slow *s, const char *text)
{
    for (int i = 0; i < s->count; i++)
        if (strcmp(s->piece[i], text) == 0)
            return i;
    strcpy(s->piece[s->count], text);
    return s->count++;
}

static void slow_merge(struct slow *s, int left, int right)
{
    char text[2 * LONGEST + 8];
    snprintf(text, sizeof text, "%s%s", s->piece[left], s->piece[right] + 2);
    int piece = slow_piece(s, text);
    for (int w = 0; w < WORDS; w++) {
        int n = 0;
        for (int i = 0; i < s->length[w]; i++) {
            int *word = s->word[w];
            int here = i + 1 < s->length[w] && word[i] == left && word[i + 1] == right;
            word[n++] = here ? piece : word[i];
            i += here;
        }
        s->length[w] = n;
    }
}

static int slow_step(struct slow *s, int min_frequency)
{
    static int counts[PIECES][PIECES];
    int best_left = -1, best_right = -1, best = min_frequency - 1;
    for (int a = 0; a < s->count; a++)
        memset(counts[a], 0, (size_t)s->count * sizeof counts[a][0]);
    for (int w = 0; w < WORDS; w++)
        for (int i = 0; i + 1 < s->length[w]; i++)
            counts[s->word[w][i]][s->word[w][i + 1]] += s->frequency[w];
    for (int a = 0; a < s->count; a++)
        for (int b = 0; b < s->count; b++)
            if (counts[a][b] > best) {
                best = counts[a][b];
                best_left = a;
                best_right = b;
            }
    if (best_left < 0)
        return 0;
    slow_merge(s, best_left, best_right);
    return 1;
}

/* Makes random words, begins the slow learner with their characters, and writes them as text. */
static void make_words(struct slow *s, uint32_t round, char *text)
{
    static const char *const specials[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    static char words[WORDS][LONGEST + 1];
    uint64_t key = rng_key(3, RNG_TEST, round);
    int plain[LETTERS] = {0}, inside[LETTERS] = {0};
    memset(s, 0, sizeof *s);
    for (int i = 0; i < 5; i++)
        slow_piece(s, specials[i]);
    for (uint32_t w = 0; w < WORDS; w++) {
        struct rng_block b = rng_philox(key, w, 0, 0, 0);
        s->length[w] = 1 + (int)(b.v[0] % LONGEST);
        s->frequency[w] = 1 + (int)(b.v[1] % 29);
        for (int i = 0; i < s->length[w]; i++) {
            uint32_t c = rng_philox(key, w, (uint32_t)i, 1, 0).v[0] % (1 + round % LETTERS);
            words[w][i] = (char)('a' + c);
            plain[c] = 1;
            inside[c] |= i > 0;
        }
        words[w][s->length[w]] = '\0';
        for (int k = 0; k < s->frequency[w]; k++)
            text += sprintf(text, "%s ", words[w]);
    }
    char form[4] = "##";
    for (int in = 0; in < 2; in++)
        for (int c = 0; c < LETTERS; c++) {
            form[2] = (char)('a' + c);
            if (in ? inside[c] : plain[c])
                slow_piece(s, in ? form : form + 2);
        }
    for (int w = 0; w < WORDS; w++)
        for (int i = 0; i < s->length[w]; i++) {
            form[2] = words[w][i];
            s->word[w][i] = slow_piece(s, i == 0 ? form + 2 : form);
        }
}

static void random_words_give_what_counting_anew_gives(void **state)
{
    (void)state;
    static struct slow s;
    static char text[WORDS * 30 * (LONGEST + 1) + 1];
    for (uint32_t round = 0; round < 16; round++) {
        int32_t size = 120 + (int32_t)round;
        make_words(&s, round, text);
        while (s.count < size && slow_step(&s, 2))
            continue;
        const char *one[] = {text};
        struct wordpiece_learner *l = learner_of(one, 1, NULL);
        struct vocab v;
        assert_int_equal(wordpiece_learner_train(l, size, &v), MT_OK);
        assert_int_equal(v.count, s.count);
        for (int32_t i = 0; i < v.count; i++)
            assert_string_equal(vocab_token(&v, i), s.piece[i]);
        vocab_close(&v);
        wordpiece_learner_destroy(&l);
    }
}

static void the_learnt_vocabulary_cuts_its_own_text(void **state)
{
    (void)state;
    const char *texts[] = {"Low lower lowest, newer wider; \xE4\xB8\xAD\xE6\x96\x87 caf\xC3\xA9!",
                           "low low lower newest widest"};
    struct wordpiece_learner *l = learner_of(texts, 2, NULL);
    struct vocab v;
    struct tokenizer *t = NULL;
    struct encoding e;
    assert_int_equal(wordpiece_learner_train(l, 60, &v), MT_OK);
    assert_int_equal(tokenizer_create(&t, &v, NULL), MT_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tokenizer_encode(t, texts[i], (int64_t)strlen(texts[i]), NULL, 0, 0, &e),
                         MT_OK);
        assert_int_equal(e.unknown, 0);
    }
    tokenizer_destroy(&t);
    vocab_close(&v);
    wordpiece_learner_destroy(&l);
}

static void a_failing_allocation_leaves_nothing_behind(void **state)
{
    (void)state;
    const char *texts[] = {"some words for some of the learners learning words"};
    for (int64_t n = 1;; n++) {
        struct wordpiece_learner *l = NULL;
        struct vocab v = {0};
        mt_memory_fail_after(n);
        mt_status st = wordpiece_learner_create(&l, NULL);
        if (st == MT_OK)
            st = wordpiece_learner_add_text(l, texts[0], (int64_t)strlen(texts[0]));
        if (st == MT_OK)
            st = wordpiece_learner_train(l, 60, &v);
        mt_memory_fail_after(0);
        vocab_close(&v);
        wordpiece_learner_destroy(&l);
        if (st == MT_OK)
            break;
        assert_int_equal(st, MT_NOMEM);
    }
}

static int check_memory(void **state)
{
    (void)state;
    struct mt_memory_stats s;
    mt_memory_stats(&s);
    return s.live_blocks != 0;
}

int main(void)
{
#define CASE(f) cmocka_unit_test_teardown(f, check_memory)
    const struct CMUnitTest tests[] = {
        CASE(specials_alphabet_and_merges_come_in_this_order),
        CASE(lines_in_any_order_give_the_same_vocabulary),
        CASE(rare_characters_and_rare_pairs_are_left_out),
        CASE(bad_requests_are_refused),
        CASE(random_words_give_what_counting_anew_gives),
        CASE(the_learnt_vocabulary_cuts_its_own_text),
        CASE(a_failing_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
