/*
 * See pattern.h.  Backtracking over (place in the pattern, place in the name); places from which
 * there is no match are remembered, so a pattern of many stars costs length times length.
 */
#include "schedules/pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schedules/options.h"

enum { PATTERN_BYTES = 256 };

struct matcher {
    const char *pattern, *name;
    uint8_t failed[PATTERN_BYTES][TENSOR_NAME_BYTES / 8];
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads digits, at most 9; NULL where there are none. */
static const char *read_number(const char *text, long *out)
{
    const char *c = text;
    *out = 0;
    while (is_digit(*c) && c - text < 9)
        *out = *out * 10 + (*c++ - '0');
    return c == text || is_digit(*c) ? NULL : c;
}

/* Reads "[8-11]" or "[0-2,7]"; *inside says whether n is in it (n < 0 = only check).  The place
 * behind the bracket, or NULL for wrong syntax. */
static const char *read_ranges(const char *c, long n, bool *inside)
{
    *inside = false;
    do {
        long low, high;
        c = read_number(c + 1, &low);
        if (c == NULL)
            return NULL;
        high = low;
        if (*c == '-' && (c = read_number(c + 1, &high)) == NULL)
            return NULL;
        if (high < low)
            return NULL;
        *inside = *inside || (n >= low && n <= high);
    } while (*c == ',');
    return *c == ']' ? c + 1 : NULL;
}

static bool match_at(struct matcher *m, const char *p, const char *n);

static bool match_star(struct matcher *m, const char *p, const char *n)
{
    for (;; n++) {
        if (match_at(m, p, n))
            return true;
        if (*n == '\0')
            return false;
    }
}

static bool match_range(struct matcher *m, const char *p, const char *n)
{
    long number;
    bool inside;
    if (n > m->name && is_digit(n[-1]))
        return false;
    const char *after = read_number(n, &number);
    if (after == NULL)
        return false;
    p = read_ranges(p, number, &inside);
    return p != NULL && inside && match_at(m, p, after);
}

static bool match_choice(struct matcher *m, const char *p, const char *n)
{
    const char *close = strchr(p, '}');
    for (const char *c = p + 1; close != NULL && c <= close;) {
        size_t length = strcspn(c, ",}");
        if (strncmp(c, n, length) == 0 && match_at(m, close + 1, n + length))
            return true;
        c += length + 1;
    }
    return false;
}

static bool match_at(struct matcher *m, const char *p, const char *n)
{
    uint8_t *row = m->failed[p - m->pattern];
    size_t column = (size_t)(n - m->name);
    if ((row[column / 8] >> (column % 8) & 1) != 0)
        return false;
    bool found;
    if (*p == '\0')
        found = *n == '\0' || *n == '.';
    else if (*p == '*')
        found = match_star(m, p + 1, n);
    else if (*p == '[')
        found = match_range(m, p, n);
    else if (*p == '{')
        found = match_choice(m, p, n);
    else
        found = *p == *n && match_at(m, p + 1, n + 1);
    if (!found)
        row[column / 8] = (uint8_t)(row[column / 8] | 1u << (column % 8));
    return found;
}

int32_t pattern_top(const char *pattern, int32_t layers)
{
    long k;
    if (strncmp(pattern, "top(", 4) != 0)
        return -1;
    const char *c = read_number(pattern + 4, &k);
    if (c == NULL)
        return -1;
    if (*c == '%' && k <= 100) {
        k = ((long)layers * k + 99) / 100;
        c++;
    }
    if (strcmp(c, ")") != 0)
        return -1;
    return k > layers ? layers : (int32_t)k;
}

/* What is wrong with the syntax, or NULL. */
static const char *syntax_error(const char *p)
{
    bool inside;
    if (p[0] == '\0')
        return "an empty pattern";
    if (strlen(p) >= PATTERN_BYTES)
        return "a pattern longer than 255 characters";
    if (strncmp(p, "top(", 4) == 0)
        return pattern_top(p, 1) < 0 ? "expected top(4) or top(33%)" : NULL;
    while (*p != '\0') {
        if (*p == '[') {
            p = read_ranges(p, -1, &inside);
            if (p == NULL)
                return "expected a range of numbers like [8-11] or [0-2,7]";
        } else if (*p == '{') {
            p += 1 + strcspn(p + 1, "{}[]*");
            if (*p++ != '}')
                return "expected a choice of plain texts like {a,b}";
        } else if (*p == ']' || *p == '}' || *p == '(' || *p == ')') {
            return "a bracket that was not opened";
        } else {
            p++;
        }
    }
    return NULL;
}

mt_status pattern_check(const char *pattern, const char *where)
{
    const char *error = syntax_error(pattern);
    if (error == NULL)
        return MT_OK;
    return MT_FAIL(MT_CONFIG, "%s: \"%.200s\": %s", where, pattern, error);
}

bool pattern_match(const char *pattern, const struct tensor *tensor, int32_t layers)
{
    if (syntax_error(pattern) != NULL || strcmp(pattern, "none") == 0)
        return false;
    if (strcmp(pattern, "all") == 0)
        return true;
    int32_t top = pattern_top(pattern, layers);
    if (top >= 0)
        return tensor->depth >= 1 && tensor->depth <= layers && tensor->depth > layers - top;
    struct matcher m = {.pattern = pattern, .name = tensor->name};
    return match_at(&m, pattern, tensor->name);
}

/* "layers are 0..11; heads are category, sentiment" */
static void describe_groups(const struct tensor_table *table, char *text, size_t bytes)
{
    int n = snprintf(text, bytes, "layers are 0..%d", table->layers - 1);
    size_t used = (size_t)n;
    size_t last_length = 0;
    const char *last = "";
    for (int32_t i = 0; i < table->count; i++) {
        const char *name = table->entry[i].name;
        if (strncmp(name, "heads.", 6) != 0)
            continue;
        size_t length = strcspn(name + 6, ".");
        if (length == last_length && strncmp(last, name + 6, length) == 0)
            continue;
        n = snprintf(text + used, bytes - used, "%s%.*s", last_length == 0 ? "; heads are " : ", ",
                     (int)length, name + 6);
        used += (size_t)n;
        if (used >= bytes)
            return;
        last = name + 6;
        last_length = length;
    }
}

static mt_status no_tensor(const char *pattern, const char *where, const struct tensor_table *table)
{
    char groups[256];
    if (strncmp(pattern, "encoder.", 8) == 0)
        (void)snprintf(groups, sizeof groups, "layers are 0..%d", table->layers - 1);
    else
        describe_groups(table, groups, sizeof groups);
    return MT_FAIL(MT_CONFIG, "%s: \"%s\" matches no tensor (%s)", where, pattern, groups);
}

mt_status pattern_select(const struct string_list *patterns, const struct tensor_table *table,
                         uint8_t value, uint8_t *mask, int32_t *absent)
{
    const char *where = patterns->where == NULL ? "phases" : patterns->where;
    for (int32_t p = 0; p < patterns->count; p++) {
        const char *pattern = patterns->item[p];
        MT_TRY(pattern_check(pattern, where));
        bool found = strcmp(pattern, "none") == 0 || pattern_top(pattern, table->layers) == 0;
        for (int32_t i = 0; i < table->count; i++) {
            if (!pattern_match(pattern, &table->entry[i], table->layers))
                continue;
            if (mask != NULL)
                mask[i] = value;
            found = true;
        }
        if (found)
            continue;
        if (strncmp(pattern, "pooler", 6) != 0)
            return no_tensor(pattern, where, table);
        if (absent != NULL)
            (*absent)++;
    }
    return MT_OK;
}
