/* fuzz_file: what the fuzz targets share: their input as a file under a name of their choice. */
#ifndef MT_FUZZ_FILE_H
#define MT_FUZZ_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "comm/base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A folder of this process in memory, gone at its end. */
const char *fuzz_dir(void);

/* Writes the bytes to NAME in that folder and answers its path, in one of eight static buffers. */
const char *fuzz_file(const char *name, const void *bytes, size_t count);

/* Whether a call succeeded; forgets the error record of one that did not. */
bool fuzz_ok(mt_status st);

/* Ends the process with a crash unless a claim holds. */
void fuzz_claim(bool holds, const char *claim);

/* The input as a source of choices; zeros past its end. */
struct fuzz_bytes {
    const uint8_t *at, *end;
};
uint8_t fuzz_byte(struct fuzz_bytes *b);
int64_t fuzz_int(struct fuzz_bytes *b);              /* small and huge ones, often */
size_t fuzz_rest(const struct fuzz_bytes *b);        /* bytes left */
size_t fuzz_upto(const struct fuzz_bytes *b, int c); /* bytes before the first c, or all */

#endif
