/*
 * A shard that is sound HDF5 but says what the input chooses: types, shapes, layouts, values,
 * attributes, absent and surplus objects.  Random bytes never get so far, since every structure of
 * the file carries a checksum.
 */
#include <hdf5.h>
#include <string.h>

#include "io/h5_lock.h"
#include "io/shard_format.h"
#include "tests/fuzz/fuzz_file.h"

enum { VALUES = 24 };

static hid_t choose_type(struct fuzz_bytes *b)
{
    switch (fuzz_byte(b) % 12) {
    case 0:
        return H5T_STD_U8LE;
    case 1:
        return H5T_STD_I8LE;
    case 2:
        return H5T_STD_I16BE;
    case 3:
        return H5T_STD_I32LE;
    case 4:
        return H5T_STD_U64LE;
    case 5:
        return H5T_IEEE_F32LE;
    case 6:
        return H5T_STD_REF_OBJ;
    default:
        return H5T_STD_I64LE;
    }
}

static void write_dataset(hid_t file, const char *name, struct fuzz_bytes *b, int64_t usual,
                          bool rising)
{
    int64_t values[VALUES * VALUES] = {0};
    hsize_t dims[2] = {(hsize_t)usual, 1}, chunk[2] = {4, 4}, most[2];
    uint8_t how = fuzz_byte(b);
    int rank = how % 16 == 1 ? 2 : how % 16 == 2 ? 0 : 1;
    if (how % 16 == 3)
        return;
    if (how % 16 >= 12)
        dims[0] = fuzz_byte(b) % VALUES;
    if (rank == 2)
        dims[1] = fuzz_byte(b) % 3;
    most[0] = how & 64 ? H5S_UNLIMITED : dims[0];
    most[1] = dims[1];
    int64_t at = 0;
    for (int i = 0; i < VALUES; i++) {
        values[i] = rising ? at : fuzz_int(b);
        at = (int64_t)((uint64_t)at + (uint64_t)(how & 128 ? fuzz_int(b) : fuzz_byte(b) % 4 + 1));
    }
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    if (rank > 0 && how & 80) {
        (void)H5Pset_chunk(create, rank, chunk);
        if (how & 32)
            (void)H5Pset_deflate(create, 1);
    } else if (how & 32) {
        (void)H5Pset_layout(create, H5D_COMPACT);
    }
    hid_t space = rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, dims, most);
    hid_t type = how % 16 < 10 && !(how & 16) ? H5T_STD_I64LE : choose_type(b);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    if (set >= 0) {
        if (type != H5T_STD_REF_OBJ)
            (void)H5Dwrite(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
        (void)H5Dclose(set);
    }
    (void)H5Sclose(space);
    (void)H5Pclose(create);
}

static void write_text(hid_t object, const char *name, const char *usual, struct fuzz_bytes *b)
{
    char text[64];
    uint8_t how = fuzz_byte(b);
    if (how % 16 == 1)
        return;
    (void)memset(text, 0, sizeof text);
    size_t n = how % 16 == 2 ? fuzz_byte(b) % sizeof text : strlen(usual);
    for (size_t i = 0; i < n; i++)
        text[i] = how % 16 == 2 ? (char)fuzz_byte(b) : usual[i];
    hid_t type = H5Tcopy(H5T_C_S1);
    (void)H5Tset_size(type, n > 0 ? n : 1);
    if (how & 16)
        (void)H5Tset_strpad(type, H5T_STR_SPACEPAD);
    hsize_t two = 2;
    hid_t space = how % 16 == 3 ? H5Screate_simple(1, &two, NULL) : H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate2(object, name, how % 16 == 4 ? H5T_STD_I32LE : type, space, H5P_DEFAULT,
                         H5P_DEFAULT);
    if (a >= 0) {
        char twice[128] = {0};
        (void)memcpy(twice, text, n > 0 ? n : 1);
        (void)H5Awrite(a, how % 16 == 4 ? H5T_STD_I32LE : type, twice);
        (void)H5Aclose(a);
    }
    (void)H5Sclose(space);
    (void)H5Tclose(type);
}

static void write_int(hid_t object, const char *name, int64_t usual, struct fuzz_bytes *b)
{
    uint8_t how = fuzz_byte(b);
    if (how % 16 == 1)
        return;
    int64_t value = how % 16 == 2 ? fuzz_int(b) : usual;
    hid_t space = H5Screate(how % 16 == 3 ? H5S_NULL : H5S_SCALAR);
    hid_t type = how % 16 == 4 ? choose_type(b) : H5T_STD_I64LE;
    hid_t a = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (a >= 0) {
        if (how % 16 != 3 && type != H5T_STD_REF_OBJ)
            (void)H5Awrite(a, H5T_NATIVE_INT64, &value);
        (void)H5Aclose(a);
    }
    (void)H5Sclose(space);
}

static void write_labels(hid_t file, struct fuzz_bytes *b)
{
    static const char *const names[] = {"labels/a", "labels/b", "labels/..", "labels/long-name"};
    int tasks = fuzz_byte(b) % 4;
    hid_t group = H5Gcreate2(file, "labels", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    for (int t = 0; t < tasks; t++) {
        const char *name = names[fuzz_byte(b) % 4];
        write_dataset(file, name, b, 6, false);
        if (H5Lexists(file, name, H5P_DEFAULT) <= 0)
            continue;
        hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
        hsize_t classes = fuzz_byte(b) % 60;
        char text[60 * 4] = {0};
        for (size_t i = 0; i < sizeof text; i += 4)
            text[i] = (char)('A' + i / 4);
        if (fuzz_byte(b) % 8 == 1)
            text[4] = 'A';
        hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &classes, NULL);
        (void)H5Tset_size(type, 4);
        hid_t a = H5Acreate2(set, SHARD_NAMES, type, space, H5P_DEFAULT, H5P_DEFAULT);
        if (a >= 0) {
            (void)H5Awrite(a, type, text);
            (void)H5Aclose(a);
        }
        (void)H5Sclose(space);
        (void)H5Tclose(type);
        (void)H5Dclose(set);
    }
    (void)H5Gclose(group);
}

static void write_file(const char *path, struct fuzz_bytes *b)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    (void)H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_LATEST);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    (void)H5Pclose(access);
    write_text(file, SHARD_A_FORMAT, SHARD_FORMAT, b);
    write_int(file, SHARD_A_VERSION, 1, b);
    write_int(file, SHARD_A_VOCAB_SIZE, 100, b);
    write_text(file, SHARD_A_VOCAB_HASH, "0123456789abcdef", b);
    write_int(file, SHARD_A_MAX_TOKENS, 16, b);
    write_int(file, SHARD_A_ROWS, 6, b);
    write_int(file, SHARD_A_TOKENS, 14, b);
    write_text(file, SHARD_A_TOKENIZER, "lowercase", b);
    write_dataset(file, SHARD_OFFSETS, b, 7, true);
    write_dataset(file, SHARD_IDS, b, 14, false);
    if (fuzz_byte(b) % 2 == 1)
        write_dataset(file, SHARD_TYPES, b, 14, false);
    write_labels(file, b);
    if (fuzz_byte(b) % 8 == 1) {
        (void)H5Ldelete(file, SHARD_IDS, H5P_DEFAULT);
        (void)H5Lcreate_external("/etc/passwd", "/", file, SHARD_IDS, H5P_DEFAULT, H5P_DEFAULT);
    }
    (void)H5Fclose(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes b = {data, data + size};
    char path[512];
    (void)strncpy(path, fuzz_file("made.h5", "", 0), sizeof path - 1);
    path[sizeof path - 1] = '\0';
    h5_enter();
    write_file(path, &b);
    h5_leave();
    struct shard *s = NULL;
    if (!fuzz_ok(shard_open(&s, path)))
        return 0;
    int32_t ids[256], types[256];
    const struct shard_info *info = shard_info_of(s);
    for (int64_t row = 0; row < shard_rows(s); row++) {
        int32_t n = shard_length(s, row);
        fuzz_claim(n >= 1 && n <= 256, "a small file has short rows");
        for (int32_t t = 0; t < info->task_count; t++)
            fuzz_claim(shard_label(s, t, row) >= -1 &&
                           shard_label(s, t, row) < info->tasks[t].classes,
                       "labels are in range");
        if (!fuzz_ok(shard_read_rows(s, row, 1, ids, types)))
            continue;
        for (int32_t i = 0; i < n; i++)
            fuzz_claim(ids[i] >= 0 && ids[i] < info->vocab_size, "ids are in the vocabulary");
    }
    uint64_t hash;
    (void)fuzz_ok(shard_content_hash(s, &hash));
    shard_close(&s);
    return 0;
}
