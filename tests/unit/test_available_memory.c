/* What a host has left: the least of what kernel and cgroups say, in made-up folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "tests/support/test_dirs.h"
#include "trainer/available_memory.h"

static void put(const char *folder, const char *name, const char *text)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s%s", test_dir(), folder);
    assert_int_equal(file_make_dir(path), MT_OK);
    (void)snprintf(path, sizeof path, "%s%s/%s", test_dir(), folder, name);
    assert_int_equal(file_write_atomic(path, text, (int64_t)strlen(text)), MT_OK);
}

static void expect(int64_t bytes, const char *source)
{
    struct available_memory m;
    available_memory_find(&m, test_dir());
    assert_int_equal(m.bytes, bytes);
    assert_string_equal(m.source, source);
}

static void without_cgroups_the_kernel_decides(void **state)
{
    (void)state;
    expect(-1, "MemAvailable");
    put("/proc", "meminfo", "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    8000 kB\n");
    expect(8000 * 1024, "MemAvailable");
    test_dir_remove();
}

static void the_tightest_group_above_counts(void **state)
{
    (void)state;
    put("/proc", "meminfo", "MemAvailable: 8000 kB\n");
    put("/proc/self", "cgroup", "0::/job/step/task\n");
    put("/sys/fs/cgroup/job/step/task", "memory.max", "max\n");
    put("/sys/fs/cgroup/job/step/task", "memory.current", "1000\n");
    expect(8000 * 1024, "MemAvailable");
    put("/sys/fs/cgroup/job", "memory.max", "500000\n");
    put("/sys/fs/cgroup/job", "memory.current", "200000\n");
    expect(300000, "/sys/fs/cgroup/job/memory.max");
    put("/sys/fs/cgroup/job", "memory.stat", "anon 5\ninactive_file 50000\nactive_file 7\n");
    expect(350000, "/sys/fs/cgroup/job/memory.max");
    put("/sys/fs/cgroup/job/step", "memory.max", "100\n");
    put("/sys/fs/cgroup/job/step", "memory.current", "200\n");
    expect(0, "/sys/fs/cgroup/job/step/memory.max");
    test_dir_remove();
}

static void a_container_sees_its_limit_at_the_top(void **state)
{
    (void)state;
    put("/proc", "meminfo", "MemAvailable: 8000 kB\n");
    put("/proc/self", "cgroup", "0::/somewhere/else\n");
    put("/sys/fs/cgroup", "memory.max", "4000\n");
    put("/sys/fs/cgroup", "memory.current", "1000\n");
    expect(3000, "/sys/fs/cgroup/memory.max");
    test_dir_remove();
}

static void version_one_is_read_too(void **state)
{
    (void)state;
    put("/proc", "meminfo", "MemAvailable: 8000 kB\n");
    put("/proc/self", "cgroup", "5:cpu,cpuacct:/a\n4:memory:/slurm/uid_1\n0::/\n");
    put("/sys/fs/cgroup/memory/slurm/uid_1", "memory.limit_in_bytes", "9000\n");
    put("/sys/fs/cgroup/memory/slurm/uid_1", "memory.usage_in_bytes", "5000\n");
    put("/sys/fs/cgroup/memory/slurm/uid_1", "memory.stat", "cache 1\ntotal_inactive_file 70\n");
    expect(4070, "/sys/fs/cgroup/memory/slurm/uid_1/memory.limit_in_bytes");
    test_dir_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_cgroups_the_kernel_decides),
        cmocka_unit_test(the_tightest_group_above_counts),
        cmocka_unit_test(a_container_sees_its_limit_at_the_top),
        cmocka_unit_test(version_one_is_read_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
