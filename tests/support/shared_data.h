/*
 * shared_data: public data sets that tests use where they are at hand.
 *
 * They lie at $MT_SHARED, else beside the source folder in ../shared.  A test that needs one that
 * is absent is skipped and says so.
 */
#ifndef MT_TEST_SHARED_DATA_H
#define MT_TEST_SHARED_DATA_H

/* The path of a file or folder ("data/vocab/bert-base-uncased.txt"), in one of eight static
 * buffers; NULL where it is absent, after printing "skipped: ... absent". */
const char *shared_data_find(const char *name);

/* For a cmocka case: `path` becomes the data's path, or the case is skipped. */
#define SHARED_DATA_OR_SKIP(path, name)                                                            \
    const char *path = shared_data_find(name);                                                     \
    if (path == NULL)                                                                              \
    skip()

#endif
