/*
 * See stop.h.  One atomic int; the handler raises it to the most urgent reason and returns.  INT is
 * given back to the system by its first arrival (SA_RESETHAND), so that a second one ends the
 * process; saves are atomic, so nothing is harmed.  System calls go on after a signal (SA_RESTART).
 *
 * No thread that computes may be interrupted: oneDNN 2.6 makes kernels for sgemm at run time, in
 * which the frame of a signal destroys the heap (a run died after some hundred of them:
 * tests/fault/test_signals.sh).  So those threads block what is caught here; a listener does not.
 */
#include "comm/stop.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/clock.h"
#include "comm/exchange.h"

static atomic_int wish;
static atomic_bool installed;
static _Atomic double deadline_s = INFINITY;

static const char *const reason_text[STOP_REASON_COUNT] = {
    [STOP_NONE] = "nothing",          [STOP_COMMAND] = "a stop command",
    [STOP_TIME_LIMIT] = "time limit", [STOP_USR1] = "signal USR1",
    [STOP_USR2] = "signal USR2",      [STOP_INT] = "signal INT",
    [STOP_TERM] = "signal TERM",
};

static const struct {
    int number;
    enum stop_reason reason;
} caught[] = {{SIGUSR1, STOP_USR1}, {SIGUSR2, STOP_USR2}, {SIGINT, STOP_INT}, {SIGTERM, STOP_TERM}};

enum { CAUGHT_COUNT = (int)(sizeof caught / sizeof caught[0]) };

void stop_request(enum stop_reason reason)
{
    int now = atomic_load(&wish);
    while ((int)reason > now && !atomic_compare_exchange_weak(&wish, &now, (int)reason)) {
    }
}

static void on_signal(int number)
{
    for (int i = 0; i < CAUGHT_COUNT; i++)
        if (caught[i].number == number)
            stop_request(caught[i].reason);
}

mt_status stop_install(void)
{
    for (int i = 0; i < CAUGHT_COUNT; i++) {
        struct sigaction a;
        memset(&a, 0, sizeof a);
        a.sa_handler = on_signal;
        a.sa_flags = SA_RESTART | (caught[i].number == SIGINT ? (int)SA_RESETHAND : 0);
        (void)sigemptyset(&a.sa_mask);
        if (sigaction(caught[i].number, &a, NULL) != 0)
            return MT_FAIL(MT_BUG, "cannot catch %s: %s", reason_text[caught[i].reason],
                           strerror(errno));
    }
    atomic_store(&installed, true);
    return MT_OK;
}

static void *listen_for_signals(void *context)
{
    for (;;)
        (void)pause();
    return context;
}

mt_status stop_listen(void)
{
    pthread_t listener;
    sigset_t signals;
    int problem = pthread_create(&listener, NULL, listen_for_signals, NULL);
    if (problem != 0)
        return MT_FAIL(MT_NOMEM, "no thread to listen for signals: %s", strerror(problem));
    (void)pthread_detach(listener);
    (void)sigemptyset(&signals);
    for (int i = 0; i < CAUGHT_COUNT; i++)
        (void)sigaddset(&signals, caught[i].number);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* threads made from here on inherit it */
    return MT_OK;
}

void stop_set_deadline(double at_s)
{
    atomic_store(&deadline_s, at_s);
}

bool stop_requested_local(void)
{
    return stop_reason_local() != STOP_NONE;
}

enum stop_reason stop_reason_local(void)
{
    if (clock_now_s() >= atomic_load(&deadline_s))
        stop_request(STOP_TIME_LIMIT);
    return (enum stop_reason)atomic_load(&wish);
}

void stop_clear(void)
{
    atomic_store(&wish, STOP_NONE);
    if (atomic_load(&installed) && stop_install() != MT_OK)
        mt_error_clear(); /* INT then keeps its default: it ends the process */
}

const char *stop_reason_text(enum stop_reason reason)
{
    return (int)reason >= 0 && reason < STOP_REASON_COUNT ? reason_text[reason] : "unknown reason";
}

mt_status stop_agree(const struct comm *c, enum stop_reason *out)
{
    int64_t worst = stop_reason_local();
    MT_TRY(comm_max_i64(c, &worst, 1));
    *out = (enum stop_reason)worst;
    return MT_OK;
}
