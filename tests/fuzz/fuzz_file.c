/* See fuzz_file.h. */
#include "tests/fuzz/fuzz_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/log.h"
#include "io/file.h"

static char folder[64];

static void remove_folder(void)
{
    if (file_remove(folder) != MT_OK)
        mt_error_clear();
}

const char *fuzz_dir(void)
{
    if (folder[0] == '\0') {
        log_init(0, LOG_ERROR);
        (void)snprintf(folder, sizeof folder, "%s/mttrain-fuzz-XXXXXX",
                       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (mkdtemp(folder) == NULL)
            abort();
        (void)atexit(remove_folder);
    }
    return folder;
}

const char *fuzz_file(const char *name, const void *bytes, size_t count)
{
    static char path[8][512];
    static int next;
    char *p = path[next++ % 8];
    (void)snprintf(p, sizeof path[0], "%s/%s", fuzz_dir(), name);
    FILE *f = fopen(p, "wb");
    if (f == NULL || (count > 0 && fwrite(bytes, 1, count, f) != count) || fclose(f) != 0)
        abort();
    return p;
}

bool fuzz_ok(mt_status st)
{
    if (st == MT_OK)
        return true;
    fuzz_claim(mt_error_peek()->message[0] != '\0', "every failure has a message");
    fuzz_claim(st != MT_BUG, "bad input is never called a bug");
    mt_error_clear();
    return false;
}

void fuzz_claim(bool holds, const char *claim)
{
    if (holds)
        return;
    fprintf(stderr, "does not hold: %s (%s)\n", claim, mt_error_peek()->message);
    abort();
}

uint8_t fuzz_byte(struct fuzz_bytes *b)
{
    return b->at < b->end ? *b->at++ : 0;
}

int64_t fuzz_int(struct fuzz_bytes *b)
{
    uint8_t kind = fuzz_byte(b);
    if (kind < 160)
        return kind % 40 - 1;
    if (kind < 224)
        return (int64_t)((uint64_t)fuzz_byte(b) << (kind % 64));
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n = n << 8 | fuzz_byte(b);
    return (int64_t)n;
}

size_t fuzz_rest(const struct fuzz_bytes *b)
{
    return (size_t)(b->end - b->at);
}

size_t fuzz_upto(const struct fuzz_bytes *b, int c)
{
    const uint8_t *hit = fuzz_rest(b) > 0 ? memchr(b->at, c, fuzz_rest(b)) : NULL;
    return hit != NULL ? (size_t)(hit - b->at) : fuzz_rest(b);
}
