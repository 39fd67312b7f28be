#include "tests/support/mpi_test.h"

#include "comm/agree.h"
#include "comm/stop.h"
#include "comm/topology.h"

static mt_status local_work(int32_t who, int position, int32_t bad_rank, int bad_position)
{
    if (who == bad_rank && position == bad_position)
        return MT_FAIL(MT_DATA, "shard %d of rank %d is torn", position, who);
    return MT_OK;
}

static int reached;

static mt_status three_steps(int32_t bad_rank, int bad_position)
{
    reached = 0;
    for (int position = 0; position < 3; position++) {
        MT_ALL(&world, local_work(world.rank, position, bad_rank, bad_position));
        reached++;
    }
    return MT_OK;
}

static void a_failure_on_any_rank_in_any_position_is_the_same_on_all(void **state)
{
    (void)state;
    assert_mt_ok(three_steps(-1, -1));
    for (int32_t bad = 0; bad < world.size; bad++)
        for (int position = 0; position < 3; position++) {
            char expected[100];
            mt_error_clear();
            assert_int_equal(three_steps(bad, position), MT_DATA);
            const struct mt_error *e = mt_error_peek();
            snprintf(expected, sizeof expected, "shard %d of rank %d is torn", position, bad);
            assert_string_equal(e->message, expected);
            assert_int_equal(e->rank, bad);
            assert_int_equal(e->code, MT_DATA);
            assert_int_equal(reached, position);
            assert_true(e->frame_count >= 2);
            assert_string_equal(e->frames[0].function, "local_work");
            assert_string_equal(e->frames[e->frame_count - 1].function, "three_steps");
            assert_mt_ok(comm_barrier(&world)); /* nobody was left behind */
        }
}

static void the_worst_status_of_several_wins_and_ties_go_to_the_lowest_rank(void **state)
{
    (void)state;
    mt_status mine =
        MT_FAIL(world.rank == world.size - 1 ? MT_NUMERIC : MT_IO, "rank %d failed", world.rank);
    assert_int_equal(comm_agree(&world, mine), MT_NUMERIC);
    assert_int_equal(mt_error_peek()->rank, world.size - 1);
    mine = MT_FAIL(MT_IO, "rank %d failed", world.rank);
    assert_int_equal(comm_agree(&world, mine), MT_IO);
    assert_string_equal(mt_error_peek()->message, "rank 0 failed");
}

static void an_agreed_failure_survives_further_agreements(void **state)
{
    (void)state;
    int32_t last = world.size - 1;
    mt_status st = comm_agree(&world, local_work(world.rank, 5, last, 5));
    for (int i = 0; i < 20; i++)
        st = comm_agree(&world, mt_error_frame(st, __func__, __FILE__, __LINE__));
    assert_int_equal(st, MT_DATA);
    assert_int_equal(mt_error_peek()->rank, last);
    assert_string_equal(mt_error_peek()->frames[0].function, "local_work");
    assert_in_range(mt_error_peek()->frame_count, 3, MT_FRAMES);
}

static void a_status_without_a_record_still_has_words(void **state)
{
    (void)state;
    mt_error_clear();
    assert_int_equal(comm_agree(&world, world.rank == 0 ? MT_IO : MT_OK), MT_IO);
    assert_string_equal(mt_error_peek()->message, "IO");
    assert_int_equal(mt_error_peek()->rank, 0);
}

static void unequal_hashes_name_the_first_rank_that_differs(void **state)
{
    (void)state;
    assert_mt_ok(comm_agree_equal(&world, "the job", UINT64_MAX));
    assert_mt_ok(comm_agree_equal(&world, "the job", 0));
    if (world.size == 1)
        return;
    for (int32_t odd = 0; odd < world.size; odd++) {
        char named[40];
        int32_t first =
            odd == 0 ? 1 : odd; /* where rank 0 is the odd one, rank 1 differs from it */
        uint64_t hash = world.rank == odd ? 0xabcdef : 0xffffffffffffff12u;
        assert_int_equal(comm_agree_equal(&world, "the job", hash), MT_CONFIG);
        snprintf(named, sizeof named, "first rank %d ", first);
        assert_non_null(strstr(mt_error_peek()->message, named));
        assert_non_null(strstr(mt_error_peek()->message, "the job"));
        assert_int_equal(mt_error_peek()->rank, first);
    }
}

static void a_stop_on_one_rank_is_agreed_by_all(void **state)
{
    (void)state;
    enum stop_reason reason = STOP_TERM;
    assert_mt_ok(stop_agree(&world, &reason));
    assert_int_equal(reason, STOP_NONE);
    for (int32_t who = 0; who < world.size; who++) {
        if (world.rank == who)
            stop_request(STOP_USR1);
        assert_mt_ok(stop_agree(&world, &reason));
        assert_int_equal(reason, STOP_USR1);
        stop_clear();
    }
}

static void hosts_and_cores_are_known(void **state)
{
    (void)state;
    struct topology t;
    char line[300];
    int64_t sum[2];
    assert_true(world.node_rank >= 0 && world.node_rank < world.node_size);
    assert_true(world.node_index >= 0 && world.node_index < world.node_count);
    for (int32_t r = 0; r < world.size; r++)
        assert_true(strlen(comm_host(&world, r)) > 0);
    assert_int_equal(comm_node_of(&world, world.rank), world.node_index);
    assert_mt_ok(topology_inspect(&t, &world));
    assert_true(t.cores >= 1 && t.threads >= 1 && t.node_cores >= t.cores);
    if (world.node_size > t.node_cores) {
        assert_true(t.oversubscribed);
        assert_true(t.warning_count >= 1);
        assert_non_null(strstr(t.warning[0], "ranks share"));
    }
    sum[0] = t.warning_count;
    sum[1] = -t.warning_count;
    assert_mt_ok(comm_max_i64(&world, sum, 2));
    assert_int_equal(sum[0], -sum[1]);
    topology_describe(&t, &world, line, sizeof line);
    assert_true(strlen(line) > 20);
    for (int i = 0; i < t.warning_count; i++)
        print_message("topology: %s\n", t.warning[i]);
    print_message("topology: %s\n%s\n", line, comm_library_version());
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_on_any_rank_in_any_position_is_the_same_on_all),
        cmocka_unit_test(the_worst_status_of_several_wins_and_ties_go_to_the_lowest_rank),
        cmocka_unit_test(an_agreed_failure_survives_further_agreements),
        cmocka_unit_test(a_status_without_a_record_still_has_words),
        cmocka_unit_test(unequal_hashes_name_the_first_rank_that_differs),
        cmocka_unit_test(a_stop_on_one_rank_is_agreed_by_all),
        cmocka_unit_test(hosts_and_cores_are_known),
    };
    return mpi_test_run(tests, sizeof tests / sizeof tests[0], argc, argv);
}
