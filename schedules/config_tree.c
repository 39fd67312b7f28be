/*
 * See config.h.  The tree: libconfig parses, and its settings are copied into values of our own.
 *
 * Own values keep file and line through includes, can be changed in place by overrides without
 * reordering lists, and keep libconfig.h in this one file.  Finding a member is linear.
 */
#include "schedules/config.h"

#include <libconfig.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"
#include "schedules/config_scan.h"
#include "schedules/text.h"

struct marker {
    int32_t flat_line; /* of the marker itself */
    int32_t line;      /* of the line after it */
    char *file;
};

struct config {
    struct config_value *root;
    struct marker *marker;
    int32_t marker_count, marker_capacity;
    int32_t value_count;
    char *folder;
};

static const char override_file[] = "--set";
static const char no_file[] = "line";

/* Reads "#@ LINE FILE" lines and the "#@folder" line. */
static mt_status read_markers(struct config *c, const char *text)
{
    static const char folder[] = "#@folder ";
    int32_t flat = 0;
    for (const char *at = text; at != NULL && *at != '\0';) {
        const char *end = strchr(at, '\n');
        size_t length = end == NULL ? strlen(at) : (size_t)(end - at);
        flat++;
        if (flat == 1 && strncmp(at, folder, strlen(folder)) == 0) {
            MT_TRY(mt_alloc(&c->folder, (int64_t)length + 1, 1, "a folder's name"));
            memcpy(c->folder, at + strlen(folder), length - strlen(folder));
        } else if (strncmp(at, "#@ ", 3) == 0) {
            char *name;
            long line = strtol(at + 3, &name, 10);
            if (c->marker_count == c->marker_capacity) {
                int32_t grown = c->marker_capacity == 0 ? 16 : 2 * c->marker_capacity;
                MT_TRY(mt_grow(&c->marker, c->marker_capacity, grown, sizeof *c->marker,
                               "the line map"));
                c->marker_capacity = grown;
            }
            struct marker *m = &c->marker[c->marker_count++];
            m->flat_line = flat;
            m->line = line > 0 && line < INT32_MAX / 2 ? (int32_t)line : 1;
            size_t name_length = name < at + length ? (size_t)(at + length - name) - 1 : 0;
            MT_TRY(mt_alloc(&m->file, (int64_t)name_length + 1, 1, "a file's name"));
            if (name_length > 0)
                memcpy(m->file, name + 1, name_length);
        }
        at = end == NULL ? NULL : end + 1;
    }
    return MT_OK;
}

static void locate(const struct config *c, int32_t flat, const char **file, int32_t *line)
{
    *file = no_file;
    *line = flat;
    for (int32_t i = c->marker_count - 1; i >= 0; i--) {
        if (c->marker[i].flat_line >= flat)
            continue;
        *file = c->marker[i].file;
        *line = c->marker[i].line + (flat - c->marker[i].flat_line - 1);
        return;
    }
}

static void value_destroy(struct config_value **v)
{
    if (*v == NULL)
        return;
    for (int32_t i = 0; i < (*v)->child_count; i++)
        value_destroy(&(*v)->child[i]);
    mt_free(&(*v)->child);
    mt_free(&(*v)->name);
    mt_free(&(*v)->string);
    mt_free(v);
}

static mt_status child_add(struct config *c, struct config_value *parent, const char *name,
                           struct config_value **out)
{
    if (++c->value_count > CONFIG_VALUES)
        return MT_FAIL(MT_CONFIG, "more than %d values in a job file", CONFIG_VALUES);
    if (parent->child_count == parent->child_capacity) {
        int32_t grown = parent->child_capacity == 0 ? 8 : 2 * parent->child_capacity;
        MT_TRY(mt_grow(&parent->child, parent->child_capacity, grown, sizeof *parent->child,
                       "values of a job file"));
        parent->child_capacity = grown;
    }
    struct config_value *v = NULL;
    MT_TRY(mt_alloc(&v, 1, sizeof *v, "a value of a job file"));
    v->parent = parent;
    parent->child[parent->child_count++] = v;
    if (name != NULL)
        MT_TRY(mt_strdup(&v->name, name));
    *out = v;
    return MT_OK;
}

static mt_status copy_setting(struct config *c, struct config_value *v, const config_setting_t *s,
                              int32_t depth)
{
    if (depth > CONFIG_NESTING)
        return MT_FAIL(MT_CONFIG, "%s:%d: groups and lists nested more than %d deep", v->file,
                       v->line, CONFIG_NESTING);
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_BOOL:
        v->type = VALUE_BOOL;
        v->integer = config_setting_get_bool(s) != 0;
        return MT_OK;
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        v->type = VALUE_INT;
        v->integer = config_setting_get_int64(s);
        return MT_OK;
    case CONFIG_TYPE_FLOAT:
        v->type = VALUE_REAL;
        v->real = config_setting_get_float(s);
        return MT_OK;
    case CONFIG_TYPE_STRING:
        v->type = VALUE_STRING;
        return mt_strdup(&v->string,
                         config_setting_get_string(s) == NULL ? "" : config_setting_get_string(s));
    case CONFIG_TYPE_GROUP:
        v->type = VALUE_GROUP;
        break;
    default:
        v->type = VALUE_LIST;
        break;
    }
    int count = config_setting_length(s);
    for (int i = 0; i < count; i++) {
        const config_setting_t *e = config_setting_get_elem(s, (unsigned)i);
        struct config_value *child;
        MT_TRY(child_add(c, v, config_setting_name(e), &child));
        child->file = v->file;
        child->line = v->line;
        if (v->file != override_file && config_setting_source_line(e) > 0)
            locate(c, (int32_t)config_setting_source_line(e), &child->file, &child->line);
        MT_TRY(copy_setting(c, child, e, depth + 1));
    }
    return MT_OK;
}

static const char *hint(const char *error)
{
    if (strcmp(error, "syntax error") == 0)
        return "syntax error at or just before this line: is a \";\", a quote or a bracket "
               "missing?";
    if (strcmp(error, "duplicate setting name") == 0)
        return "a key that stands in this group already (to replace a value of an included file "
               "use --set)";
    if (strcmp(error, "mismatched element type in array") == 0)
        return "the values in [ ] are of different types: write 1.0 instead of 1, or use ( )";
    return error;
}

/* Parses text, which has been through the scanner, into v; file is that of an override or NULL. */
static mt_status parse_text(struct config *c, struct config_value *v, const char *text,
                            const char *file)
{
    config_t parsed;
    config_init(&parsed);
    mt_status st = MT_OK;
    v->file = file != NULL ? file : c->marker_count > 0 ? c->marker[0].file : no_file;
    v->line = 0;
    if (config_read_string(&parsed, text) != CONFIG_TRUE) {
        const char *where;
        int32_t line;
        locate(c, config_error_line(&parsed), &where, &line);
        const char *what = config_error_text(&parsed);
        st = MT_FAIL(MT_CONFIG, "%s%s%d: %s", where, where == no_file ? " " : ":", line,
                     hint(what == NULL ? "cannot be parsed" : what));
    } else {
        st = copy_setting(c, v, config_root_setting(&parsed), 0);
    }
    config_destroy(&parsed);
    return st;
}

/* One step of a path: a name or an index.  False at the end or for wrong syntax. */
struct step {
    char name[CONFIG_PATH_BYTES];
    int32_t index; /* -1 = a name */
};
static bool next_step(const char **path, struct step *s)
{
    const char *at = *path;
    if (*at == '[') {
        char *end;
        long n = strtol(at + 1, &end, 10);
        if (end == at + 1 || *end != ']' || n < 0 || n > CONFIG_VALUES)
            return false;
        s->index = (int32_t)n;
        at = end + 1;
    } else {
        size_t n = strcspn(at, ".[");
        if (n == 0 || n >= sizeof s->name)
            return false;
        memcpy(s->name, at, n);
        s->name[n] = '\0';
        s->index = -1;
        at += n;
    }
    if (*at == '.' && at[1] != '\0' && at[1] != '[')
        at++;
    else if (*at != '[' && *at != '\0')
        return false;
    *path = at;
    return true;
}

static struct config_value *member(const struct config_value *group, const char *name)
{
    for (int32_t i = 0; i < group->child_count; i++)
        if (group->child[i]->name != NULL && strcmp(group->child[i]->name, name) == 0)
            return group->child[i];
    return NULL;
}

static struct config_value *follow(const struct config_value *v, const struct step *s)
{
    if (s->index >= 0)
        return v->type == VALUE_LIST && s->index < v->child_count ? v->child[s->index] : NULL;
    if (v->type == VALUE_GROUP)
        return member(v, s->name);
    if (v->type != VALUE_LIST)
        return NULL;
    for (int32_t i = 0; i < v->child_count; i++) {
        const struct config_value *name =
            v->child[i]->type == VALUE_GROUP ? member(v->child[i], "name") : NULL;
        if (name != NULL && name->type == VALUE_STRING && strcmp(name->string, s->name) == 0)
            return v->child[i];
    }
    return NULL;
}

/* Walks an override's key, making groups that are missing. */
static mt_status reach(struct config *c, const char *key, struct config_value **out)
{
    struct config_value *v = c->root;
    const char *at = key;
    struct step s;
    int32_t depth = 0;
    while (*at != '\0') {
        if (!next_step(&at, &s) || ++depth > CONFIG_NESTING)
            return MT_FAIL(MT_ARG, "--set %s: not a key like train.epochs or phases[1].lr", key);
        struct config_value *next = follow(v, &s);
        if (next != NULL) {
            v = next;
            continue;
        }
        char path[CONFIG_PATH_BYTES];
        config_path(path, v);
        if (s.index >= 0)
            return MT_FAIL(MT_ARG, "--set %s: %s has %d elements, counted from 0", key,
                           path[0] == '\0' ? "the job" : path,
                           v->type == VALUE_LIST ? v->child_count : 0);
        if (v->type == VALUE_LIST)
            return MT_FAIL(MT_ARG, "--set %s: %s has no element named \"%s\"", key, path, s.name);
        if (v->type != VALUE_GROUP)
            return MT_FAIL(MT_ARG, "--set %s: %s is a single value, not a group", key, path);
        MT_TRY(child_add(c, v, s.name, &next));
        next->type = VALUE_GROUP;
        next->file = override_file;
        v = next;
    }
    if (v == c->root)
        return MT_FAIL(MT_ARG, "--set needs a key: --set train.epochs=3");
    *out = v;
    return MT_OK;
}

/* Puts the only value of `from` in the place of v. */
static void replace_value(struct config_value *v, struct config_value *from)
{
    struct config_value *n = from->child[0];
    for (int32_t i = 0; i < v->child_count; i++)
        value_destroy(&v->child[i]);
    mt_free(&v->child);
    mt_free(&v->string);
    v->type = n->type;
    v->integer = n->integer;
    v->real = n->real;
    v->string = n->string;
    v->child = n->child;
    v->child_count = n->child_count;
    v->child_capacity = n->child_capacity;
    for (int32_t i = 0; i < v->child_count; i++)
        v->child[i]->parent = v;
    n->string = NULL;
    n->child = NULL;
    n->child_count = 0;
}

/* Parses "v = VALUE;"; anything that is not one libconfig value becomes a string. */
static mt_status parse_override_value(struct config *c, struct config_value *holder,
                                      const char *key, const char *value)
{
    struct text source = {0};
    struct text scanned = {0};
    char *text = NULL;
    mt_status st;
    text_printf(&source, "v = %s\n;", value);
    struct config_scan scan = {.file = override_file};
    st = config_scan_text(&scan, source.bytes == NULL ? "" : source.bytes, source.count, &scanned);
    if (st == MT_OK)
        st = text_finish(&scanned, &text);
    if (st == MT_OK)
        st = parse_text(c, holder, text, override_file);
    bool one = st == MT_OK && holder->child_count == 1;
    if (!one && value[0] != '\0' && strchr("([{\"", value[0]) != NULL)
        st = MT_FAIL(MT_ARG, "--set %s=%s: not a libconfig value", key, value);
    else if (!one && st != MT_NOMEM) {
        for (int32_t i = 0; i < holder->child_count; i++)
            value_destroy(&holder->child[i]);
        holder->child_count = 0;
        mt_error_clear();
        struct config_value *v;
        st = child_add(c, holder, "v", &v);
        if (st == MT_OK) {
            v->type = VALUE_STRING;
            v->file = override_file;
            st = mt_strdup(&v->string, value);
        }
    } else if (one && holder->child[0]->string == NULL) {
        st = mt_strdup(&holder->child[0]->string, value);
    }
    mt_free(&text);
    text_release(&source);
    text_release(&scanned);
    return st;
}

static mt_status apply_override(struct config *c, const char *override)
{
    char key[CONFIG_PATH_BYTES];
    size_t n = strcspn(override, "=");
    if (override[n] != '=' || n == 0 || n >= sizeof key)
        return MT_FAIL(MT_ARG, "--set %s: expected key=value", override);
    memcpy(key, override, n);
    key[n] = '\0';
    struct config_value *target = NULL, *holder = NULL;
    MT_TRY(reach(c, key, &target));
    MT_TRY(mt_alloc(&holder, 1, sizeof *holder, "an override"));
    mt_status st = parse_override_value(c, holder, key, override + n + 1);
    if (st == MT_OK) {
        replace_value(target, holder);
        target->file = override_file;
        target->line = 0;
    }
    value_destroy(&holder);
    return st;
}

/* Parses a part of a bundle into v; `skipped` lines of the bundle stand before it. */
static mt_status parse_part(struct config *c, struct config_value *v, const char *part,
                            int64_t bytes, int32_t skipped)
{
    struct text source = {0}, scanned = {0};
    char *shifted = NULL, *flat = NULL;
    mt_status st;
    for (int32_t i = 0; i < skipped; i++)
        text_add(&source, "\n");
    text_add_bytes(&source, part, bytes);
    MT_TRY_GOTO(st, text_finish(&source, &shifted), done);
    struct config_scan scan = {.file = config_file(c), .markers = true};
    MT_TRY_GOTO(st, config_scan_text(&scan, shifted, skipped + bytes, &scanned), done);
    MT_TRY_GOTO(st, text_finish(&scanned, &flat), done);
    st = parse_text(c, v, flat, NULL);
done:
    mt_free(&shifted);
    mt_free(&flat);
    text_release(&source);
    text_release(&scanned);
    return st;
}

/* Puts the settings of the second part in the place of the first one's of the same name. */
static mt_status replace_members(struct config *c, struct config_value *second)
{
    for (int32_t i = 0; i < second->child_count; i++) {
        struct config_value *from = second->child[i], *to = member(c->root, from->name);
        struct config_value holder = {.child = &from, .child_count = 1};
        if (to == NULL)
            MT_TRY(child_add(c, c->root, from->name, &to));
        replace_value(to, &holder);
        to->file = from->file;
        to->line = from->line;
    }
    return MT_OK;
}

static mt_status parse_second(struct config *c, const char *text, const char *cut)
{
    struct config_value *second = NULL;
    const char *part = cut + strlen(CONFIG_REPLACE_LINE);
    int32_t skipped = 0;
    for (const char *at = text; at < part; at++)
        skipped += *at == '\n';
    MT_TRY(mt_alloc(&second, 1, sizeof *second, "a schedule file"));
    second->type = VALUE_GROUP;
    mt_status st = parse_part(c, second, part, (int64_t)strlen(part), skipped);
    if (st == MT_OK)
        st = replace_members(c, second);
    value_destroy(&second);
    return st;
}

static mt_status fill(struct config *c, const char *text, const char *const *overrides,
                      int32_t override_count)
{
    const char *cut = strstr(text, CONFIG_REPLACE_LINE);
    int64_t bytes = cut != NULL ? cut - text : (int64_t)strlen(text);
    MT_TRY(read_markers(c, text));
    MT_TRY(mt_alloc(&c->root, 1, sizeof *c->root, "a job file"));
    c->root->type = VALUE_GROUP;
    mt_status st = parse_part(c, c->root, text, bytes, 0);
    if (st == MT_OK && cut != NULL)
        st = parse_second(c, text, cut);
    for (int32_t i = 0; st == MT_OK && i < override_count; i++)
        st = apply_override(c, overrides[i]);
    return st;
}

mt_status config_parse(struct config **out, const char *text, const char *const *overrides,
                       int32_t override_count)
{
    struct config *c = NULL;
    MT_TRY(mt_alloc(&c, 1, sizeof *c, "a job file"));
    mt_status st = fill(c, text, overrides, override_count);
    if (st == MT_OK)
        *out = c;
    else
        config_close(&c);
    return st;
}

void config_close(struct config **c)
{
    if (*c == NULL)
        return;
    value_destroy(&(*c)->root);
    for (int32_t i = 0; i < (*c)->marker_count; i++)
        mt_free(&(*c)->marker[i].file);
    mt_free(&(*c)->marker);
    mt_free(&(*c)->folder);
    mt_free(c);
}

const char *config_file(const struct config *c)
{
    return c->marker_count > 0 ? c->marker[0].file : no_file;
}

const char *config_folder(const struct config *c)
{
    return c->folder == NULL ? "" : c->folder;
}

const struct config_value *config_root(const struct config *c)
{
    return c->root;
}

const struct config_value *config_member(const struct config_value *group, const char *name)
{
    return group->type == VALUE_GROUP ? member(group, name) : NULL;
}

/* The deepest value on the path that is there; *whole = the path's own. */
static const struct config_value *deepest(const struct config *c, const char *path, bool *whole)
{
    const struct config_value *v = c->root;
    struct step s;
    while (*path != '\0' && next_step(&path, &s)) {
        const struct config_value *next = follow(v, &s);
        if (next == NULL) {
            *whole = false;
            return v;
        }
        v = next;
    }
    *whole = *path == '\0';
    return v;
}

const struct config_value *config_find(const struct config *c, const char *path)
{
    bool whole;
    const struct config_value *v = deepest(c, path, &whole);
    return whole ? v : NULL;
}

void config_path(char path[CONFIG_PATH_BYTES], const struct config_value *v)
{
    path[0] = '\0';
    if (v->parent == NULL)
        return;
    config_path(path, v->parent);
    size_t used = strlen(path);
    if (v->name != NULL) {
        (void)snprintf(path + used, CONFIG_PATH_BYTES - used, "%s%s", used > 0 ? "." : "", v->name);
        return;
    }
    int32_t i = 0;
    while (i < v->parent->child_count && v->parent->child[i] != v)
        i++;
    (void)snprintf(path + used, CONFIG_PATH_BYTES - used, "[%d]", i);
}

static void place(char *text, size_t bytes, const struct config_value *v)
{
    if (v->file == override_file)
        (void)snprintf(text, bytes, "--set ");
    else if (v->line > 0)
        (void)snprintf(text, bytes, v->file == no_file ? "%s %d: " : "%s:%d: ", v->file, v->line);
    else
        (void)snprintf(text, bytes, "%s: ", v->file == no_file ? "job" : v->file);
}

void config_where(char where[CONFIG_WHERE_BYTES], const struct config_value *v)
{
    char path[CONFIG_PATH_BYTES];
    char before[CONFIG_WHERE_BYTES - CONFIG_PATH_BYTES];
    config_path(path, v);
    place(before, sizeof before, v);
    (void)snprintf(where, CONFIG_WHERE_BYTES, "%s%s", before, path);
}

mt_status config_fail(const struct config *c, const char *path, const char *format, ...)
{
    char before[CONFIG_WHERE_BYTES];
    char message[MT_MESSAGE_BYTES];
    bool whole;
    const struct config_value *v = deepest(c, path, &whole);
    if (v->file == override_file && !whole)
        (void)snprintf(before, sizeof before, "%s: ", config_file(c));
    else
        place(before, sizeof before, v);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return MT_FAIL(MT_CONFIG, "%s%s: %s", before, path, message);
}
