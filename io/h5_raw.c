/*
 * See h5_raw.h.
 *
 * Every dataset is contiguous, allocated when it is created and never filled, so that its offset is
 * final and no byte of it passes through the library.  No times are stored: equal layouts give
 * equal files.  Refused: H5Dwrite under the lock (a background save would stop every shard reader),
 * and HDF5's own external files (h5py and h5dump users would have to carry two files).
 */
#include "io/h5_raw.h"

#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/h5_lock.h"

/* Property lists that every object of a file shares; -1 = not made yet. */
struct h5_lists {
    hid_t access, create, group, dataset;
};

static void lists_close(struct h5_lists *p)
{
    if (p->access >= 0)
        (void)H5Pclose(p->access);
    if (p->create >= 0)
        (void)H5Pclose(p->create);
    if (p->group >= 0)
        (void)H5Pclose(p->group);
    if (p->dataset >= 0)
        (void)H5Pclose(p->dataset);
}

static bool lists_make(struct h5_lists *p)
{
    p->access = H5Pcreate(H5P_FILE_ACCESS);
    p->create = H5Pcreate(H5P_FILE_CREATE); /* also that of the root group */
    p->group = H5Pcreate(H5P_GROUP_CREATE);
    p->dataset = H5Pcreate(H5P_DATASET_CREATE);
    return p->access >= 0 && p->create >= 0 && p->group >= 0 && p->dataset >= 0 &&
           H5Pset_libver_bounds(p->access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
           H5Pset_obj_track_times(p->create, false) >= 0 &&
           H5Pset_obj_track_times(p->group, false) >= 0 &&
           H5Pset_layout(p->dataset, H5D_CONTIGUOUS) >= 0 &&
           H5Pset_alloc_time(p->dataset, H5D_ALLOC_TIME_EARLY) >= 0 &&
           H5Pset_fill_time(p->dataset, H5D_FILL_TIME_NEVER) >= 0 &&
           H5Pset_obj_track_times(p->dataset, false) >= 0;
}

/* The groups above a path.  The library's own way of making them would store the time. */
static bool make_groups(hid_t file, const struct h5_lists *p, const char *path)
{
    char part[H5_PATH_BYTES];
    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        (void)snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        htri_t there = H5Lexists(file, part, H5P_DEFAULT);
        if (there > 0)
            continue;
        hid_t group = there < 0 ? -1 : H5Gcreate2(file, part, H5P_DEFAULT, p->group, H5P_DEFAULT);
        if (group < 0 || H5Gclose(group) < 0)
            return false;
    }
    return true;
}

static bool make_dataset(hid_t file, const struct h5_lists *p, struct h5_item *item)
{
    hsize_t shape[2] = {(hsize_t)item->shape[0], (hsize_t)item->shape[1]};
    hid_t type = item->kind == H5_KIND_F32 ? H5T_IEEE_F32LE : H5T_STD_I32LE;
    if (!make_groups(file, p, item->path))
        return false;
    hid_t space = H5Screate_simple(item->ndim, shape, NULL);
    if (space < 0)
        return false;
    hid_t set = H5Dcreate2(file, item->path, type, space, H5P_DEFAULT, p->dataset, H5P_DEFAULT);
    (void)H5Sclose(space);
    if (set < 0)
        return false;
    haddr_t offset = H5Dget_offset(set);
    bool empty = shape[0] == 0 || (item->ndim == 2 && shape[1] == 0);
    item->offset_bytes = empty ? 0 : (int64_t)offset;
    return H5Dclose(set) >= 0 && (empty || offset != HADDR_UNDEF);
}

static bool make_attribute(hid_t file, const struct h5_attribute *a)
{
    hid_t type = a->text == NULL ? H5Tcopy(H5T_STD_I64LE) : H5Tcopy(H5T_C_S1);
    hid_t space = H5Screate(H5S_SCALAR), object = H5Oopen(file, a->object, H5P_DEFAULT);
    hid_t attribute = -1;
    bool good = type >= 0 && space >= 0 && object >= 0;
    if (good && a->text != NULL)
        good = H5Tset_size(type, strlen(a->text) + 1) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0;
    if (good)
        attribute = H5Acreate2(object, a->name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    good = attribute >= 0;
    if (good)
        good = a->text == NULL ? H5Awrite(attribute, H5T_NATIVE_INT64, &a->number) >= 0
                               : H5Awrite(attribute, type, a->text) >= 0;
    if (attribute >= 0)
        good = H5Aclose(attribute) >= 0 && good;
    if (object >= 0)
        (void)H5Oclose(object);
    if (space >= 0)
        (void)H5Sclose(space);
    if (type >= 0)
        (void)H5Tclose(type);
    return good;
}

static mt_status lay_out(hid_t file, const char *path, const struct h5_lists *p,
                         struct h5_layout *layout)
{
    for (int32_t i = 0; i < layout->item_count; i++)
        if (file_fault_now() || !make_dataset(file, p, &layout->items[i]))
            return h5_fail(MT_IO, path, layout->items[i].path);
    for (int32_t i = 0; i < layout->attribute_count; i++)
        if (file_fault_now() || !make_attribute(file, &layout->attributes[i]))
            return h5_fail(MT_IO, path, layout->attributes[i].name);
    for (int32_t i = 0; i < layout->link_count; i++) {
        const struct h5_link *l = &layout->links[i];
        if (file_fault_now() || !make_groups(file, p, l->path) ||
            H5Lcreate_external(l->file, l->object, file, l->path, H5P_DEFAULT, H5P_DEFAULT) < 0)
            return h5_fail(MT_IO, path, l->path);
    }
    return MT_OK;
}

/* The library may end a file before its last array; a reader wants all of it. */
static mt_status lengthen(const char *path, const struct h5_layout *layout)
{
    int64_t need = 0, size;
    for (int32_t i = 0; i < layout->item_count; i++) {
        const struct h5_item *item = &layout->items[i];
        int64_t end =
            item->offset_bytes + 4 * item->shape[0] * (item->ndim == 2 ? item->shape[1] : 1);
        need = end > need ? end : need;
    }
    MT_TRY(file_size(&size, path));
    if (size < need && (file_fault_now() || truncate(path, need) != 0))
        return MT_FAIL(MT_IO, "%s: cannot give the file its length", path);
    return MT_OK;
}

mt_status h5_raw_create(const char *path, struct h5_layout *layout)
{
    struct h5_lists p = {-1, -1, -1, -1};
    hid_t file = -1;
    mt_status st = MT_OK;
    h5_enter();
    if (lists_make(&p) && !file_fault_now())
        file = H5Fcreate(path, H5F_ACC_TRUNC, p.create, p.access);
    if (file < 0)
        st = h5_fail(MT_IO, path, "create");
    else
        st = lay_out(file, path, &p, layout);
    if (file >= 0 && H5Fclose(file) < 0 && st == MT_OK)
        st = h5_fail(MT_IO, path, "close");
    lists_close(&p);
    h5_leave();
    if (st == MT_OK)
        MT_TRY(lengthen(path, layout));
    return st;
}
