/* See available_memory.h.  Files that are not there or not numbers ("max") set no limit. */
#include "trainer/available_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 512, LINE_BYTES = 512 };

/* A version of cgroups: names of its files. */
struct version {
    const char *mount, *limit, *usage, *cache_key;
};

static const struct version two = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                   "inactive_file "};
static const struct version one = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                   "memory.usage_in_bytes", "total_inactive_file "};

/* The number behind `key` in a file of lines, the first number for key ""; -1 = none. */
static int64_t number_in(const char *path, const char *key)
{
    char line[LINE_BYTES], *end;
    int64_t found = -1;
    FILE *f = fopen(path, "re");
    while (f != NULL && found < 0 && fgets(line, (int)sizeof line, f) != NULL) {
        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        const char *text = line + strlen(key);
        long long value = strtoll(text, &end, 10);
        if (end == text)
            break;
        found = value;
    }
    if (f != NULL)
        (void)fclose(f);
    return found;
}

/* Limit less usage of one group. */
static void look_at_group(struct available_memory *out, const char *root, const struct version *v,
                          const char *group)
{
    char path[3 * PATH_BYTES], limit_path[3 * PATH_BYTES];
    (void)snprintf(limit_path, sizeof limit_path, "%s%s%s/%s", root, v->mount, group, v->limit);
    int64_t limit = number_in(limit_path, "");
    (void)snprintf(path, sizeof path, "%s%s%s/%s", root, v->mount, group, v->usage);
    int64_t usage = number_in(path, "");
    (void)snprintf(path, sizeof path, "%s%s%s/memory.stat", root, v->mount, group);
    int64_t cache = number_in(path, v->cache_key);
    if (limit < 0 || usage < 0)
        return;
    int64_t left = limit - usage + (cache > 0 ? cache : 0);
    left = left < 0 ? 0 : left;
    if (out->bytes >= 0 && left >= out->bytes)
        return;
    out->bytes = left;
    (void)snprintf(out->source, sizeof out->source, "%.300s", limit_path + strlen(root));
}

/* A group and all above it; group is cut. */
static void look_at_groups(struct available_memory *out, const char *root, const struct version *v,
                           char *group)
{
    group[strcspn(group, "\n")] = '\0';
    for (;;) {
        char *slash = strrchr(group, '/');
        if (slash != NULL && slash[1] == '\0') {
            *slash = '\0';
            continue;
        }
        look_at_group(out, root, v, group);
        if (slash == NULL)
            return;
        *slash = '\0';
    }
}

void available_memory_find(struct available_memory *out, const char *root)
{
    char path[2 * PATH_BYTES], line[LINE_BYTES], top[1] = "";
    (void)snprintf(path, sizeof path, "%s/proc/meminfo", root);
    int64_t kilobytes = number_in(path, "MemAvailable:");
    *out = (struct available_memory){.bytes = kilobytes >= 0 ? 1024 * kilobytes : -1};
    (void)snprintf(out->source, sizeof out->source, "MemAvailable");
    (void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, (int)sizeof line, f) != NULL) {
        char *controllers = strchr(line, ':'), *group = NULL;
        if (controllers != NULL)
            group = strchr(controllers + 1, ':');
        if (group == NULL)
            continue;
        *group++ = '\0';
        if (controllers[1] == '\0')
            look_at_groups(out, root, &two, group);
        else if (strcmp(controllers + 1, "memory") == 0)
            look_at_groups(out, root, &one, group);
    }
    if (f != NULL)
        (void)fclose(f);
    look_at_group(out, root, &two, top); /* where the path is not that of this mount */
    look_at_group(out, root, &one, top);
}
