/* test_dirs: a folder of a test's own, gone when the test ends. */
#ifndef MT_TEST_DIRS_H
#define MT_TEST_DIRS_H

enum { TEST_PATH_BYTES = 4096 };

/* Makes a new empty folder under TMPDIR and returns its path; the same one until it is removed. */
const char *test_dir(void);

/* Before the first test_dir(): lets it be in memory where TMPDIR is not set and there is room for
 * it, for tests that force thousands of files to disk. */
void test_dir_in_memory(void);

/* The path of a file in test_dir(), in one of eight static buffers. */
const char *test_path(const char *name);

/* Writes `count` bytes to test_path(name) and returns that path. */
const char *test_write_file(const char *name, const void *bytes, long count);
const char *test_write_text(const char *name, const char *text);

/* Removes the folder with all that is in it; also runs at exit. */
void test_dir_remove(void);

#endif
