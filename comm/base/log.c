/* See log.h. */
#include "comm/base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/clock.h"

static struct {
    int rank;
    enum log_level level;
    char dir[4096];
    FILE *file;
    bool line_drawn; /* a progress line stands on the terminal */
    pthread_mutex_t lock;
} state = {.level = LOG_INFO, .lock = PTHREAD_MUTEX_INITIALIZER};

void log_init(int rank, enum log_level level)
{
    state.rank = rank;
    state.level = level;
}

void log_set_dir(const char *run_dir)
{
    pthread_mutex_lock(&state.lock);
    if (state.file != NULL)
        (void)fclose(state.file);
    state.file = NULL;
    state.dir[0] = '\0';
    if (run_dir != NULL)
        (void)snprintf(state.dir, sizeof state.dir, "%s", run_dir);
    pthread_mutex_unlock(&state.lock);
}

static void open_file(void)
{
    char path[sizeof state.dir + 32];
    if (state.rank == 0)
        (void)snprintf(path, sizeof path, "%s/log.txt", state.dir);
    else
        (void)snprintf(path, sizeof path, "%s/log-rank%d.txt", state.dir, state.rank);
    state.file = fopen(path, "ae");
    if (state.file == NULL)
        state.dir[0] = '\0';
}

static void clear_line(void)
{
    if (state.line_drawn)
        (void)fputs("\r\033[K", stderr);
    state.line_drawn = false;
}

enum log_level log_set_level(enum log_level level)
{
    enum log_level before = state.level;
    state.level = level;
    return before;
}

static void write_line(enum log_level level, const char *format, va_list args)
{
    static const char *const prefix[] = {"error: ", "warning: ", "", ""};
    if (level > state.level || (state.rank != 0 && level > LOG_WARNING))
        return;
    char text[2048];
    (void)vsnprintf(text, sizeof text, format, args);
    pthread_mutex_lock(&state.lock);
    if (state.dir[0] != '\0' && state.file == NULL)
        open_file();
    if (state.file != NULL) {
        char now[CLOCK_TEXT_BYTES];
        clock_format_iso(now);
        (void)fprintf(state.file, "%s %s%s\n", now, prefix[level], text);
        (void)fflush(state.file);
    }
    if (state.rank == 0) {
        clear_line();
        (void)fprintf(stderr, "%s%s\n", prefix[level], text);
    }
    pthread_mutex_unlock(&state.lock);
}

#define DEFINE_LEVEL(name, level)                                                                  \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        write_line(level, format, args);                                                           \
        va_end(args);                                                                              \
    }

DEFINE_LEVEL(log_error, LOG_ERROR)
DEFINE_LEVEL(log_warning, LOG_WARNING)
DEFINE_LEVEL(log_info, LOG_INFO)
DEFINE_LEVEL(log_detail, LOG_DETAIL)

void progress_begin(struct log_progress *p, const char *what, const char *unit, int64_t done)
{
    memset(p, 0, sizeof *p);
    p->what = what;
    p->unit = unit;
    p->begin_s = p->last_s = clock_now_s();
    p->begin_done = done;
}

static void format_bar(char *text, size_t bytes, double fraction)
{
    enum { WIDTH = 20 };
    char bar[WIDTH + 1];
    int full = (int)(fraction * WIDTH);
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < full ? '#' : '.';
    bar[WIDTH] = '\0';
    (void)snprintf(text, bytes, "[%s] %3d%%", bar, (int)(fraction * 100.0));
}

void progress_show(struct log_progress *p, int64_t done, int64_t total, const char *note)
{
    if (state.rank != 0 || state.level < LOG_INFO)
        return;
    bool terminal = isatty(STDERR_FILENO) == 1;
    double now = clock_now_s();
    if (now - p->last_s < (terminal ? 0.1 : 10.0))
        return;
    p->last_s = now;
    double rate = (double)(done - p->begin_done) / (now - p->begin_s);
    char left[CLOCK_TEXT_BYTES] = "?", bar[64] = "", note_text[256] = "";
    if (total > 0) {
        if (rate > 0.0)
            clock_format_duration(left, (double)(total - done) / rate);
        format_bar(bar, sizeof bar, (double)done / (double)total);
    }
    if (note != NULL)
        (void)snprintf(note_text, sizeof note_text, "  %s", note);
    char text[512];
    if (total > 0)
        (void)snprintf(text, sizeof text, "%s %s %lld/%lld %s  %.4g %s/s  %s left%s", p->what, bar,
                       (long long)done, (long long)total, p->unit, rate, p->unit, left, note_text);
    else
        (void)snprintf(text, sizeof text, "%s %lld %s  %.4g %s/s%s", p->what, (long long)done,
                       p->unit, rate, p->unit, note_text);
    pthread_mutex_lock(&state.lock);
    if (terminal) {
        (void)fprintf(stderr, "\r\033[K%.200s", text);
        (void)fflush(stderr);
        state.line_drawn = true;
    } else {
        (void)fprintf(stderr, "%s\n", text);
    }
    pthread_mutex_unlock(&state.lock);
    p->shown = true;
}

void progress_end(struct log_progress *p)
{
    pthread_mutex_lock(&state.lock);
    clear_line();
    pthread_mutex_unlock(&state.lock);
    p->shown = false;
}
