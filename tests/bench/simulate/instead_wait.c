/*
 * See instead.h.  comm/reduce.c looks at its messages again and again, a nap between two looks; a
 * simulation would spend all its time on that.  So the requests of a fruitless look are kept, and
 * the nap that follows waits for one of them, then on to the end of the nap in which it came.
 * Linked with --wrap, so that comm is compiled as it stands.
 */
#include <math.h>
#include <string.h>

#include <mpi.h>

#include "comm/base/clock.h"
#include "tests/bench/simulate/instead.h"

/* More requests than that are one bucket's exchange with all ranks, which end together. */
enum { LOOKED_MOST = 64, ANY_MOST = 1024 };

struct looked {
    int count;
    MPI_Request *request;
};

static struct looked looked[LOOKED_MOST];
static int looked_count;

int __real_MPI_Testall(int count, MPI_Request *request, int *flag, MPI_Status *status);
int __wrap_MPI_Testall(int count, MPI_Request *request, int *flag, MPI_Status *status);
int __wrap_sched_yield(void);
void __wrap_clock_sleep_s(double seconds);

/* Whether all have been waited for.  SMPI keeps each message whose end a test finds in a list of
 * its rank and walks that list at the end of every message: so nothing is tested here, and the
 * pauses between looks wait for what has arrived, oldest first, without letting time pass. */
int __wrap_MPI_Testall(int count, MPI_Request *request, int *flag, MPI_Status *status)
{
    int at = 0;
    if (instead_looks.polls)
        return __real_MPI_Testall(count, request, flag, status);
    *flag = 1;
    for (int i = 0; i < count; i++)
        *flag = *flag != 0 && request[i] == MPI_REQUEST_NULL;
    while (at < looked_count && looked[at].request != request)
        at++;
    if (at < looked_count)
        memmove(looked + at, looked + at + 1, (size_t)(--looked_count - at) * sizeof *looked);
    if (*flag == 0 && looked_count < LOOKED_MOST)
        looked[looked_count++] = (struct looked){count, request};
    return MPI_SUCCESS;
}

static void wait_for_any(void)
{
    static MPI_Request all[ANY_MOST];
    static MPI_Request *from[ANY_MOST];
    int count = 0, index;
    for (int i = 0; i < looked_count; i++) {
        for (int k = 0; k < looked[i].count; k++) {
            if (looked[i].request[k] == MPI_REQUEST_NULL)
                continue;
            if (count == ANY_MOST) {
                (void)MPI_Waitall(looked[i].count, looked[i].request, MPI_STATUSES_IGNORE);
                return;
            }
            from[count] = &looked[i].request[k];
            all[count++] = looked[i].request[k];
        }
    }
    (void)MPI_Waitany(count, all, &index, MPI_STATUS_IGNORE);
    for (int i = 0; i < count; i++)
        *from[i] = all[i];
}

static void rest(void)
{
    double begin_s = MPI_Wtime();
    if (looked_count > 0)
        wait_for_any();
    looked_count = 0;
    double spent_s = MPI_Wtime() - begin_s, late_s = spent_s - instead_looks.window_s;
    if (late_s <= 0.0 || instead_looks.nap_s <= 0.0)
        return;
    double more_s = ceil(late_s / instead_looks.nap_s) * instead_looks.nap_s - late_s;
    if (more_s > 0.0)
        smpi_execute(more_s);
}

int __wrap_sched_yield(void)
{
    enum { YIELDS = 50, TOGETHER = 10 }; /* of a window, as in comm/reduce.c; that many at a time */
    static int yields;
    if (!instead_looks.polls)
        rest();
    else if (++yields % TOGETHER == 0)
        smpi_execute(instead_looks.window_s * TOGETHER / YIELDS);
    return 0;
}

void __wrap_clock_sleep_s(double seconds)
{
    (void)seconds;
    if (instead_looks.polls)
        smpi_execute(instead_looks.nap_s);
    else
        rest();
}
