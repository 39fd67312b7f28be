/* reduce_paths: which ways of a reduction a world of ranks can go; after mpi_test.h. */
#ifndef MT_TESTS_REDUCE_PATHS_H
#define MT_TESTS_REDUCE_PATHS_H

#include "comm/reduce.h"
#include "tests/support/mpi_test.h"

static inline bool path_fits(enum reduce_path path)
{
    if (path == REDUCE_PATH_HALVING)
        return is_power_of_two(world.size);
    if (path == REDUCE_PATH_HOSTS)
        return reduce_path_hosts_fits(&world);
    return path != REDUCE_PATH_NODE || world.node_count == 1;
}

#endif
