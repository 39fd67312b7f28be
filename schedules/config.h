/*
 * config: a job or schedule file as a tree of values, each knowing its file and line.
 *
 * The syntax is libconfig's.  A file and all that it includes are first flattened into one text,
 * the bundle; marker lines in it ("#@ 12 schedules/staged.cfg") keep file and line.  A bundle is
 * plain bytes: rank 0 reads it, all ranks parse the same bytes.
 *
 *     MT_TRY(config_bundle_read(&bundle, "jobs/train.cfg"));       // files are read here only
 *     MT_TRY(config_parse(&config, bundle, overrides, count));     // pure
 *     ... config_find(config, "train.epochs") ...
 *     config_close(&config);
 *
 * `@include "NAME"` is looked for in the folder of the including file, then under each of
 * $MTTRAIN_HOME, <program>/../share/mttrain and the source tree, as NAME and as schedules/NAME.
 */
#ifndef MT_SCHEDULES_CONFIG_H
#define MT_SCHEDULES_CONFIG_H

#include "comm/base/status.h"

enum value_type { VALUE_BOOL, VALUE_INT, VALUE_REAL, VALUE_STRING, VALUE_GROUP, VALUE_LIST };

/* Arrays and lists of libconfig are both VALUE_LIST. */
struct config_value {
    enum value_type type;
    char *name; /* NULL for the root and for elements of a list */
    struct config_value *parent;
    struct config_value **child;
    int32_t child_count, child_capacity;
    int64_t integer;  /* VALUE_INT, VALUE_BOOL */
    double real;      /* VALUE_REAL */
    char *string;     /* VALUE_STRING; of a value given by --set: its text, whatever the type */
    const char *file; /* "--set" for an override */
    int32_t line;     /* 0 for an override */
};

struct config;

enum {
    CONFIG_BUNDLE_BYTES = 4 << 20, /* largest bundle */
    CONFIG_INCLUDE_DEPTH = 16,
    CONFIG_INCLUDES = 256,
    CONFIG_VALUES = 200000, /* values in a tree */
    CONFIG_NESTING = 64,
    CONFIG_PATH_BYTES = 256 /* dotted path of a value; longer ones are cut */
};

/* Local.  Reads path and its includes.  Owns: the caller, until mt_free(&text).
 * Errors: IO, CONFIG (no such file, include cycle, missing include, too large, NUL byte, open
 * comment). */
mt_status config_bundle_read(char **text, const char *path) MT_CHECKED;

/* Local.  Adds a second file to a bundle: its settings take the place of the first one's of the
 * same name, as a schedule's phases do.  path may also name a schedule that comes with mttrain
 * ("full", "full.cfg").  *text is replaced.  Errors: as config_bundle_read. */
mt_status config_bundle_replace(char **text, const char *path) MT_CHECKED;

/* Local.  Parses a bundle, or any libconfig text without includes, and applies overrides
 * "key=value": key is a path ("train.epochs", "phases[1].lr", "phases.heads.lr" by the element's
 * name); missing keys of groups are made; value is a libconfig value, anything else is taken as a
 * string.  Owns: the caller, until config_close.  Errors: NOMEM, CONFIG, ARG (override). */
mt_status config_parse(struct config **out, const char *text, const char *const *overrides,
                       int32_t override_count) MT_CHECKED;

/* Local.  config_bundle_read and config_parse. */
mt_status config_load(struct config **out, const char *path, const char *const *overrides,
                      int32_t override_count) MT_CHECKED;
void config_close(struct config **c);

/* Local.  The file as it was named, and its absolute folder ("" for a text without markers). */
const char *config_file(const struct config *c);
const char *config_folder(const struct config *c);

const struct config_value *config_root(const struct config *c);

/* Local.  The value at a path as in overrides, or NULL. */
const struct config_value *config_find(const struct config *c, const char *path);
const struct config_value *config_member(const struct config_value *group, const char *name);

/* Local.  "phases[1].train" of a value. */
void config_path(char path[CONFIG_PATH_BYTES], const struct config_value *v);

/* Local.  "jobs/x.cfg:12: phases[1].lr", or "--set phases[1].lr" for an override. */
enum { CONFIG_WHERE_BYTES = 512 };
void config_where(char where[CONFIG_WHERE_BYTES], const struct config_value *v);

/* Local.  Begins a CONFIG failure at a path: "FILE:LINE: PATH: message", the line being that of
 * the deepest value on the path that is there.  Answers MT_CONFIG. */
mt_status config_fail(const struct config *c, const char *path, const char *format, ...)
    MT_PRINTF(3, 4);

#endif
