/* libraries: versions of the outside libraries that io stands on. */
#ifndef MT_IO_LIBRARIES_H
#define MT_IO_LIBRARIES_H

/* Local.  "1.10.8"; static text. */
const char *io_hdf5_version(void);
const char *io_utf8proc_version(void);
const char *io_jansson_version(void);

#endif
