#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "comm/base/arena.h"
#include "comm/base/memory.h"

/* A plan as modules write it: the same calls measure and place. */
struct planned {
    float *a, *b, *scratch;
    int32_t *c;
};

static void plan(struct arena *arena, struct planned *out)
{
    out->a = ARENA_TAKE(arena, float, 100);
    int64_t mark = arena_mark(arena);
    out->scratch = ARENA_TAKE(arena, float, 1000);
    arena_release(arena, mark);
    out->b = ARENA_TAKE(arena, float, 7);
    out->c = ARENA_TAKE(arena, int32_t, 0);
}

static void measuring_gives_the_size_that_placing_needs(void **state)
{
    (void)state;
    struct arena measure, placed;
    struct planned m, p;
    arena_init_measure(&measure);
    plan(&measure, &m);
    assert_null(m.a);
    assert_null(m.b);
    int64_t need = arena_peak_bytes(&measure);
    assert_int_equal(need, 448 + 4032); /* 400 and 4000 bytes, in whole cache lines */
    assert_int_equal(arena_init(&placed, need, "a plan"), MT_OK);
    plan(&placed, &p);
    assert_int_equal(arena_peak_bytes(&placed), need);
    assert_true((char *)p.b == (char *)p.a + 448);
    assert_ptr_equal(p.b, p.scratch);
    assert_int_equal((uintptr_t)p.c % 64, 0);
    arena_destroy(&placed);
    arena_destroy(&measure);
}

static void destroying_twice_or_a_zeroed_arena_is_fine(void **state)
{
    (void)state;
    struct arena a = {0};
    arena_destroy(&a);
    assert_int_equal(arena_init(&a, 128, "a"), MT_OK);
    arena_destroy(&a);
    arena_destroy(&a);
}

static void running_out_of_memory_is_reported(void **state)
{
    (void)state;
    struct arena a;
    mt_memory_fail_after(1);
    assert_int_equal(arena_init(&a, 128, "activations"), MT_NOMEM);
    assert_non_null(strstr(mt_error_peek()->message, "activations"));
}

static void released_memory_is_poisoned_in_debug_builds(void **state)
{
    (void)state;
#ifdef MT_POISON
    struct arena a;
    assert_int_equal(arena_init(&a, 4096, "a"), MT_OK);
    int64_t mark = arena_mark(&a);
    float *x = ARENA_TAKE(&a, float, 10);
    for (int i = 0; i < 10; i++)
        x[i] = 1;
    arena_release(&a, mark);
    float *again = ARENA_TAKE(&a, float, 10);
    for (int i = 0; i < 10; i++)
        assert_true(isnan(again[i]));
    arena_destroy(&a);
#else
    print_message("skipped: built without MT_POISON\n");
    skip();
#endif
}

static void taking_more_than_was_planned_traps(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        struct arena a;
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGILL, SIG_DFL);
        (void)signal(SIGTRAP, SIG_DFL);
        if (arena_init(&a, 64, "a") == MT_OK)
            (void)arena_take(&a, 65, 1);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measuring_gives_the_size_that_placing_needs),
        cmocka_unit_test(destroying_twice_or_a_zeroed_arena_is_fine),
        cmocka_unit_test(running_out_of_memory_is_reported),
        cmocka_unit_test(released_memory_is_poisoned_in_debug_builds),
        cmocka_unit_test(taking_more_than_was_planned_traps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
