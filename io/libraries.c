/* See libraries.h. */
#include "io/libraries.h"

#include <hdf5.h>
#include <jansson.h>
#include <utf8proc.h>

#include "comm/base/status.h"

const char *io_hdf5_version(void)
{
    static char text[32];
    unsigned major, minor, release;
    if (H5get_libversion(&major, &minor, &release) < 0)
        return H5_VERS_INFO;
    (void)snprintf(text, sizeof text, "%u.%u.%u", major, minor, release);
    return text;
}

const char *io_utf8proc_version(void)
{
    return utf8proc_version();
}

const char *io_jansson_version(void)
{
    return JANSSON_VERSION;
}
