/*
 * options: tables of keys that drive reading, checking, printing, documenting and hashing.
 *
 * A table describes one group of a config file and the struct it fills: one row a key, with type,
 * field, default, range and help.  Rows of type OPTION_GROUP and OPTION_LIST name a further table.
 * The struct owns every string and list in it; options_release gives all back.
 *
 * Field types: BOOL bool · INT, BYTES int64_t · REAL double (NaN = unset) · STRING, PATH char *
 * (NULL = unset) · CHOICE int32_t, the index in `choices` · DURATION struct duration · STRINGS,
 * PATHS struct string_list · REALS struct real_list · WEIGHTS struct weight_list · SETTINGS struct
 * setting_list · GROUP the struct itself · LIST a pointer to items, with an int32_t at count_offset
 * · WHERE char *, "file:line: path" of the group itself (not a key).
 */
#ifndef MT_SCHEDULES_OPTIONS_H
#define MT_SCHEDULES_OPTIONS_H

#include "comm/base/hash.h"
#include "schedules/config.h"
#include "schedules/duration.h"
#include "schedules/text.h"

enum option_type {
    OPTION_BOOL,
    OPTION_INT,
    OPTION_BYTES, /* 1048576, "512MB", "4GB" (powers of 1024) */
    OPTION_REAL,
    OPTION_STRING,
    OPTION_PATH, /* made absolute against the job file's folder, but for the words in `choices` */
    OPTION_CHOICE,
    OPTION_DURATION,
    OPTION_STRINGS, /* a list, or one string */
    OPTION_PATHS,
    OPTION_REALS,
    OPTION_WEIGHTS,  /* { name = 1.0; ... } */
    OPTION_SETTINGS, /* { any = scalar; ... } */
    OPTION_GROUP,
    OPTION_LIST, /* of groups */
    OPTION_WHERE
};

/* What it means to change the value between a run and its resumption. */
enum option_class { OPTION_HARMLESS, OPTION_TRAJECTORY, OPTION_INCOMPATIBLE };

enum { OPTION_REQUIRED = 1, OPTION_NONEMPTY = 2, OPTION_NUMBER_OK = 4, OPTION_HIDDEN = 8 };

struct option_table;

struct option {
    const char *key;
    enum option_type type;
    enum option_class change;
    size_t offset, count_offset;
    const char *fallback; /* default as text; NULL = unset (numbers: 0, reals: NaN) */
    double min, max; /* of numbers, inclusive; min == max = no range.  LIST: most items = max */
    const char *const *choices; /* ends with NULL */
    const struct option_table *table;
    uint32_t flags;
    const char *unit;
    const char *help;
};

struct option_table {
    const struct option *option;
    int32_t count;
    size_t size;            /* of the struct */
    const char *scalar_key; /* a scalar in place of the group means this key; NULL = not allowed */
};

struct string_list {
    char **item;
    int32_t count;
    char *where; /* "file:line: path", NULL for a default */
};

struct real_list {
    double *item;
    int32_t count;
};

struct weight_list {
    char **name;
    double *value;
    int32_t count;
    char *where;
};

struct setting_list {
    char **key;
    char **text;    /* the value of a string; NULL for a number or truth value */
    double *number; /* NaN for a string */
    int32_t count;
    char *where;
};

/* Local.  Zeroes `object` and fills it from the group at v (NULL = all defaults).
 * Errors: NOMEM; CONFIG with file, line, key and the mend.  On failure the object is released. */
mt_status options_parse(const struct option_table *table, void *object, const struct config *c,
                        const struct config_value *v) MT_CHECKED;

/* Local.  Frees what the object owns and zeroes it.  A zeroed object is fine. */
void options_release(const struct option_table *table, void *object);

/* Local.  A deep copy; out is overwritten.  Errors: NOMEM. */
mt_status options_copy(const struct option_table *table, void *out, const void *object) MT_CHECKED;

/* Local.  The object as libconfig text, every key; unset ones as a comment. */
void options_print(const struct option_table *table, const void *object, struct text *out);

/* Local.  Calls `visit` for every value with its dotted key and its libconfig text ("" = unset). */
typedef void (*options_visit)(void *context, const struct option *o, const char *key,
                              const char *text);
mt_status options_each(const struct option_table *table, const void *object, options_visit visit,
                       void *context) MT_CHECKED;

/* Local.  Hash of the values whose class is at least `least`.  Errors: NOMEM. */
mt_status options_hash(const struct option_table *table, const void *object,
                       enum option_class least, uint64_t *out) MT_CHECKED;

/* Local.  Markdown: one table a group. */
void options_document(const struct option_table *table, const char *title, struct text *out);

/* Local.  Replaces a string or appends one to a list. */
mt_status options_set_string(char **field, const char *text) MT_CHECKED;
mt_status string_list_add(struct string_list *list, const char *text) MT_CHECKED;

/* Local.  Position of a name, or -1. */
int32_t string_list_find(const struct string_list *list, const char *text);
int32_t weight_list_find(const struct weight_list *list, const char *name);

#endif
