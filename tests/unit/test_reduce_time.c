/* Expected seconds are worked out beside each case, from the method and not from the code. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "comm/reduce_time.h"

enum { MI = 1 << 20 };

enum gathers { NOTHING, SUMS, BLOCKS };

static struct reduce_time plan_gather(int64_t elements, int32_t ranks, enum reduce_path path,
                                      int64_t bucket, enum gathers what,
                                      const struct reduce_network *n)
{
    struct range range = {0, elements};
    struct range_list ranges = {.r = &range, .count = 1, .capacity = 1};
    struct reduce_volume_setup setup = {.lanes = 1024,
                                        .ranks = ranks,
                                        .mode = REDUCE_EXACT,
                                        .path = path,
                                        .bucket_elements = bucket,
                                        .gathers = what == SUMS,
                                        .gathers_blocks = what == BLOCKS};
    struct reduce_time t;
    assert_int_equal(reduce_time_plan(&t, &ranges, &setup, n), MT_OK);
    return t;
}

static struct reduce_time plan(int64_t elements, int32_t ranks, enum reduce_path path,
                               int64_t bucket, const struct reduce_network *n)
{
    return plan_gather(elements, ranks, path, bucket, BLOCKS, n);
}

static void near(double got, double expected)
{
    if (fabs(got - expected) > 1e-3 * expected)
        fail_msg("%.9g, expected %.9g", got, expected);
}

static void one_rank_takes_no_time(void **state)
{
    (void)state;
    struct reduce_network n = {.latency_s = 1.0, .bytes_s = 1.0, .message_s = 1.0};
    struct reduce_time t = plan(64 * MI, 1, REDUCE_PATH_AUTO, 0, &n);
    assert_true(t.reduce_s == 0.0 && t.gather_s == 0.0 && t.chain_s == 0.0);
}

static void bandwidth_alone_moves_each_element_once_less_a_share(void **state)
{
    (void)state;
    struct reduce_network n = {.bytes_s = 1e9};
    for (int32_t ranks = 2; ranks <= 64; ranks *= 2) {
        /* (R-1)/R of 64 Mi floats of 4 bytes; the norms: 4096 blocks of 8 bytes, log2(R) times */
        double sums_s = 4.0 * 64 * MI * (ranks - 1) / ranks / 1e9;
        double norm_s = log2(ranks) * 8 * 4096 / 1e9;
        struct reduce_time t = plan(64 * MI, ranks, REDUCE_PATH_HALVING, 0, &n);
        near(t.reduce_s, sums_s + norm_s);
        near(t.gather_s, sums_s);
        near(plan(64 * MI, ranks, REDUCE_PATH_DIRECT, 0, &n).link_s, sums_s);
    }
}

static void sums_for_everybody_are_part_of_the_stream(void **state)
{
    (void)state;
    struct reduce_network n = {.bytes_s = 1e9};
    double sums_s = 4.0 * 64 * MI * 15 / 16 / 1e9, norm_s = 4 * 8 * 4096 / 1e9;
    struct reduce_time t = plan_gather(64 * MI, 16, REDUCE_PATH_HALVING, 0, SUMS, &n);
    near(t.reduce_s, 2 * sums_s + norm_s);
    assert_true(t.gather_s == 0.0);
    t = plan_gather(64 * MI, 16, REDUCE_PATH_DIRECT, 0, SUMS, &n);
    near(t.reduce_s, 2 * sums_s + norm_s);
    assert_true(t.gather_s == 0.0);
    t = plan_gather(64 * MI, 16, REDUCE_PATH_HALVING, 0, NOTHING, &n);
    near(t.reduce_s, sums_s + norm_s);
    assert_true(t.gather_s == 0.0);
    /* each way has its rounds */
    n = (struct reduce_network){.latency_s = 1e-3, .bytes_s = 1e15};
    near(plan_gather(64 * MI, 16, REDUCE_PATH_HALVING, 0, SUMS, &n).rounds_s, 64 / 8 * 8 * 1e-3);
}

static void latency_counts_rounds_and_buckets_under_way(void **state)
{
    (void)state;
    struct reduce_network n = {.latency_s = 1e-3, .bytes_s = 1e15};
    /* 64 buckets, 8 at a time, 5 rounds each; norms in 5 rounds; a gather is their mirror */
    struct reduce_time t = plan(64 * MI, 32, REDUCE_PATH_HALVING, 0, &n);
    assert_int_equal(t.buckets, 64);
    near(t.rounds_s, 64 / 8 * 5 * 1e-3);
    near(t.norm_s, 5 * 1e-3);
    near(t.reduce_s, t.rounds_s + t.norm_s);
    near(t.gather_s, 64 / 8 * 5 * 1e-3);
    /* a single round, whatever the ranks, and another one back */
    t = plan(64 * MI, 32, REDUCE_PATH_DIRECT, 0, &n);
    near(t.rounds_s, 64 / 8 * 1e-3);
    near(t.gather_s, 64 / 8 * 1e-3);
    /* an eighth of the buckets: an eighth of the latencies */
    near(plan(64 * MI, 32, REDUCE_PATH_HALVING, 8 * MI, &n).gather_s, 8 / 8 * 5 * 1e-3);
    near(plan(64 * MI, 32, REDUCE_PATH_DIRECT, 8 * MI, &n).gather_s, 8 / 8 * 1e-3);
}

static void ranks_of_one_host_share_its_network_only_where_they_must(void **state)
{
    (void)state;
    struct reduce_network n = {.bytes_s = 1e9, .host_ranks = 4, .host_bytes_s = 1e12};
    double all_s = 4.0 * 64 * MI / 1e9;
    /* after two halvings among its own a rank has a quarter left: 4 ranks send 12/16 of all */
    near(plan(64 * MI, 16, REDUCE_PATH_HALVING, 0, &n).link_s, all_s * 12 / 16);
    /* every rank sends 12/16 of its own block out */
    near(plan(64 * MI, 16, REDUCE_PATH_DIRECT, 0, &n).link_s, 4 * all_s * 12 / 16);
    n.host_ranks = 16; /* one host: 15/16 of a block between its ranks */
    near(plan(64 * MI, 16, REDUCE_PATH_HALVING, 0, &n).link_s, all_s * 15 / 16 / 1000);
}

static struct reduce_time plan_hosts(int64_t elements, int32_t ranks, int32_t hosts,
                                     enum gathers what, const struct reduce_network *n)
{
    struct range range = {0, elements};
    struct range_list ranges = {.r = &range, .count = 1, .capacity = 1};
    struct reduce_volume_setup setup = {.lanes = 1024,
                                        .ranks = ranks,
                                        .mode = REDUCE_EXACT,
                                        .path = REDUCE_PATH_HOSTS,
                                        .hosts = hosts,
                                        .bucket_elements = MI,
                                        .gathers = what == SUMS,
                                        .gathers_blocks = what == BLOCKS};
    struct reduce_time t;
    assert_int_equal(reduce_time_plan(&t, &ranges, &setup, n), MT_OK);
    return t;
}

static void a_host_sends_once_what_its_ranks_have_joined(void **state)
{
    (void)state;
    struct reduce_network n = {.bytes_s = 1e9};
    /* of all elements those that other hosts own, 3/4, once whatever the ranks; and as many back */
    double link_s = 4.0 * 64 * MI * 3 / 4 / 1e9;
    for (int32_t locals = 2; locals <= 16; locals *= 2) {
        near(plan_hosts(64 * MI, 4 * locals, 4, NOTHING, &n).link_s, link_s);
        near(plan_hosts(64 * MI, 4 * locals, 4, SUMS, &n).link_s, 2 * link_s);
        near(plan_hosts(64 * MI, 4 * locals, 4, BLOCKS, &n).gather_s, link_s);
    }
}

static void ranks_of_a_host_copy_a_block_and_add_their_share(void **state)
{
    (void)state;
    struct reduce_network n = {.bytes_s = 1e15, .memory_bytes_s = 1e9};
    /* 4 hosts of 8: a block copied, 2 words an element; 7 additions over an eighth; 3 more, and a
     * square, over a 32nd; where all ranks get the sum, another block is copied */
    double words = 2 + 3 * 7.0 / 8 + 3 * 3.0 / 32 + 1.0 / 32;
    near(plan_hosts(64 * MI, 32, 4, NOTHING, &n).work_s, 4 * words * 64 * MI / 1e9);
    near(plan_hosts(64 * MI, 32, 4, SUMS, &n).work_s, 4 * (words + 2) * 64 * MI / 1e9);
    near(plan_hosts(64 * MI, 32, 4, BLOCKS, &n).gather_s, 4.0 * 2 * 64 * MI / 1e9);
}

static void a_round_by_hosts_is_a_message_and_two_looks(void **state)
{
    (void)state;
    struct reduce_network n = {.bytes_s = 1e15, .latency_s = 1e-3, .look_s = 2e-3};
    /* 64 buckets, 4 at a time; half a look is lost on what neighbours have done and on a message */
    near(plan_hosts(64 * MI, 32, 4, NOTHING, &n).rounds_s, 64 / 4 * (1e-3 + 2 * 1e-3));
    near(plan_hosts(64 * MI, 32, 4, SUMS, &n).rounds_s, 64 / 4 * 2 * (1e-3 + 2 * 1e-3));
}

static void work_on_messages_and_sums_may_be_what_lasts(void **state)
{
    (void)state;
    struct reduce_network n = {.bytes_s = 1e15, .message_s = 1e-3};
    /* direct: 63 messages a bucket each way; halving: 6 */
    near(plan(64 * MI, 64, REDUCE_PATH_DIRECT, 0, &n).work_s, 64 * 63 * 2 * 1e-3);
    near(plan(64 * MI, 64, REDUCE_PATH_HALVING, 0, &n).work_s, 64 * 6 * 2 * 1e-3);
    n = (struct reduce_network){.bytes_s = 1e15, .memory_bytes_s = 1e9};
    /* two read, one written for each addition; a share read once more for the norm */
    near(plan(64 * MI, 2, REDUCE_PATH_HALVING, 0, &n).work_s, (12 + 4) * 32.0 * MI / 1e9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_takes_no_time),
        cmocka_unit_test(bandwidth_alone_moves_each_element_once_less_a_share),
        cmocka_unit_test(sums_for_everybody_are_part_of_the_stream),
        cmocka_unit_test(latency_counts_rounds_and_buckets_under_way),
        cmocka_unit_test(ranks_of_one_host_share_its_network_only_where_they_must),
        cmocka_unit_test(a_host_sends_once_what_its_ranks_have_joined),
        cmocka_unit_test(ranks_of_a_host_copy_a_block_and_add_their_share),
        cmocka_unit_test(a_round_by_hosts_is_a_message_and_two_looks),
        cmocka_unit_test(work_on_messages_and_sums_may_be_what_lasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
