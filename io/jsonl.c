/*
 * See jsonl.h.
 *
 * O_APPEND and one write(2) a line.  A write that got only a part of a line onto the disk (no
 * space) is taken back with ftruncate, so the file is whole lines again and a later event may
 * succeed; what could not be written waits in memory for that. Cutting events back streams the file
 * through a copy: events to keep and to drop may be mixed.
 */
#include "io/jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "io/file.h"

enum { LINE_MAX_BYTES = 16 << 20, COPY_BYTES = 256 << 10, HELD_MAX_BYTES = 4 << 20 };

struct jsonl {
    int fd;
    char *path;
    struct json_writer line;
    char *held; /* [held_room] whole lines that could not be written yet */
    int64_t held_bytes, held_room, lost;
};

/* Length of the file up to and with its last line end. */
static mt_status whole_bytes(int64_t *out, const char *path)
{
    int fd;
    int64_t end, size;
    char *block = NULL;
    MT_TRY(file_fd_open(&fd, &size, path));
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&block, COPY_BYTES, 1, "a block of events"), done);
    for (end = size; end > 0;) {
        int64_t take = end < COPY_BYTES ? end : COPY_BYTES;
        MT_TRY_GOTO(st, file_fd_read_at(fd, block, take, end - take, path), done);
        const char *last = memrchr(block, '\n', (size_t)take);
        end -= take;
        if (last != NULL) {
            end += last - block + 1;
            break;
        }
    }
    *out = end;
done:
    mt_free(&block);
    file_fd_close(&fd);
    return st;
}

mt_status jsonl_open(struct jsonl **out, const char *path)
{
    struct jsonl *log;
    MT_TRY(mt_alloc(&log, 1, sizeof *log, "the event file"));
    log->fd = -1;
    mt_status st;
    MT_TRY_GOTO(st, mt_strdup(&log->path, path), done);
    bool fails = file_fault_now();
    if (fails)
        errno = EIO;
    else
        log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
    if (log->fd < 0) {
        st = MT_FAIL(MT_IO, "%s: cannot open for appending: %s", path, strerror(errno));
        goto done;
    }
    int64_t whole;
    struct stat info;
    MT_TRY_GOTO(st, whole_bytes(&whole, path), done);
    if (fstat(log->fd, &info) == 0 && info.st_size > whole && ftruncate(log->fd, whole) != 0) {
        st = MT_FAIL(MT_IO, "%s: cannot cut off a torn last line: %s", path, strerror(errno));
        goto done;
    }
    *out = log;
    log = NULL;
done:
    jsonl_close(&log);
    return st;
}

void jsonl_close(struct jsonl **log)
{
    if (*log == NULL)
        return;
    file_fd_close(&(*log)->fd);
    mt_free(&(*log)->path);
    json_writer_release(&(*log)->line);
    mt_free(&(*log)->held);
    mt_free(log);
}

struct json_writer *jsonl_begin(struct jsonl *log, const char *event)
{
    struct json_writer *w = &log->line;
    struct timeval now = {0, 0};
    char iso[CLOCK_TEXT_BYTES];
    (void)gettimeofday(&now, NULL);
    clock_format_iso(iso);
    json_writer_reset(w);
    json_write_object(w, NULL);
    json_write_string(w, "event", event);
    json_write_real(w, "time", (double)now.tv_sec + (double)(now.tv_usec / 1000) / 1000.0);
    json_write_string(w, "iso", iso);
    return w;
}

/* Takes back what a failed write may have left. */
static void take_back(const struct jsonl *log, int64_t size)
{
    if (ftruncate(log->fd, size) != 0)
        return; /* jsonl_open cuts it off */
}

static mt_status append(struct jsonl *log, const char *text, int64_t bytes)
{
    struct stat info;
    if (fstat(log->fd, &info) != 0)
        return MT_FAIL(MT_IO, "%s: cannot examine: %s", log->path, strerror(errno));
    for (;;) {
        bool fails = file_fault_now();
        if (fails)
            errno = EIO;
        ssize_t n = fails ? -1 : write(log->fd, text, (size_t)bytes);
        if (n >= 0 && n == bytes)
            return MT_OK;
        int error = n < 0 ? errno : ENOSPC;
        if (n < 0 && error == EINTR)
            continue;
        take_back(log, info.st_size);
        return MT_FAIL(MT_IO, "%s: cannot append an event: %s", log->path, strerror(error));
    }
}

/* Keeps a line, as far as there is room; the error record stays as it is. */
static void hold(struct jsonl *log, const char *text, int64_t bytes)
{
    struct mt_error kept;
    int64_t need = log->held_bytes + bytes, room = log->held_room > 0 ? log->held_room : 4096;
    while (room < need)
        room *= 2;
    mt_error_get(&kept);
    if (log->lost > 0 || need > HELD_MAX_BYTES ||
        (room > log->held_room &&
         mt_grow(&log->held, log->held_room, room, 1, "events that wait") != MT_OK)) {
        log->lost++; /* once one is, all that follow: no gap in the middle */
    } else {
        log->held_room = room;
        memcpy(log->held + log->held_bytes, text, (size_t)bytes);
        log->held_bytes = need;
    }
    (void)mt_error_set(&kept);
}

bool jsonl_is_behind(const struct jsonl *log, int64_t *lost)
{
    *lost = log->lost;
    return log->held_bytes > 0 || log->lost > 0;
}

mt_status jsonl_end(struct jsonl *log)
{
    const char *text;
    int64_t bytes;
    json_write_end(&log->line);
    MT_TRY(json_writer_finish(&log->line, &text, &bytes));
    log->line.text[bytes] = '\n'; /* in the place of the NUL, which nobody reads from here on */
    bytes++;
    mt_status st = log->held_bytes > 0 ? append(log, log->held, log->held_bytes) : MT_OK;
    if (st == MT_OK) {
        log->held_bytes = log->lost = 0;
        st = append(log, text, bytes);
    }
    if (st != MT_OK)
        hold(log, text, bytes);
    return st;
}

/* Whether the event of a line comes back when a run goes on from `step`. */
static bool line_is_repeated(const char *line, int64_t bytes, int64_t step)
{
    static const char *const repeated[] = {"step", "eval", "phase", "checkpoint", "done"};
    struct json_doc *doc = NULL;
    int64_t at;
    bool drop = false;
    if (json_doc_parse(&doc, line, bytes, "event") != MT_OK) {
        mt_error_clear();
        return false;
    }
    const struct json_node *root = json_doc_root(doc);
    const char *event = json_node_string(json_node_get(root, "event"));
    if (event != NULL && json_node_int(json_node_get(root, "step"), &at) && at > step)
        for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++)
            drop = drop || strcmp(event, repeated[i]) == 0;
    json_doc_destroy(&doc);
    return drop;
}

/* Copies the lines to keep; without a writer it only counts. */
static mt_status filter_lines(const struct file_map *map, int64_t whole, int64_t step,
                              struct file_writer *w, int64_t *dropped)
{
    const char *text = (const char *)map->bytes;
    *dropped = 0;
    for (int64_t at = 0; at < whole;) {
        const char *end = memchr(text + at, '\n', (size_t)(whole - at));
        int64_t bytes = end == NULL ? whole - at : end - (text + at) + 1;
        if (bytes <= LINE_MAX_BYTES && line_is_repeated(text + at, bytes, step))
            (*dropped)++;
        else if (w != NULL)
            MT_TRY(file_writer_write(w, text + at, bytes));
        at += bytes;
    }
    return MT_OK;
}

mt_status jsonl_truncate_after(const char *path, int64_t step, int64_t *dropped)
{
    int64_t whole, count = 0;
    struct file_map map = {NULL, 0};
    struct file_writer w = {.fd = -1};
    if (dropped != NULL)
        *dropped = 0;
    if (!file_exists(path))
        return MT_OK;
    MT_TRY(whole_bytes(&whole, path));
    MT_TRY(file_map_open(&map, path));
    mt_status st;
    MT_TRY_GOTO(st, filter_lines(&map, whole, step, NULL, &count), done);
    if (count == 0 && whole == map.size_bytes)
        goto done;
    MT_TRY_GOTO(st, file_writer_open(&w, path), done);
    MT_TRY_GOTO(st, filter_lines(&map, whole, step, &w, &count), done);
    MT_TRY_GOTO(st, file_writer_commit(&w), done);
    if (dropped != NULL)
        *dropped = count + (whole < map.size_bytes ? 1 : 0);
done:
    file_writer_discard(&w);
    file_map_close(&map);
    return st;
}

mt_status jsonl_ends_with(const char *path, const char *event, bool *answer)
{
    int64_t whole;
    struct file_map map = {NULL, 0};
    struct json_doc *doc = NULL;
    *answer = false;
    if (!file_exists(path))
        return MT_OK;
    MT_TRY(whole_bytes(&whole, path));
    MT_TRY(file_map_open(&map, path));
    const char *text = (const char *)map.bytes;
    int64_t at = whole - 1;
    while (at > 0 && text[at - 1] != '\n')
        at--;
    if (whole > 0 && whole - at <= LINE_MAX_BYTES &&
        json_doc_parse(&doc, text + at, whole - at, path) == MT_OK) {
        const char *kind = json_node_string(json_node_get(json_doc_root(doc), "event"));
        *answer = kind != NULL && strcmp(kind, event) == 0;
    } else {
        mt_error_clear();
    }
    json_doc_destroy(&doc);
    file_map_close(&map);
    return MT_OK;
}
