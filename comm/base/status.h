/*
 * status: what a function answers, and the one error record behind it.
 *
 * Every function that can fail returns an mt_status.  MT_OK is 0; any other value says what kind
 * of failure it is, and the calling thread's error record says the rest: a message for a person
 * (what is wrong, where, how to mend it), the rank it began on, and the functions it passed
 * through.  Writing the record never allocates, so running out of memory can be reported.
 *
 *     if (fd < 0)
 *         return MT_FAIL(MT_IO, "cannot open %s: %s", path, strerror(errno));
 *     MT_TRY(shard_reader_open(&r, path));            // adds a frame and returns the failure
 *     MT_TRY_GOTO(st, shard_write(w, row), done);     // the same, leaving by the label done
 *
 * The record is per thread.  A worker thread hands its failure over with mt_error_get in the
 * worker and mt_error_set in the thread that joins it; comm does the same between ranks.
 * Only main prints the record.
 */
#ifndef MT_BASE_STATUS_H
#define MT_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* name, exit code of the process, description */
#define MT_STATUS_LIST(X)                                                                          \
    X(OK, 0, "done")                                                                               \
    X(BUG, 1, "internal error")                                                                    \
    X(NOMEM, 1, "out of memory")                                                                   \
    X(MPI, 1, "message passing failed")                                                            \
    X(ARG, 2, "bad usage")                                                                         \
    X(CONFIG, 2, "bad job or schedule")                                                            \
    X(DATA, 3, "bad or missing data or model")                                                     \
    X(IO, 4, "input or output failed")                                                             \
    X(NUMERIC, 5, "numerical failure")                                                             \
    X(STOPPED, 75, "state saved, start me again")

typedef enum mt_status {
#define X(name, exit_code, text) MT_##name,
    MT_STATUS_LIST(X)
#undef X
        MT_STATUS_COUNT
} mt_status;

enum { MT_MESSAGE_BYTES = 1024, MT_FRAMES = 12 };

struct mt_frame {
    const char *function;
    const char *file;
    int line;
};

/* The failure that a thread is carrying upwards; code == MT_OK means none.  Plain bytes but for
 * the frames' pointers into this process's own text, which comm drops between ranks. */
struct mt_error {
    mt_status code;
    int rank; /* where it began; -1 = this rank */
    int frame_count;
    struct mt_frame frames[MT_FRAMES];
    char message[MT_MESSAGE_BYTES];
};

#define MT_CHECKED __attribute__((warn_unused_result))
#define MT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MT_UNUSED __attribute__((unused))

/* Begins a record and answers code, as a value that the compiler can see is not MT_OK.  A message
 * should name what, where, and the mend. */
#define MT_FAIL(code, ...)                                                                         \
    ((void)mt_error_begin((code), __func__, __FILE__, __LINE__, __VA_ARGS__), (mt_status)(code))

/* Local.  Internal: behind MT_FAIL and MT_TRY. */
mt_status mt_error_begin(mt_status code, const char *function, const char *file, int line,
                         const char *format, ...) MT_PRINTF(5, 6);
mt_status mt_error_frame(mt_status code, const char *function, const char *file, int line);

#define MT_TRY(call)                                                                               \
    do {                                                                                           \
        mt_status mt_try_ = (call);                                                                \
        if (mt_try_ != MT_OK) {                                                                    \
            (void)mt_error_frame(mt_try_, __func__, __FILE__, __LINE__);                           \
            return mt_try_;                                                                        \
        }                                                                                          \
    } while (0)

#define MT_TRY_GOTO(st, call, label)                                                               \
    do {                                                                                           \
        (st) = (call);                                                                             \
        if ((st) != MT_OK) {                                                                       \
            (void)mt_error_frame((st), __func__, __FILE__, __LINE__);                              \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

/* Local.  Puts "prefix: " before the message of the current record ("train.tsv:17: ..."). */
void mt_error_prefix(const char *format, ...) MT_PRINTF(1, 2);

/* Local.  The calling thread's record: read, copied out, put back, forgotten. */
const struct mt_error *mt_error_peek(void);
void mt_error_get(struct mt_error *out);
mt_status mt_error_set(const struct mt_error *error); /* answers error->code */
void mt_error_clear(void);

/* Local.  "DATA" and the exit code of a status. */
const char *mt_status_name(mt_status code);
int mt_status_exit_code(mt_status code);

#endif
