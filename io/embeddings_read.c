/*
 * See embeddings.h: reading.
 *
 * An .h5 file may come from anybody (chunked, compressed, double): it goes through the HDF5 library
 * after its shape was checked, a block of rows at a time.  An .npy header is a Python dict of three
 * known keys, looked for one by one, not evaluated.
 */
#include "io/embeddings.h"

#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/embeddings_format.h"
#include "io/file.h"
#include "io/h5_lock.h"
#include "io/json.h"

enum {
    NPY_PREFIX_BYTES = 10,
    TASK_NAME_BYTES = 64,
    CHUNK_BYTES_MAX = 64 << 20,
    DEFLATE_RATIO_MAX = 1032 /* what deflate can do at best: zlib's technical notes */
};

struct embeddings {
    enum embeddings_format format;
    char *path;
    int64_t rows;
    int32_t dim, task_count;
    char task_name[EMBEDDINGS_TASKS_MAX][TASK_NAME_BYTES];
    struct json_doc *classes; /* {"task": ["name", ...]}; NULL = none */
    int fd;                   /* .npy */
    int64_t data_at;
    int32_t value_bytes; /* 4 or 8 */
    hid_t file;          /* .h5 */
};

static mt_status set_shape(struct embeddings *e, int64_t rows, int64_t dim)
{
    if (rows < 0 || dim < 1 || dim > INT32_MAX || rows > EMBEDDINGS_VALUES_MAX / dim)
        return MT_FAIL(MT_DATA, "%s: %" PRId64 " rows of %" PRId64 " numbers make no sense",
                       e->path, rows, dim);
    e->rows = rows;
    e->dim = (int32_t)dim;
    return MT_OK;
}

/* What stands behind a key of the header's dict; NULL where the key is missing. */
static const char *npy_value(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (at == NULL)
        return NULL;
    at += strlen(key);
    return at + strspn(at, ": ");
}

static mt_status read_npy_header(struct embeddings *e, const char *header, int64_t file_bytes)
{
    const char *descr = npy_value(header, "'descr'"), *shape = npy_value(header, "'shape'");
    const char *fortran = npy_value(header, "'fortran_order'");
    char *end;
    if (descr == NULL || shape == NULL || fortran == NULL)
        return MT_FAIL(MT_DATA, "%s: its header is not one of NumPy's", e->path);
    if (strncmp(descr, "'<f4'", 5) == 0)
        e->value_bytes = 4;
    else if (strncmp(descr, "'<f8'", 5) == 0)
        e->value_bytes = 8;
    else
        return MT_FAIL(MT_DATA, "%s: numbers of kind %.8s; '<f4' and '<f8' can be read", e->path,
                       descr);
    if (strncmp(fortran, "False", 5) != 0 || shape[0] != '(')
        return MT_FAIL(MT_DATA, "%s: not an array in C order", e->path);
    int64_t rows = strtoll(shape + 1, &end, 10), dim = 0;
    if (end[0] == ',')
        dim = strtoll(end + 1, &end, 10);
    if (end[0] != ')')
        return MT_FAIL(MT_DATA, "%s: not an array of two dimensions, (rows, numbers)", e->path);
    MT_TRY(set_shape(e, rows, dim));
    int64_t want = e->data_at + rows * dim * e->value_bytes;
    if (file_bytes != want)
        return MT_FAIL(MT_DATA, "%s: has %" PRId64 " bytes, its header says %" PRId64, e->path,
                       file_bytes, want);
    return MT_OK;
}

static mt_status open_npy(struct embeddings *e)
{
    unsigned char prefix[NPY_PREFIX_BYTES];
    uint16_t length;
    int64_t bytes;
    char *header;
    MT_TRY(file_fd_open(&e->fd, &bytes, e->path));
    MT_TRY(file_fd_read_at(e->fd, prefix, NPY_PREFIX_BYTES, 0, e->path));
    if (memcmp(prefix, "\x93NUMPY\x01", 7) != 0)
        return MT_FAIL(MT_DATA, "%s: not a NumPy file of format 1.0", e->path);
    memcpy(&length, prefix + 8, 2);
    MT_TRY(mt_alloc(&header, (int64_t)length + 1, 1, "a NumPy header"));
    e->data_at = NPY_PREFIX_BYTES + length;
    mt_status st = file_fd_read_at(e->fd, header, length, NPY_PREFIX_BYTES, e->path);
    if (st == MT_OK)
        st = read_npy_header(e, header, bytes);
    mt_free(&header);
    return st;
}

/* What is wrong with the way a dataset is stored, or NULL: data in other files are not followed,
 * and a size without bytes behind it must not make the caller take memory for it. */
static const char *storage_fault(hid_t set, hid_t list, hsize_t numbers, size_t number_bytes)
{
    H5D_layout_t layout = H5Pget_layout(list);
    int filters = H5Pget_nfilters(list);
    if (layout != H5D_CONTIGUOUS && layout != H5D_CHUNKED && layout != H5D_COMPACT)
        return "is stored elsewhere (virtual)";
    if (layout == H5D_CONTIGUOUS && H5Pget_external_count(list) != 0)
        return "is stored in other files";
    hsize_t chunk[2] = {1, 1};
    if (layout == H5D_CHUNKED &&
        (H5Pget_chunk(list, 2, chunk) < 1 || chunk[0] > CHUNK_BYTES_MAX ||
         chunk[1] > CHUNK_BYTES_MAX || chunk[0] * chunk[1] > CHUNK_BYTES_MAX / number_bytes))
        return "has chunks of more than 64 MiB";
    for (int i = 0; i < filters; i++) {
        unsigned flags, config;
        size_t values = 0;
        H5Z_filter_t filter =
            H5Pget_filter2(list, (unsigned)i, &flags, &values, NULL, 0, NULL, &config);
        if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
            filter != H5Z_FILTER_FLETCHER32)
            return "has a filter other than deflate, shuffle and fletcher32";
    }
    if (numbers > 0 && numbers * number_bytes / DEFLATE_RATIO_MAX > H5Dget_storage_size(set))
        return "has a size, but nothing is stored for it";
    return NULL;
}

/* What is wrong with a dataset, or NULL; answers its shape. */
static const char *dataset_fault(hid_t set, int ndim, H5T_class_t kind, hsize_t shape[2])
{
    hid_t space = H5Dget_space(set), type = H5Dget_type(set), list = H5Dget_create_plist(set);
    const char *fault = NULL;
    if (space < 0 || type < 0 || list < 0)
        fault = "cannot be examined";
    else if (H5Tget_class(type) != kind || H5Tget_size(type) < 1 || H5Tget_size(type) > 8)
        fault = kind == H5T_FLOAT ? "does not hold reals" : "does not hold whole numbers";
    else if (H5Sget_simple_extent_ndims(space) != ndim ||
             H5Sget_simple_extent_dims(space, shape, NULL) != ndim)
        fault = ndim == 1 ? "does not have one dimension" : "does not have two dimensions";
    else if (shape[0] > (hsize_t)EMBEDDINGS_VALUES_MAX || shape[1] > INT32_MAX ||
             (shape[1] > 0 && shape[0] > (hsize_t)EMBEDDINGS_VALUES_MAX / shape[1]))
        fault = "has a shape that makes no sense";
    else
        fault = storage_fault(set, list, shape[0] * shape[1], H5Tget_size(type));
    if (list >= 0)
        (void)H5Pclose(list);
    if (type >= 0)
        (void)H5Tclose(type);
    if (space >= 0)
        (void)H5Sclose(space);
    return fault;
}

/* Shape of a dataset, [n, 1] where it has one dimension. */
static mt_status dataset_shape(struct embeddings *e, const char *name, int ndim, H5T_class_t kind,
                               hsize_t shape[2])
{
    H5L_info_t link;
    const char *fault = NULL;
    shape[0] = shape[1] = 1;
    if (H5Lexists(e->file, name, H5P_DEFAULT) <= 0)
        return MT_FAIL(MT_DATA, "%s: has no dataset \"%s\"", e->path, name);
    if (H5Lget_info(e->file, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        fault = "is a link to elsewhere, which is not followed";
    hid_t set = fault == NULL ? H5Dopen2(e->file, name, H5P_DEFAULT) : -1;
    if (fault == NULL)
        fault = set < 0 ? "is not a dataset" : dataset_fault(set, ndim, kind, shape);
    if (set >= 0)
        (void)H5Dclose(set);
    (void)H5Eclear2(H5E_DEFAULT);
    return fault == NULL ? MT_OK : MT_FAIL(MT_DATA, "%s: \"%s\" %s", e->path, name, fault);
}

/* One link below /labels: a task.  Names of other lengths and links past the cap are left out. */
static herr_t add_task(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    struct embeddings *e = context;
    (void)group;
    (void)info;
    if (strlen(name) >= TASK_NAME_BYTES || e->task_count == EMBEDDINGS_TASKS_MAX)
        return 0;
    (void)snprintf(e->task_name[e->task_count++], TASK_NAME_BYTES, "%s", name);
    return 0;
}

static mt_status read_tasks(struct embeddings *e)
{
    H5L_info_t link;
    if (H5Lexists(e->file, "labels", H5P_DEFAULT) <= 0)
        return MT_OK;
    if (H5Lget_info(e->file, "labels", &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        return MT_FAIL(MT_DATA, "%s: labels is a link to elsewhere, which is not followed",
                       e->path);
    if (H5Literate_by_name(e->file, "labels", H5_INDEX_NAME, H5_ITER_INC, NULL, add_task, e,
                           H5P_DEFAULT) < 0)
        return h5_fail(MT_DATA, e->path, "list labels");
    for (int32_t t = 0; t < e->task_count; t++) {
        char name[TASK_NAME_BYTES + 16];
        hsize_t shape[2];
        (void)snprintf(name, sizeof name, "labels/%s", e->task_name[t]);
        MT_TRY(dataset_shape(e, name, 1, H5T_INTEGER, shape));
        if ((int64_t)shape[0] != e->rows)
            return MT_FAIL(MT_DATA, "%s: %s has %lld entries for %" PRId64 " rows", e->path, name,
                           (long long)shape[0], e->rows);
    }
    return MT_OK;
}

/* The class names; a file without them, or with an attribute of another make, has none. */
static mt_status read_classes(struct embeddings *e)
{
    char *text = NULL;
    hid_t attribute = -1, type = -1;
    mt_status st = MT_OK;
    if (H5Aexists(e->file, "classes") <= 0)
        return MT_OK;
    attribute = H5Aopen(e->file, "classes", H5P_DEFAULT);
    if (attribute >= 0)
        type = H5Aget_type(attribute);
    if (type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) <= 0 &&
        H5Aget_storage_size(attribute) == H5Tget_size(type) &&
        H5Tget_size(type) <= EMBEDDINGS_CLASS_TEXT_MAX_BYTES + 1) {
        int64_t bytes = (int64_t)H5Tget_size(type);
        MT_TRY_GOTO(st, mt_alloc(&text, bytes + 1, 1, "class names"), done);
        if (H5Aread(attribute, type, text) < 0)
            st = h5_fail(MT_DATA, e->path, "read the class names");
        else
            st = json_doc_parse(&e->classes, text, (int64_t)strlen(text), e->path);
    }
done:
    if (type >= 0)
        (void)H5Tclose(type);
    if (attribute >= 0)
        (void)H5Aclose(attribute);
    mt_free(&text);
    return st;
}

static mt_status open_h5(struct embeddings *e)
{
    hsize_t shape[2];
    MT_TRY(h5_check_file(e->path));
    e->file = file_fault_now() ? -1 : H5Fopen(e->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (e->file < 0)
        return h5_fail(MT_DATA, e->path, "open");
    MT_TRY(dataset_shape(e, "embeddings", 2, H5T_FLOAT, shape));
    MT_TRY(set_shape(e, (int64_t)shape[0], (int64_t)shape[1]));
    MT_TRY(read_tasks(e));
    return read_classes(e);
}

static mt_status open_any(struct embeddings *e, const char *path)
{
    MT_TRY(mt_strdup(&e->path, path));
    if (!embeddings_format_of(&e->format, path) || e->format == EMBEDDINGS_TSV)
        return MT_FAIL(MT_ARG, "%s: embeddings are read from .h5 or .npy", path);
    if (e->format == EMBEDDINGS_NPY)
        return open_npy(e);
    h5_enter();
    mt_status st = open_h5(e);
    h5_leave();
    return st;
}

mt_status embeddings_open(struct embeddings **out, const char *path)
{
    struct embeddings *e;
    MT_TRY(mt_alloc(&e, 1, sizeof *e, "an embeddings file"));
    e->fd = -1;
    e->file = -1;
    mt_status st = open_any(e, path);
    if (st != MT_OK) {
        embeddings_close(&e);
        return st;
    }
    *out = e;
    return MT_OK;
}

void embeddings_close(struct embeddings **e)
{
    struct embeddings *v = *e;
    if (v == NULL)
        return;
    if (v->file >= 0) {
        h5_enter();
        (void)H5Fclose(v->file);
        h5_leave();
    }
    file_fd_close(&v->fd);
    json_doc_destroy(&v->classes);
    mt_free(&v->path);
    mt_free(e);
}

int64_t embeddings_rows(const struct embeddings *e)
{
    return e->rows;
}

int32_t embeddings_dim(const struct embeddings *e)
{
    return e->dim;
}

int32_t embeddings_task_count(const struct embeddings *e)
{
    return e->task_count;
}

const char *embeddings_task_name(const struct embeddings *e, int32_t task)
{
    return e->task_name[task];
}

static const struct json_node *classes_of(const struct embeddings *e, int32_t task)
{
    return e->classes == NULL ? NULL : json_node_get(json_doc_root(e->classes), e->task_name[task]);
}

int32_t embeddings_class_count(const struct embeddings *e, int32_t task)
{
    const struct json_node *names = classes_of(e, task);
    int64_t count = json_node_is_array(names) ? json_node_count(names) : 0;
    return count > EMBEDDINGS_CLASSES_MAX ? 0 : (int32_t)count;
}

const char *embeddings_class_name(const struct embeddings *e, int32_t task, int32_t k)
{
    const char *name = json_node_string(json_node_at(classes_of(e, task), k));
    return name == NULL ? "" : name;
}

static mt_status check_rows(const struct embeddings *e, int64_t first, int64_t count)
{
    if (first < 0 || count < 0 || first > e->rows || count > e->rows - first)
        return MT_FAIL(MT_ARG, "%s: rows %" PRId64 " + %" PRId64 ", it has %" PRId64, e->path,
                       first, count, e->rows);
    return MT_OK;
}

/* Rows of a dataset, converted to `type` in memory. */
static mt_status read_h5(struct embeddings *e, const char *name, int ndim, int64_t first,
                         int64_t count, hid_t type, void *dst)
{
    hsize_t begin[2] = {(hsize_t)first, 0}, size[2] = {(hsize_t)count, (hsize_t)e->dim};
    mt_status st = MT_OK;
    hid_t space = -1, memory = -1,
          set = file_fault_now() ? -1 : H5Dopen2(e->file, name, H5P_DEFAULT);
    if (set >= 0)
        space = H5Dget_space(set);
    memory = H5Screate_simple(ndim, size, NULL);
    if (set < 0 || space < 0 || memory < 0 || H5Sget_simple_extent_ndims(space) != ndim ||
        H5Sselect_hyperslab(space, H5S_SELECT_SET, begin, NULL, size, NULL) < 0 ||
        H5Dread(set, type, memory, space, H5P_DEFAULT, dst) < 0)
        st = h5_fail(MT_IO, e->path, name);
    if (memory >= 0)
        (void)H5Sclose(memory);
    if (space >= 0)
        (void)H5Sclose(space);
    if (set >= 0)
        (void)H5Dclose(set);
    return st;
}

/* A double array is read in pieces through a small buffer. */
static mt_status read_npy_doubles(struct embeddings *e, int64_t first, int64_t count, float *dst)
{
    double block[512];
    for (int64_t at = 0; at < count; at += 512) {
        int64_t take = count - at < 512 ? count - at : 512;
        MT_TRY(file_fd_read_at(e->fd, block, take * 8, e->data_at + (first + at) * 8, e->path));
        for (int64_t i = 0; i < take; i++)
            dst[at + i] = (float)block[i];
    }
    return MT_OK;
}

mt_status embeddings_read_rows(struct embeddings *e, int64_t first, int64_t count, float *dst)
{
    MT_TRY(check_rows(e, first, count));
    if (count == 0)
        return MT_OK;
    if (e->format == EMBEDDINGS_NPY && e->value_bytes == 8)
        return read_npy_doubles(e, first * e->dim, count * e->dim, dst);
    if (e->format == EMBEDDINGS_NPY)
        return file_fd_read_at(e->fd, dst, count * e->dim * 4, e->data_at + first * e->dim * 4,
                               e->path);
    h5_enter();
    mt_status st = read_h5(e, "embeddings", 2, first, count, H5T_NATIVE_FLOAT, dst);
    h5_leave();
    return st;
}

/* A stranger's file may hold any number. */
static mt_status check_labels(const struct embeddings *e, int32_t task, int64_t first,
                              int64_t count, const int32_t *labels)
{
    int32_t named = embeddings_class_count(e, task);
    int32_t classes = named > 0 ? named : EMBEDDINGS_CLASSES_MAX;
    for (int64_t i = 0; i < count; i++)
        if (labels[i] < -1 || labels[i] >= classes)
            return MT_FAIL(MT_DATA, "%s: row %lld has label %d of task %s, which has %d classes",
                           e->path, (long long)(first + i), labels[i], e->task_name[task], classes);
    return MT_OK;
}

mt_status embeddings_read_labels(struct embeddings *e, int32_t task, int64_t first, int64_t count,
                                 int32_t *dst)
{
    char name[TASK_NAME_BYTES + 16];
    MT_TRY(check_rows(e, first, count));
    if (task < 0 || task >= e->task_count)
        return MT_FAIL(MT_ARG, "%s: has no task %d", e->path, task);
    if (count == 0)
        return MT_OK;
    (void)snprintf(name, sizeof name, "labels/%s", e->task_name[task]);
    h5_enter();
    mt_status st = read_h5(e, name, 1, first, count, H5T_NATIVE_INT32, dst);
    h5_leave();
    MT_TRY(st);
    return check_labels(e, task, first, count, dst);
}
