/* See prefix_file.h. */
#include "io/prefix_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/file.h"

enum { PATH_BYTES = 4096 };

static const char MAGIC[8] = "mtprefix";

/* The first bytes of the file; the rest of the header is zero. */
struct header {
    char magic[8];
    int64_t version;
    uint64_t key;
    int64_t elements, blocks, bf16;
};

struct prefix_file {
    struct prefix_layout layout;
    int64_t *first; /* a copy of layout.first */
    int fd;
    const char *map; /* NULL = open for writing */
    int64_t bytes;
    char path[PATH_BYTES];
};

static int64_t element_bytes(const struct prefix_layout *l)
{
    return l->bf16 ? 2 : 4;
}

static int64_t hash_offset(const struct prefix_layout *l)
{
    return PREFIX_HEADER_BYTES + (l->elements * element_bytes(l) + 7) / 8 * 8;
}

int64_t prefix_file_bytes(const struct prefix_layout *layout)
{
    return hash_offset(layout) + layout->blocks * 8;
}

static struct header header_of(const struct prefix_layout *l)
{
    struct header h = {
        .version = 1, .key = l->key, .elements = l->elements, .blocks = l->blocks, .bf16 = l->bf16};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    return h;
}

static mt_status write_at(int fd, const void *data, int64_t bytes, int64_t offset, const char *path)
{
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = file_fault_now() ? (errno = EIO, -1) : pwrite(fd, p, (size_t)bytes, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return MT_FAIL(MT_IO, "%s: cannot write: %s", path, strerror(errno));
        p += n;
        bytes -= n;
        offset += n;
    }
    return MT_OK;
}

mt_status prefix_file_make(const char *temp, const struct prefix_layout *layout)
{
    int fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return MT_FAIL(MT_IO, "cannot make %s: %s", temp, strerror(errno));
    int64_t bytes = prefix_file_bytes(layout);
    int problem = file_fault_now() ? ENOSPC : posix_fallocate(fd, 0, bytes);
    mt_status st = MT_OK;
    if (problem != 0)
        st = MT_FAIL(MT_IO,
                     "%s: cannot reserve %.2f GB for the prefix cache: %s; name another folder "
                     "with cache.dir, or set cache.mode = \"off\"",
                     temp, 1e-9 * (double)bytes, strerror(problem));
    if (st == MT_OK) {
        struct header h = header_of(layout);
        st = write_at(fd, &h, (int64_t)sizeof h, 0, temp);
    }
    (void)close(fd);
    if (st != MT_OK)
        (void)unlink(temp);
    return st;
}

static mt_status create(struct prefix_file **out, const struct prefix_layout *layout)
{
    struct prefix_file *f;
    MT_TRY(mt_alloc(&f, 1, sizeof *f, "a prefix file"));
    f->layout = *layout;
    f->fd = -1;
    mt_status st = mt_alloc(&f->first, layout->blocks + 1, sizeof *f->first, "a prefix file");
    if (st != MT_OK) {
        mt_free(&f);
        return st;
    }
    memcpy(f->first, layout->first, (size_t)(layout->blocks + 1) * sizeof *f->first);
    f->bytes = prefix_file_bytes(layout);
    *out = f;
    return MT_OK;
}

mt_status prefix_file_open_writer(struct prefix_file **out, const char *temp,
                                  const struct prefix_layout *layout)
{
    struct prefix_file *f;
    MT_TRY(create(&f, layout));
    (void)snprintf(f->path, sizeof f->path, "%s", temp);
    f->fd = open(temp, O_RDWR | O_CLOEXEC);
    mt_status st = MT_OK;
    if (f->fd < 0)
        st = MT_FAIL(MT_IO, "cannot open %s: %s; all ranks must see this folder", temp,
                     strerror(errno));
    if (st != MT_OK)
        prefix_file_close(&f);
    else
        *out = f;
    return st;
}

static uint16_t to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u); /* stays a NaN */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static float from_bf16(uint16_t x)
{
    uint32_t u = (uint32_t)x << 16;
    float y;
    memcpy(&y, &u, sizeof y);
    return y;
}

mt_status prefix_file_write_block(struct prefix_file *f, int64_t block, const float *data,
                                  void *scratch)
{
    int64_t count = f->first[block + 1] - f->first[block], size = element_bytes(&f->layout);
    const void *bytes = data;
    if (f->layout.bf16) {
        uint16_t *rounded = scratch;
        for (int64_t i = 0; i < count; i++)
            rounded[i] = to_bf16(data[i]);
        bytes = rounded;
    }
    uint64_t hash = hash64_of(bytes, count * size);
    MT_TRY(write_at(f->fd, bytes, count * size, PREFIX_HEADER_BYTES + f->first[block] * size,
                    f->path));
    return write_at(f->fd, &hash, (int64_t)sizeof hash, hash_offset(&f->layout) + 8 * block,
                    f->path);
}

mt_status prefix_file_publish(const char *temp, const char *path)
{
    if (rename(temp, path) == 0)
        return MT_OK;
    mt_status st = MT_FAIL(MT_IO, "cannot rename %s: %s", temp, strerror(errno));
    (void)unlink(temp);
    return st;
}

void prefix_file_abandon(const char *temp)
{
    (void)unlink(temp);
}

static mt_status map_file(struct prefix_file *f, bool populate)
{
    struct stat info;
    struct header want = header_of(&f->layout);
    if (f->fd < 0 || fstat(f->fd, &info) != 0)
        return MT_FAIL(MT_IO, "cannot open %s: %s", f->path, strerror(errno));
    if (info.st_size != f->bytes)
        return MT_FAIL(MT_DATA, "%s has %lld bytes instead of %lld", f->path,
                       (long long)info.st_size, (long long)f->bytes);
    void *p = mmap(NULL, (size_t)f->bytes, PROT_READ, MAP_SHARED, f->fd, 0);
    if (p == MAP_FAILED)
        return MT_FAIL(MT_IO, "cannot map %s: %s", f->path, strerror(errno));
    f->map = p;
    (void)madvise(p, (size_t)f->bytes, populate ? MADV_WILLNEED : MADV_RANDOM);
    if (memcmp(f->map, &want, sizeof want) != 0)
        return MT_FAIL(MT_DATA, "%s belongs to other data or another prefix", f->path);
    return MT_OK;
}

mt_status prefix_file_open(struct prefix_file **out, const char *path,
                           const struct prefix_layout *layout, bool populate)
{
    struct prefix_file *f;
    MT_TRY(create(&f, layout));
    (void)snprintf(f->path, sizeof f->path, "%s", path);
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    mt_status st = map_file(f, populate);
    if (st != MT_OK)
        prefix_file_close(&f);
    else
        *out = f;
    return st;
}

void prefix_file_close(struct prefix_file **file)
{
    struct prefix_file *f = *file;
    if (f == NULL)
        return;
    if (f->map != NULL)
        (void)munmap((void *)(uintptr_t)f->map, (size_t)f->bytes);
    if (f->fd >= 0)
        (void)close(f->fd);
    mt_free(&f->first);
    mt_free(file);
}

bool prefix_file_check_block(const struct prefix_file *f, int64_t block)
{
    int64_t size = element_bytes(&f->layout);
    const char *data = f->map + PREFIX_HEADER_BYTES + f->first[block] * size;
    uint64_t stored;
    memcpy(&stored, f->map + hash_offset(&f->layout) + 8 * block, sizeof stored);
    return hash64_of(data, (f->first[block + 1] - f->first[block]) * size) == stored;
}

void prefix_file_read(const struct prefix_file *f, int64_t first, int64_t count, float *out)
{
    const char *data = f->map + PREFIX_HEADER_BYTES + first * element_bytes(&f->layout);
    if (!f->layout.bf16) {
        memcpy(out, data, (size_t)count * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        uint16_t x;
        memcpy(&x, data + 2 * i, sizeof x);
        out[i] = from_bf16(x);
    }
}

int64_t prefix_file_free_bytes(const char *dir)
{
    struct statvfs info;
    if (statvfs(dir, &info) != 0)
        return -1;
    return (int64_t)info.f_bavail * (int64_t)info.f_frsize;
}
