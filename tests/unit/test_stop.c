#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/base/clock.h"
#include "comm/stop.h"

static int install(void **state)
{
    (void)state;
    stop_clear();
    return stop_install() == MT_OK ? 0 : -1;
}

static void each_signal_sets_its_reason(void **state)
{
    (void)state;
    static const struct {
        int number;
        enum stop_reason reason;
    } cases[] = {
        {SIGUSR1, STOP_USR1}, {SIGUSR2, STOP_USR2}, {SIGINT, STOP_INT}, {SIGTERM, STOP_TERM}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stop_clear();
        assert_false(stop_requested_local());
        assert_int_equal(raise(cases[i].number), 0);
        assert_true(stop_requested_local());
        assert_int_equal(stop_reason_local(), cases[i].reason);
    }
}

static void the_most_urgent_reason_wins(void **state)
{
    (void)state;
    stop_request(STOP_TIME_LIMIT);
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    stop_request(STOP_COMMAND);
    assert_int_equal(stop_reason_local(), STOP_TERM);
    assert_string_equal(stop_reason_text(stop_reason_local()), "signal TERM");
}

/* What becomes of a child that is interrupted `times` times. */
static int interrupted_child(int times, int clear_between)
{
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < times; i++) {
            (void)raise(SIGINT);
            if (clear_between)
                stop_clear();
        }
        _exit(stop_requested_local() ? 3 : 4);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void the_second_interrupt_ends_the_process(void **state)
{
    (void)state;
    int once = interrupted_child(1, 0), twice = interrupted_child(2, 0);
    assert_true(WIFEXITED(once) && WEXITSTATUS(once) == 3);
    assert_true(WIFSIGNALED(twice) && WTERMSIG(twice) == SIGINT);
}

/* Signals to the whole process, which its only computing thread blocks. */
static int listening_child(int times)
{
    pid_t child = fork();
    if (child == 0) {
        sigset_t blocked;
        (void)alarm(120); /* a hang is a failure */
        if (stop_listen() != MT_OK || pthread_sigmask(SIG_BLOCK, NULL, &blocked) != 0 ||
            sigismember(&blocked, SIGINT) != 1 || sigismember(&blocked, SIGUSR1) != 1)
            _exit(5);
        for (int i = 0; i < times; i++) {
            (void)kill(getpid(), SIGINT);
            while (i > 0 || !stop_requested_local()) /* the second ends the process */
                clock_sleep_s(0.001);
        }
        _exit(stop_reason_local() == STOP_INT ? 3 : 4);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void a_listener_takes_the_signals_of_all_threads(void **state)
{
    (void)state;
    int once = listening_child(1), twice = listening_child(2);
    assert_true(WIFEXITED(once) && WEXITSTATUS(once) == 3);
    assert_true(WIFSIGNALED(twice) && WTERMSIG(twice) == SIGINT);
}

static void taking_the_wish_back_catches_interrupts_again(void **state)
{
    (void)state;
    int status = interrupted_child(3, 1);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 4);
}

static void every_reason_has_a_text(void **state)
{
    (void)state;
    for (int r = 0; r < STOP_REASON_COUNT; r++)
        assert_true(strlen(stop_reason_text((enum stop_reason)r)) > 0);
    assert_non_null(stop_reason_text((enum stop_reason)99));
}

static void a_deadline_is_a_wish_once_it_has_passed(void **state)
{
    (void)state;
    stop_set_deadline(clock_now_s() + 3600.0);
    assert_false(stop_requested_local());
    stop_set_deadline(clock_now_s());
    assert_int_equal(stop_reason_local(), STOP_TIME_LIMIT);
    stop_set_deadline(INFINITY);
    stop_clear();
    assert_false(stop_requested_local());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_signal_sets_its_reason, install),
        cmocka_unit_test_setup(the_most_urgent_reason_wins, install),
        cmocka_unit_test_setup(the_second_interrupt_ends_the_process, install),
        cmocka_unit_test_setup(a_listener_takes_the_signals_of_all_threads, install),
        cmocka_unit_test_setup(taking_the_wish_back_catches_interrupts_again, install),
        cmocka_unit_test_setup(a_deadline_is_a_wish_once_it_has_passed, install),
        cmocka_unit_test_setup(every_reason_has_a_text, install),
    };
    return cmocka_run_group_tests_name("stop", tests, NULL, NULL);
}
