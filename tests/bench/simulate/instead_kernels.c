/* See instead.h: the additions of comm/reduce_kernels.c without numbers; each lasts as long as its
 * traffic with memory does.  Linked with --wrap. */
#include <stdint.h>

#include <mpi.h>

#include "comm/reduce_kernels.h"
#include "comm/reduce_pack.h"
#include "tests/bench/simulate/instead.h"

void __wrap_lane_tree_add(float *into, const float *from, int64_t count);
void __wrap_reduce_add_into(float *out, const float *left, const float *right, int64_t count);
int64_t __wrap_reduce_copy(const struct range_list *active, int64_t begin, int64_t end,
                           const float *from, float *to);
void __wrap_reduce_square_piece(double sum[REDUCE_PARTS], int64_t first, const float *x,
                                int64_t count);

static void pass_time(int64_t elements, double words)
{
    if (instead_memory_bytes_s > 0.0 && elements > 0)
        smpi_execute(words * (double)sizeof(float) * (double)elements / instead_memory_bytes_s);
}

void __wrap_lane_tree_add(float *into, const float *from, int64_t count)
{
    (void)into;
    (void)from;
    pass_time(count, 3.0);
}

void __wrap_reduce_add_into(float *out, const float *left, const float *right, int64_t count)
{
    (void)out;
    (void)left;
    (void)right;
    pass_time(count, 3.0);
}

int64_t __wrap_reduce_copy(const struct range_list *active, int64_t begin, int64_t end,
                           const float *from, float *to);
int64_t __wrap_reduce_copy(const struct range_list *active, int64_t begin, int64_t end,
                           const float *from, float *to)
{
    int64_t count = range_list_within(active, begin, end);
    (void)from;
    (void)to;
    pass_time(count, 2.0);
    return count;
}

void __wrap_reduce_square_piece(double sum[REDUCE_PARTS], int64_t first, const float *x,
                                int64_t count)
{
    (void)x;
    pass_time(count, 1.0);
    sum[first % REDUCE_PARTS] += 1.0;
}
