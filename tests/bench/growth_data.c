/*
 * growth_data: what tests/bench/growth.sh needs to see how cost grows with a data set.
 *
 *   growth_data text VOCAB.txt N      writes N labelled sentences as TSV, a pure function of N
 *   growth_data open SHARDS SAMPLES   opens a packed set, draws SAMPLES at random as training does,
 *                                     and prints one line: rows tokens open_ms open_MiB hash_s
 *                                     sample_us peak_MiB
 *
 * Sentences have 1 to 60 words, 12 on average, drawn from the whole words of the vocabulary with
 * the frequencies of Zipf's law; one in eight is run together with the word before it, so that it
 * has to be taken apart, and a full stop ends the sentence.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "io/dataset.h"
#include "io/sampler.h"

enum { WORDS_MOST = 60, WORD_BYTES_MOST = 24, BATCH = 32 };

static const double WORDS_MEAN = 12.0;

struct words {
    char (*text)[WORD_BYTES_MOST + 1];
    int32_t count;
};

static mt_status read_words(struct words *w, const char *path)
{
    char line[256];
    int32_t capacity = 1 << 20;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return MT_FAIL(MT_DATA, "%s: cannot be read", path);
    mt_status st = mt_alloc(&w->text, capacity, sizeof *w->text, "words");
    while (st == MT_OK && w->count < capacity && fgets(line, (int)sizeof line, f) != NULL) {
        size_t bytes = strcspn(line, "\n");
        line[bytes] = '\0';
        bool plain = bytes > 0 && bytes <= WORD_BYTES_MOST;
        for (size_t i = 0; i < bytes; i++)
            plain = plain && line[i] >= 'a' && line[i] <= 'z';
        if (plain)
            memcpy(w->text[w->count++], line, bytes + 1);
    }
    (void)fclose(f);
    return st == MT_OK && w->count == 0 ? MT_FAIL(MT_DATA, "%s: has no words", path) : st;
}

/* Rank r of n by frequency 1/r: the inverse of the distribution's integral. */
static int32_t zipf(double u, int32_t n)
{
    int32_t rank = (int32_t)(exp(u * log((double)n + 1.0)) - 1.0);
    return rank < n ? rank : n - 1;
}

static mt_status write_text(const char *vocab, int64_t sentences)
{
    static const char *const moods[] = {"negative", "neutral", "positive"};
    struct words w = {0};
    mt_status st = read_words(&w, vocab);
    uint64_t key = rng_key(11, RNG_TEST, 0);
    if (st == MT_OK)
        (void)fputs("mood\ttext\n", stdout);
    for (int64_t s = 0; s < sentences && st == MT_OK; s++) {
        struct rng_block head = rng_philox(key, (uint32_t)s, (uint32_t)(s >> 32), 0, 1);
        int32_t n = 1 + (int32_t)(-(WORDS_MEAN - 1.0) * log1p(-rng_uniform(head.v[0], head.v[1])));
        n = n > WORDS_MOST ? WORDS_MOST : n;
        (void)fputs(moods[head.v[2] % 3], stdout);
        for (int32_t i = 0; i < n; i += 2) {
            struct rng_block r =
                rng_philox(key, (uint32_t)s, (uint32_t)(s >> 32), (uint32_t)i + 1, 2);
            for (int32_t k = i; k < n && k < i + 2; k++) {
                uint32_t low = r.v[2 * (k - i) + 1];
                if (k == 0 || low % 8 != 0)
                    (void)fputc(k == 0 ? '\t' : ' ', stdout);
                (void)fputs(
                    w.text[zipf(rng_uniform(r.v[2 * (k - i)], r.v[2 * (k - i) + 1]), w.count)],
                    stdout);
            }
        }
        if (fputs(".\n", stdout) == EOF)
            st = MT_FAIL(MT_IO, "the text cannot be written");
    }
    mt_free(&w.text);
    return st;
}

/* A number of /proc/self/status in MiB. */
static double resident_mib(const char *key)
{
    char line[256];
    double mib = 0.0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, (int)sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            mib = strtod(line + strlen(key), NULL) / 1024.0;
    if (f != NULL)
        (void)fclose(f);
    return mib;
}

static mt_status draw(const struct dataset *d, int64_t samples, double *seconds)
{
    struct sampler_state state = {0}, after;
    struct sample sample[BATCH];
    struct batch b;
    int64_t rows = dataset_rows(d), done = 0;
    int32_t count;
    struct sampler_spec spec = {.seed = 3, .set_count = 1, .rows = &rows, .batch_sentences = BATCH};
    MT_TRY(batch_create(&b, BATCH, BATCH * dataset_longest_row_tokens(d), 1));
    mt_status st = MT_OK;
    double begin_s = clock_now_s();
    for (int64_t step = 0; done < samples && st == MT_OK; step++) {
        sampler_step(&spec, step, &state, &after, sample, &count);
        b.B = b.N = 0;
        for (int32_t i = 0; i < count && st == MT_OK; i++)
            st = dataset_append(d, &b, 0, sample[i].row);
        done += count;
        state = after;
    }
    *seconds = (clock_now_s() - begin_s) / (double)done;
    batch_destroy(&b);
    return st;
}

static mt_status open_set(const char *path, int64_t samples)
{
    struct dataset *d = NULL;
    uint64_t hash;
    double sample_s;
    mt_status st;
    double begin_s = clock_now_s();
    MT_TRY_GOTO(st, dataset_open(&d, "growth", &path, 1), done);
    double open_s = clock_now_s() - begin_s, open_mib = resident_mib("VmRSS:");
    MT_TRY_GOTO(st, draw(d, samples, &sample_s), done);
    begin_s = clock_now_s();
    MT_TRY_GOTO(st, dataset_content_hash(d, &hash), done);
    printf("%lld %lld %.1f %.1f %.2f %.2f %.1f\n", (long long)dataset_rows(d),
           (long long)dataset_tokens(d), 1e3 * open_s, open_mib, clock_now_s() - begin_s,
           1e6 * sample_s, resident_mib("VmHWM:"));
done:
    dataset_close(&d);
    return st;
}

int main(int argc, char **argv)
{
    mt_status st;
    if (argc == 4 && strcmp(argv[1], "text") == 0)
        st = write_text(argv[2], strtoll(argv[3], NULL, 10));
    else if (argc == 4 && strcmp(argv[1], "open") == 0)
        st = open_set(argv[2], strtoll(argv[3], NULL, 10));
    else
        st = MT_FAIL(MT_ARG, "growth_data text VOCAB.txt N | open SHARDS SAMPLES");
    if (st != MT_OK)
        (void)fprintf(stderr, "error: %s\n", mt_error_peek()->message);
    return mt_status_exit_code(st);
}
