#include "tests/support/mpi_test.h"

#include "comm/base/memory.h"

/* Every case runs with messages in one piece and in pieces of 100 bytes. */
static const int64_t chunks[] = {(int64_t)1 << 30, 100};

static unsigned char byte_at(int64_t i, int32_t rank)
{
    return (unsigned char)(i * 7 + i / 256 + rank * 31);
}

static void broadcasts_reach_all_ranks_from_any_root(void **state)
{
    (void)state;
    for (int c = 0; c < 2; c++)
        for (int32_t root = 0; root < world.size; root++)
            for (int64_t bytes = 0; bytes < 1000; bytes = bytes * 3 + 1) {
                unsigned char data[1000] = {0};
                world.chunk_bytes = chunks[c];
                for (int64_t i = 0; i < bytes && world.rank == root; i++)
                    data[i] = byte_at(i, root);
                assert_mt_ok(comm_broadcast(&world, data, bytes, root));
                for (int64_t i = 0; i < 1000; i++)
                    assert_int_equal(data[i], i < bytes ? byte_at(i, root) : 0);
            }
}

static void a_blob_arrives_with_its_length_and_a_nul(void **state)
{
    (void)state;
    for (int c = 0; c < 2; c++)
        for (int32_t root = 0; root < world.size; root++) {
            void *data = NULL;
            int64_t bytes = 0;
            world.chunk_bytes = chunks[c];
            if (world.rank == root) {
                bytes = 250 + root;
                assert_mt_ok(mt_alloc(&data, bytes, 1, "a blob"));
                for (int64_t i = 0; i < bytes; i++)
                    ((unsigned char *)data)[i] = byte_at(i, root);
            }
            assert_mt_ok(comm_broadcast_blob(&world, &data, &bytes, root));
            assert_int_equal(bytes, 250 + root);
            for (int64_t i = 0; i < bytes; i++)
                assert_int_equal(((unsigned char *)data)[i], byte_at(i, root));
            if (world.rank != root)
                assert_int_equal(((unsigned char *)data)[bytes], 0);
            mt_free(&data);
        }
}

static void no_memory_on_one_rank_fails_on_all(void **state)
{
    (void)state;
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (int32_t poor = 0; poor < world.size; poor++) {
        void *data = NULL;
        int64_t bytes = 10, offsets[65];
        double sum = 1.0;
        mt_memory_fail_after(world.rank == poor ? 1 : 0);
        assert_int_equal(comm_allgatherv(&world, "0123456789", bytes, &data, offsets), MT_NOMEM);
        assert_int_equal(mt_error_peek()->rank, poor);
        assert_null(data);
        mt_memory_fail_after(world.rank == poor ? 1 : 0);
        assert_int_equal(comm_sum_f64(&world, &sum, 1), MT_NOMEM);
        if (world.size > 1) {
            int32_t root = (poor + 1) % world.size;
            char text[] = "0123456789";
            void *blob = world.rank == root ? text : NULL;
            mt_memory_fail_after(world.rank == poor ? 1 : 0);
            assert_int_equal(comm_broadcast_blob(&world, &blob, &bytes, root), MT_NOMEM);
        }
        mt_memory_fail_after(0);
        mt_error_clear();
    }
    mt_memory_stats(&after);
    assert_int_equal(after.live_blocks, before.live_blocks);
}

static void gathers_keep_rank_order_at_any_length(void **state)
{
    (void)state;
    for (int c = 0; c < 2; c++)
        for (int32_t root = 0; root < world.size; root++) {
            unsigned char mine[400], *all = NULL, *at_root = NULL;
            int64_t offsets[65] = {0}, bytes = (world.rank + root) % 3 == 0 ? 0 : 90 * world.rank;
            world.chunk_bytes = chunks[c];
            if (bytes > 400)
                bytes = 400;
            for (int64_t i = 0; i < bytes; i++)
                mine[i] = byte_at(i, world.rank);
            assert_mt_ok(comm_allgatherv(&world, mine, bytes, (void **)&all, offsets));
            for (int32_t r = 0; r < world.size; r++) {
                int64_t length = (r + root) % 3 == 0 ? 0 : 90 * r;
                assert_int_equal(offsets[r + 1] - offsets[r], length > 400 ? 400 : length);
                for (int64_t i = offsets[r]; i < offsets[r + 1]; i++)
                    assert_int_equal(all[i], byte_at(i - offsets[r], r));
            }
            int64_t root_offsets[65] = {0};
            assert_mt_ok(comm_gatherv(&world, mine, bytes, (void **)&at_root,
                                      world.rank == root ? root_offsets : NULL, root));
            if (world.rank == root) {
                assert_memory_equal(root_offsets, offsets,
                                    ((size_t)world.size + 1) * sizeof *offsets);
                if (offsets[world.size] > 0)
                    assert_memory_equal(at_root, all, (size_t)offsets[world.size]);
            } else {
                assert_null(at_root);
            }
            mt_free(&all);
            mt_free(&at_root);
        }
}

static void fixed_lengths_are_gathered(void **state)
{
    (void)state;
    for (int c = 0; c < 2; c++) {
        unsigned char mine[150], all[64 * 150];
        world.chunk_bytes = chunks[c];
        for (int64_t i = 0; i < 150; i++)
            mine[i] = byte_at(i, world.rank);
        assert_mt_ok(comm_allgather(&world, mine, 150, all));
        for (int32_t r = 0; r < world.size; r++)
            for (int64_t i = 0; i < 150; i++)
                assert_int_equal(all[r * 150 + i], byte_at(i, r));
    }
}

static void small_arrays_are_combined(void **state)
{
    (void)state;
    int64_t R = world.size, r = world.rank;
    int64_t max[2] = {r, -r}, min[2] = {r, -r}, sum[2] = {r, (int64_t)1 << 40}, bits[1] = {1 << r};
    double fmax[1] = {(double)r / 3}, fmin[1] = {(double)r / 3};
    assert_mt_ok(comm_max_i64(&world, max, 2));
    assert_mt_ok(comm_min_i64(&world, min, 2));
    assert_mt_ok(comm_sum_i64(&world, sum, 2));
    assert_mt_ok(comm_or_i64(&world, bits, 1));
    assert_mt_ok(comm_max_f64(&world, fmax, 1));
    assert_mt_ok(comm_min_f64(&world, fmin, 1));
    assert_int_equal(max[0], R - 1);
    assert_int_equal(max[1], 0);
    assert_int_equal(min[0], 0);
    assert_int_equal(min[1], 1 - R);
    assert_int_equal(sum[0], R * (R - 1) / 2);
    assert_int_equal(sum[1], R << 40);
    assert_int_equal(bits[0], (1 << R) - 1);
    assert_true(fmax[0] == (double)(R - 1) / 3 && fmin[0] == 0.0);
}

static void doubles_are_added_in_rank_order(void **state)
{
    (void)state;
    double mine[3] = {1.0 / (world.rank + 3), 1e17 * (world.rank % 2 ? -1 : 1), 0.1}, expected[3];
    for (int i = 0; i < 3; i++) {
        expected[i] = 0.0;
        for (int32_t r = 0; r < world.size; r++) {
            double v[3] = {1.0 / (r + 3), 1e17 * (r % 2 ? -1 : 1), 0.1};
            expected[i] = r == 0 ? v[i] : expected[i] + v[i];
        }
    }
    assert_mt_ok(comm_sum_f64(&world, mine, 3));
    assert_memory_equal(mine, expected, sizeof mine);
}

static void barriers_return(void **state)
{
    (void)state;
    assert_mt_ok(comm_barrier(&world));
    assert_mt_ok(comm_node_barrier(&world));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broadcasts_reach_all_ranks_from_any_root),
        cmocka_unit_test(a_blob_arrives_with_its_length_and_a_nul),
        cmocka_unit_test(no_memory_on_one_rank_fails_on_all),
        cmocka_unit_test(gathers_keep_rank_order_at_any_length),
        cmocka_unit_test(fixed_lengths_are_gathered),
        cmocka_unit_test(small_arrays_are_combined),
        cmocka_unit_test(doubles_are_added_in_rank_order),
        cmocka_unit_test(barriers_return),
    };
    return mpi_test_run(tests, sizeof tests / sizeof tests[0], argc, argv);
}
