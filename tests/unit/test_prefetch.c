#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "io/dataset.h"
#include "io/eligible.h"
#include "io/file.h"
#include "io/lane_plan.h"
#include "io/prefetch.h"
#include "tests/support/test_dirs.h"

/* Two sets: "tickets" (50 rows) with tasks category and mood, "films" (23 rows) with mood.  Every
 * number follows from set and row, so a batch can be checked without a second reader. */
enum { SETS = 2, TASKS = 2, VOCAB = 5000, LONGEST = 20, LANES = 8, BATCH = 16 };

static const int64_t ROWS[SETS] = {50, 23};
static const int32_t COLUMNS[SETS * TASKS] = {0, 1, -1, 0};

static struct dataset *sets[SETS];
static atomic_bool disk_hangs;

/* Stands before the C library's. */
ssize_t pread(int fd, void *bytes, size_t count, off_t at)
{
    while (atomic_load(&disk_hangs))
        clock_sleep_s(0.001);
    return (ssize_t)syscall(SYS_pread64, fd, bytes, count, at);
}

static int32_t length_of(int64_t row)
{
    return 1 + (int32_t)(row * 13 % LONGEST);
}

static int32_t id_of(int32_t set, int64_t row, int32_t j)
{
    return (int32_t)((set * 2000 + row * 31 + j) % VOCAB);
}

/* category: every third row has none; mood: every fifth row has none. */
static int32_t label_of(int32_t set, int32_t task, int64_t row)
{
    if (task == 0)
        return set == 1 || row % 3 == 0 ? -1 : (int32_t)(row % 3 - 1);
    return row % 5 == 0 ? -1 : (int32_t)(row % 2);
}

static void write_set(int32_t set, const char *path)
{
    char *names[] = {(char[]){"a"}, (char[]){"b"}};
    struct shard_task tasks[TASKS] = {{.name = "category", .classes = 2, .labels = names},
                                      {.name = "mood", .classes = 2, .labels = names}};
    int32_t first_task = set; /* films have mood only */
    struct shard_info info = {.vocab_size = VOCAB,
                              .vocab_hash = 1,
                              .max_tokens = LONGEST,
                              .tasks = tasks + first_task,
                              .task_count = TASKS - first_task};
    struct shard_writer *w;
    assert_int_equal(shard_writer_open(&w, path, &info, 0), MT_OK);
    for (int64_t row = 0; row < ROWS[set]; row++) {
        int32_t ids[LONGEST], labels[TASKS];
        for (int32_t j = 0; j < length_of(row); j++)
            ids[j] = id_of(set, row, j);
        for (int32_t t = 0; t < TASKS; t++)
            labels[t] = label_of(set, t, row);
        const struct shard_row r = {
            .ids = ids, .labels = labels + first_task, .token_count = length_of(row)};
        assert_int_equal(shard_writer_append(w, &r), MT_OK);
    }
    assert_int_equal(shard_writer_commit(&w, NULL), MT_OK);
}

static int open_sets(void **state)
{
    (void)state;
    static const char *const names[SETS] = {"tickets", "films"};
    for (int32_t k = 0; k < SETS; k++) {
        const char *path = test_path(k == 0 ? "tickets.h5" : "films.h5");
        write_set(k, path);
        assert_int_equal(dataset_open(&sets[k], names[k], &path, 1), MT_OK);
    }
    (void)alarm(120); /* a hang is a failure */
    return 0;
}

static int close_sets(void **state)
{
    (void)state;
    struct mt_memory_stats s;
    for (int32_t k = 0; k < SETS; k++)
        dataset_close(&sets[k]);
    mt_memory_stats(&s);
    return s.live_blocks == 0 ? 0 : -1;
}

static struct sampler_spec spec_of(void)
{
    return (struct sampler_spec){
        .seed = 7, .set_count = SETS, .rows = ROWS, .batch_sentences = BATCH};
}

static struct prefetch_config config_of(int32_t first_lane, int32_t lane_count)
{
    return (struct prefetch_config){.sets = sets,
                                    .set_count = SETS,
                                    .task_count = TASKS,
                                    .label_column = COLUMNS,
                                    .batch_sentences = BATCH,
                                    .max_tokens = LONGEST,
                                    .lanes = LANES,
                                    .first_lane = first_lane,
                                    .lane_count = lane_count,
                                    .patience_s = 60};
}

static struct prefetch *create(int32_t first_lane, int32_t lane_count)
{
    struct prefetch *p;
    struct prefetch_config config = config_of(first_lane, lane_count);
    assert_int_equal(prefetch_create(&p, &config), MT_OK);
    return p;
}

static struct step_batch *take(struct prefetch *p)
{
    struct step_batch *b;
    assert_int_equal(prefetch_take(p, &b), MT_OK);
    return b;
}

static void start(struct prefetch *p, int64_t step, const struct sampler_state *state)
{
    static const struct sampler_state zero;
    struct sampler_spec spec = spec_of();
    assert_int_equal(prefetch_start(p, &spec, step, state != NULL ? state : &zero), MT_OK);
}

static void check_batch(const struct batch *b)
{
    assert_int_equal(b->B == 0 ? 0 : b->offsets[b->B], b->N);
    for (int32_t s = 0; s < b->B; s++) {
        int32_t set = (int32_t)(b->sample[s] >> 40);
        int64_t row = b->sample[s] & (((int64_t)1 << 40) - 1);
        assert_int_equal(b->offsets[s + 1] - b->offsets[s], length_of(row));
        for (int32_t j = 0; j < length_of(row); j++)
            assert_int_equal(b->ids[b->offsets[s] + j], id_of(set, row, j));
        for (int32_t t = 0; t < TASKS; t++)
            assert_int_equal(batch_labels(b, t)[s], label_of(set, t, row));
    }
}

static void batches_hold_what_sampler_and_lane_plan_say(void **state)
{
    (void)state;
    struct sampler_spec spec = spec_of();
    struct sampler_state s = {0};
    struct lane_plan plan;
    struct prefetch *p = create(2, 5);
    assert_int_equal(lane_plan_create(&plan, LANES, BATCH), MT_OK);
    start(p, 0, NULL);
    for (int64_t step = 0; step < 20; step++) {
        struct sample samples[BATCH];
        int32_t count;
        struct step_batch *b = take(p);
        sampler_step(&spec, step, &s, &s, samples, &count);
        for (int32_t i = 0; i < count; i++)
            samples[i].length_tokens = length_of(samples[i].row);
        lane_plan_make(&plan, samples, count);
        assert_int_equal(b->step, step);
        assert_int_equal(b->sentences, count);
        assert_int_equal(b->tokens, plan.total_tokens);
        assert_memory_equal(&b->after, &s, sizeof s);
        for (int32_t l = 0; l < 5; l++) {
            check_batch(&b->lane[l]);
            assert_int_equal(b->lane[l].B, plan.first[l + 3] - plan.first[l + 2]);
            for (int32_t j = 0; j < b->lane[l].B; j++) {
                const struct sample *x = &samples[plan.slot[plan.first[l + 2] + j]];
                assert_true(b->lane[l].sample[j] == ((int64_t)x->set << 40 | x->row));
            }
        }
        for (int32_t t = 0; t < TASKS; t++) {
            int64_t labelled = 0;
            for (int32_t i = 0; i < count; i++) {
                int32_t label = label_of(samples[i].set, t, samples[i].row);
                assert_int_equal(b->labels[t * count + i], label);
                labelled += label >= 0;
            }
            assert_int_equal(b->labelled[t], labelled);
        }
        prefetch_give_back(p, b);
    }
    lane_plan_destroy(&plan);
    prefetch_destroy(&p);
}

static void lanes_are_the_same_whatever_the_rank_count(void **state)
{
    (void)state;
    struct prefetch *whole = create(0, LANES);
    struct prefetch *part[3] = {create(0, 3), create(3, 4), create(7, 1)};
    const int32_t first[3] = {0, 3, 7}, lanes[3] = {3, 4, 1};
    start(whole, 0, NULL);
    for (int r = 0; r < 3; r++)
        start(part[r], 0, NULL);
    for (int step = 0; step < 12; step++) {
        struct step_batch *all = take(whole);
        for (int r = 0; r < 3; r++) {
            struct step_batch *mine = take(part[r]);
            for (int32_t l = 0; l < lanes[r]; l++) {
                const struct batch *a = &all->lane[first[r] + l], *b = &mine->lane[l];
                assert_int_equal(a->B, b->B);
                assert_int_equal(a->N, b->N);
                assert_memory_equal(a->ids, b->ids, (size_t)a->N * sizeof *a->ids);
                assert_memory_equal(a->sample, b->sample, (size_t)a->B * sizeof *a->sample);
            }
            prefetch_give_back(part[r], mine);
        }
        prefetch_give_back(whole, all);
    }
    prefetch_destroy(&whole);
    for (int r = 0; r < 3; r++)
        prefetch_destroy(&part[r]);
}

static void starting_anywhere_continues_the_same_sequence(void **state)
{
    (void)state;
    enum { STEPS = 15 };
    struct sampler_state after[STEPS];
    int64_t first_sample[STEPS], tokens[STEPS];
    struct prefetch *p = create(0, LANES);
    start(p, 100, NULL);
    for (int i = 0; i < STEPS; i++) {
        struct step_batch *b = take(p);
        after[i] = b->after;
        tokens[i] = b->tokens;
        first_sample[i] = b->lane[0].sample[0];
        prefetch_give_back(p, b);
    }
    for (int from = 1; from < STEPS; from += 3) {
        start(p, 100 + from, &after[from - 1]); /* stops the one that runs */
        for (int i = from; i < STEPS; i++) {
            struct step_batch *b = take(p);
            assert_int_equal(b->step, 100 + i);
            assert_int_equal(b->tokens, tokens[i]);
            assert_true(b->lane[0].sample[0] == first_sample[i]);
            prefetch_give_back(p, b);
        }
    }
    prefetch_destroy(&p);
}

static void stopping_and_destroying_at_any_time_is_clean(void **state)
{
    (void)state;
    struct prefetch *p = create(0, LANES);
    for (int i = 0; i < 100; i++) {
        start(p, i, NULL);
        struct step_batch *b = NULL;
        for (int k = 0; k < i % 4; k++)
            b = take(p);
        if (i % 3 == 0)
            clock_sleep_s(0.0002 * (i % 7));
        if (i % 2 == 0)
            prefetch_stop(p);
        (void)b; /* taken and never given back */
    }
    prefetch_stop(p);
    prefetch_stop(p);
    prefetch_destroy(&p);
    assert_null(p);
    prefetch_destroy(&p);
    for (int i = 0; i < 20; i++) {
        p = create(0, LANES);
        start(p, 0, NULL);
        prefetch_destroy(&p);
    }
}

static void no_step_allocates(void **state)
{
    (void)state;
    struct mt_memory_stats before, after;
    struct prefetch *p = create(0, LANES);
    mt_memory_stats(&before);
    start(p, 0, NULL);
    for (int i = 0; i < 50; i++)
        prefetch_give_back(p, take(p));
    prefetch_stop(p);
    mt_memory_stats(&after);
    assert_int_equal(after.allocations, before.allocations);
    prefetch_destroy(&p);
}

static void a_read_error_is_handed_over_and_a_new_start_recovers(void **state)
{
    (void)state;
    struct prefetch *p = create(0, LANES);
    struct step_batch *b;
    mt_error_clear();
    file_fail_after(40); /* some read of the first steps */
    start(p, 0, NULL);
    mt_status st = MT_OK;
    for (int i = 0; st == MT_OK && i < 50; i++) {
        st = prefetch_take(p, &b);
        if (st == MT_OK) {
            check_batch(&b->lane[0]);
            prefetch_give_back(p, b);
        }
    }
    file_fail_after(0);
    assert_int_equal(st, MT_IO);
    assert_non_null(strstr(mt_error_peek()->message, ".h5"));
    mt_error_clear();
    assert_int_equal(prefetch_take(p, &b), MT_IO); /* it stays */
    start(p, 0, NULL);
    prefetch_give_back(p, take(p));
    prefetch_destroy(&p);
}

static void waiting_ends_when_patience_does(void **state)
{
    (void)state;
    struct prefetch_config config = config_of(0, LANES);
    struct prefetch *p;
    struct step_batch *b;
    config.patience_s = 0.01;
    assert_int_equal(prefetch_create(&p, &config), MT_OK);
    atomic_store(&disk_hangs, true);
    start(p, 0, NULL);
    assert_int_equal(prefetch_take(p, &b), MT_IO);
    assert_non_null(strstr(mt_error_peek()->message, "no data for step 0"));
    mt_error_clear();
    atomic_store(&disk_hangs, false);
    prefetch_destroy(&p);
}

static void the_caller_that_keeps_every_step_is_told(void **state)
{
    (void)state;
    struct prefetch *p = create(0, LANES);
    struct step_batch *b;
    assert_int_equal(prefetch_take(p, &b), MT_BUG); /* not started */
    start(p, 0, NULL);
    for (int i = 0; i < PREFETCH_DEPTH + 1; i++)
        assert_int_equal(take(p)->step, i);
    assert_int_equal(prefetch_take(p, &b), MT_BUG);
    prefetch_destroy(&p);
}

static void waiting_time_is_measured(void **state)
{
    (void)state;
    struct prefetch *p = create(0, LANES);
    start(p, 0, NULL);
    double sum = 0;
    for (int i = 0; i < 5; i++) {
        struct step_batch *b = take(p);
        assert_true(b->wait_s >= 0);
        sum += b->wait_s;
        prefetch_give_back(p, b);
    }
    double waited_s = prefetch_waited_s(p);
    assert_true(waited_s > 0 && waited_s >= sum * 0.999 && waited_s <= sum * 1.001);
    prefetch_destroy(&p);
}

static void sets_that_do_not_fit_are_refused_before_the_start(void **state)
{
    (void)state;
    struct prefetch *p;
    struct prefetch_config config = config_of(0, LANES);
    config.max_tokens = LONGEST - 1;
    assert_int_equal(prefetch_create(&p, &config), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "tickets"));
    config = config_of(4, 5);
    assert_int_equal(prefetch_create(&p, &config), MT_BUG);
    config = config_of(0, LANES);
    config.batch_sentences = 0;
    assert_int_equal(prefetch_create(&p, &config), MT_CONFIG);

    p = create(0, LANES);
    struct sampler_state zero = {0}, damaged = {.drawn = {-3}};
    struct sampler_spec spec = spec_of();
    const int64_t too_many[SETS] = {50, 24};
    spec.rows = too_many;
    assert_int_equal(prefetch_start(p, &spec, 0, &zero), MT_DATA);
    spec = spec_of();
    spec.batch_sentences = BATCH + 1;
    assert_int_equal(prefetch_start(p, &spec, 0, &zero), MT_CONFIG);
    spec = spec_of();
    assert_int_equal(prefetch_start(p, &spec, 0, &damaged), MT_DATA);
    prefetch_destroy(&p);
}

static void running_out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    struct mt_memory_stats before, after;
    struct prefetch_config config = config_of(0, LANES);
    mt_memory_stats(&before);
    int failures = 0;
    for (int64_t n = 1;; n++) {
        struct prefetch *p = NULL;
        mt_memory_fail_after(n);
        mt_status st = prefetch_create(&p, &config);
        mt_memory_fail_after(0);
        prefetch_destroy(&p);
        mt_memory_stats(&after);
        assert_int_equal(after.live_blocks, before.live_blocks);
        if (st == MT_OK)
            break;
        assert_int_equal(st, MT_NOMEM);
        failures++;
    }
    assert_true(failures > 20);
}

static void eligible_rows_are_those_with_a_label(void **state)
{
    (void)state;
    int64_t *rows, count;
    assert_int_equal(eligible_rows(&rows, &count, sets[0], (const int32_t[]){0, -1}, 2), MT_OK);
    assert_int_equal(count, 33); /* 50 rows, every third without a category */
    int64_t at = 0;
    for (int64_t row = 0; row < 50; row++)
        if (label_of(0, 0, row) >= 0)
            assert_int_equal(rows[at++], row);
    mt_free(&rows);
    assert_int_equal(eligible_rows(&rows, &count, sets[0], (const int32_t[]){0, 1}, 2), MT_OK);
    assert_int_equal(count, 46); /* rows 0, 15, 30, 45 have neither */
    mt_free(&rows);
    assert_int_equal(eligible_rows(&rows, &count, sets[1], (const int32_t[]){-1}, 1), MT_OK);
    assert_int_equal(count, 0);
    mt_free(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_hold_what_sampler_and_lane_plan_say),
        cmocka_unit_test(lanes_are_the_same_whatever_the_rank_count),
        cmocka_unit_test(starting_anywhere_continues_the_same_sequence),
        cmocka_unit_test(stopping_and_destroying_at_any_time_is_clean),
        cmocka_unit_test(no_step_allocates),
        cmocka_unit_test(a_read_error_is_handed_over_and_a_new_start_recovers),
        cmocka_unit_test(waiting_ends_when_patience_does),
        cmocka_unit_test(the_caller_that_keeps_every_step_is_told),
        cmocka_unit_test(waiting_time_is_measured),
        cmocka_unit_test(sets_that_do_not_fit_are_refused_before_the_start),
        cmocka_unit_test(running_out_of_memory_leaks_nothing),
        cmocka_unit_test(eligible_rows_are_those_with_a_label),
    };
    return cmocka_run_group_tests(tests, open_sets, close_sets);
}
