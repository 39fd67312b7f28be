#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "comm/base/status.h"

static mt_status deepest(int depth)
{
    if (depth == 0)
        return MT_FAIL(MT_DATA, "row %d of %s", 17, "a.h5");
    MT_TRY(deepest(depth - 1));
    return MT_OK;
}

static mt_status with_cleanup(bool *cleaned)
{
    mt_status st;
    MT_TRY_GOTO(st, deepest(0), done);
done:
    *cleaned = true;
    return st;
}

static void a_failure_carries_its_message_and_frames(void **state)
{
    (void)state;
    assert_int_equal(deepest(2), MT_DATA);
    const struct mt_error *e = mt_error_peek();
    assert_int_equal(e->code, MT_DATA);
    assert_int_equal(e->rank, -1);
    assert_string_equal(e->message, "row 17 of a.h5");
    assert_int_equal(e->frame_count, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(e->frames[i].function, "deepest");
}

static void leaving_by_the_label_runs_the_cleanup(void **state)
{
    (void)state;
    bool cleaned = false;
    assert_int_equal(with_cleanup(&cleaned), MT_DATA);
    assert_true(cleaned);
    assert_int_equal(mt_error_peek()->frame_count, 2);
}

static void a_new_failure_replaces_the_old_record(void **state)
{
    (void)state;
    assert_int_equal(deepest(5), MT_DATA);
    assert_int_equal(MT_FAIL(MT_IO, "second"), MT_IO);
    assert_string_equal(mt_error_peek()->message, "second");
    assert_int_equal(mt_error_peek()->frame_count, 1);
    mt_error_clear();
    assert_int_equal(mt_error_peek()->code, MT_OK);
}

static void depth_and_length_beyond_the_record_are_cut(void **state)
{
    (void)state;
    assert_int_equal(deepest(50), MT_DATA);
    assert_int_equal(mt_error_peek()->frame_count, MT_FRAMES);
    char text[3 * MT_MESSAGE_BYTES];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_int_equal(MT_FAIL(MT_IO, "%s", text), MT_IO);
    assert_int_equal(strlen(mt_error_peek()->message), MT_MESSAGE_BYTES - 1);
    mt_error_prefix("%s", text);
    assert_int_equal(strlen(mt_error_peek()->message), MT_MESSAGE_BYTES - 1);
}

static void a_prefix_says_where(void **state)
{
    (void)state;
    assert_int_equal(MT_FAIL(MT_DATA, "unknown label"), MT_DATA);
    mt_error_prefix("%s:%d", "train.tsv", 17);
    assert_string_equal(mt_error_peek()->message, "train.tsv:17: unknown label");
    assert_int_equal(mt_error_peek()->code, MT_DATA);
}

static void *fail_in_thread(void *argument)
{
    if (deepest(1) == MT_DATA)
        mt_error_get(argument);
    return NULL;
}

static void records_are_per_thread_and_can_be_handed_over(void **state)
{
    (void)state;
    mt_error_clear();
    struct mt_error from_thread;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fail_in_thread, &from_thread), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(mt_error_peek()->code, MT_OK);
    assert_int_equal(mt_error_set(&from_thread), MT_DATA);
    assert_string_equal(mt_error_peek()->message, "row 17 of a.h5");
}

static void reporting_allocates_nothing(void **state)
{
    (void)state;
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    assert_int_equal(deepest(3), MT_DATA);
    mt_error_prefix("a.h5");
    mt_memory_stats(&after);
    assert_int_equal(after.allocations, before.allocations);
}

/* The exit codes of INTERFACE section 2. */
static void statuses_have_their_exit_codes_and_names(void **state)
{
    (void)state;
    const struct {
        mt_status code;
        int exit_code;
        const char *name;
    } expect[] = {{MT_OK, 0, "OK"},           {MT_BUG, 1, "BUG"}, {MT_NOMEM, 1, "NOMEM"},
                  {MT_MPI, 1, "MPI"},         {MT_ARG, 2, "ARG"}, {MT_CONFIG, 2, "CONFIG"},
                  {MT_DATA, 3, "DATA"},       {MT_IO, 4, "IO"},   {MT_NUMERIC, 5, "NUMERIC"},
                  {MT_STOPPED, 75, "STOPPED"}};
    for (size_t i = 0; i < sizeof expect / sizeof expect[0]; i++) {
        assert_int_equal(mt_status_exit_code(expect[i].code), expect[i].exit_code);
        assert_string_equal(mt_status_name(expect[i].code), expect[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_carries_its_message_and_frames),
        cmocka_unit_test(leaving_by_the_label_runs_the_cleanup),
        cmocka_unit_test(a_new_failure_replaces_the_old_record),
        cmocka_unit_test(depth_and_length_beyond_the_record_are_cut),
        cmocka_unit_test(a_prefix_says_where),
        cmocka_unit_test(records_are_per_thread_and_can_be_handed_over),
        cmocka_unit_test(reporting_allocates_nothing),
        cmocka_unit_test(statuses_have_their_exit_codes_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
