/* See status.h.  A thread-local record: no lock, no allocation, no global that two threads share.
 */
#include "comm/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct mt_error current;

static void push_frame(const char *function, const char *file, int line)
{
    if (current.frame_count >= MT_FRAMES)
        return;
    struct mt_frame *f = &current.frames[current.frame_count++];
    f->function = function;
    f->file = file;
    f->line = line;
}

mt_status mt_error_begin(mt_status code, const char *function, const char *file, int line,
                         const char *format, ...)
{
    char text[MT_MESSAGE_BYTES]; /* an argument may point into the record itself */
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    current.code = code;
    current.rank = -1;
    current.frame_count = 0;
    memcpy(current.message, text, sizeof text);
    push_frame(function, file, line);
    return code;
}

mt_status mt_error_frame(mt_status code, const char *function, const char *file, int line)
{
    if (current.code == MT_OK) { /* a failure without a record: say at least where it was seen */
        current.code = code;
        current.rank = -1;
        current.frame_count = 0;
        (void)snprintf(current.message, sizeof current.message, "%s", mt_status_name(code));
    }
    push_frame(function, file, line);
    return code;
}

void mt_error_prefix(const char *format, ...)
{
    char text[2 * MT_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, MT_MESSAGE_BYTES, format, args);
    va_end(args);
    if (n < 0)
        return;
    size_t used = (size_t)n < (size_t)MT_MESSAGE_BYTES ? (size_t)n : (size_t)MT_MESSAGE_BYTES - 1;
    (void)snprintf(text + used, sizeof text - used, ": %s", current.message);
    memcpy(current.message, text, sizeof current.message);
    current.message[sizeof current.message - 1] = '\0';
}

const struct mt_error *mt_error_peek(void)
{
    return &current;
}

void mt_error_get(struct mt_error *out)
{
    *out = current;
}

mt_status mt_error_set(const struct mt_error *error)
{
    current = *error;
    return current.code;
}

void mt_error_clear(void)
{
    current.code = MT_OK;
    current.frame_count = 0;
    current.message[0] = '\0';
}

const char *mt_status_name(mt_status code)
{
    switch (code) {
#define X(name, exit_code, text)                                                                   \
    case MT_##name:                                                                                \
        return #name;
        MT_STATUS_LIST(X)
#undef X
    case MT_STATUS_COUNT:
        break;
    }
    return "UNKNOWN";
}

int mt_status_exit_code(mt_status code)
{
    switch (code) {
#define X(name, exit_code, text)                                                                   \
    case MT_##name:                                                                                \
        return exit_code;
        MT_STATUS_LIST(X)
#undef X
    case MT_STATUS_COUNT:
        break;
    }
    return 1;
}
