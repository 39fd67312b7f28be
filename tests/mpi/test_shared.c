#include "tests/support/mpi_test.h"

#include <dirent.h>

#include "comm/base/memory.h"
#include "comm/shared.h"

/* Objects in /dev/shm that this process has made and not unlinked. */
static int names_left(void)
{
    char prefix[64];
    int n = 0;
    snprintf(prefix, sizeof prefix, "mttrain-%ld-", (long)getpid());
    DIR *d = opendir("/dev/shm");
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    if (d != NULL)
        closedir(d);
    return n;
}

static void one_copy_is_seen_by_all_ranks(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        struct shared *s = NULL;
        int64_t bytes = 1000 + 70000 * round, firsts = 0;
        assert_mt_ok(shared_create(&s, &world, bytes, "a test"));
        unsigned char *base = shared_base(s);
        assert_int_equal((uintptr_t)base % 64, 0);
        assert_int_equal(shared_bytes(s), bytes);
        for (int64_t i = 0; i < bytes; i++)
            assert_int_equal(base[i], 0);
        assert_mt_ok(shared_barrier(s));
        for (int64_t i = world.node_rank; i < bytes; i += world.node_size)
            base[i] = (unsigned char)(i * 13 + round);
        assert_mt_ok(shared_barrier(s));
        for (int64_t i = 0; i < bytes; i++)
            assert_int_equal(base[i], (unsigned char)(i * 13 + round));
        firsts = shared_is_first(s);
        assert_mt_ok(comm_sum_i64(&world, &firsts, 1));
        assert_int_equal(firsts, world.node_count);
        assert_mt_ok(shared_barrier(s));
        shared_destroy(&s);
        assert_null(s);
    }
}

static void too_much_is_an_error_on_all_ranks_and_leaves_nothing(void **state)
{
    (void)state;
    struct shared *s = NULL;
    assert_int_equal(shared_create(&s, &world, (int64_t)1 << 60, "a glutton"), MT_NOMEM);
    assert_non_null(strstr(mt_error_peek()->message, "a glutton"));
    assert_null(s);
    assert_int_equal(names_left(), 0);
    assert_true(shared_free_bytes() != 0);
    if (world.size > 1)
        assert_int_equal(shared_create(&s, &world, 100 + world.rank, "a quarrel"), MT_CONFIG);
    assert_int_equal(shared_create(&s, &world, 0, "nothing"), MT_BUG);
}

static void one_rank_without_memory_fails_all(void **state)
{
    (void)state;
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (int32_t poor = 0; poor < world.size; poor++) {
        struct shared *s = NULL;
        mt_memory_fail_after(world.rank == poor ? 1 : 0);
        assert_int_equal(shared_create(&s, &world, 5000, "a test"), MT_NOMEM);
        assert_int_equal(mt_error_peek()->rank, poor);
        assert_null(s);
    }
    mt_memory_fail_after(0);
    mt_memory_stats(&after);
    assert_int_equal(after.live_blocks, before.live_blocks);
}

static void no_name_is_left_behind(void **state)
{
    (void)state;
    struct shared *s = NULL;
    assert_mt_ok(shared_create(&s, &world, 4096, "a test"));
    assert_int_equal(names_left(), 0);
    shared_destroy(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_copy_is_seen_by_all_ranks),
        cmocka_unit_test(too_much_is_an_error_on_all_ranks_and_leaves_nothing),
        cmocka_unit_test(one_rank_without_memory_fails_all),
        cmocka_unit_test(no_name_is_left_behind),
    };
    return mpi_test_run(tests, sizeof tests / sizeof tests[0], argc, argv);
}
