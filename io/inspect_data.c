/* See inspect_data.h.  Everything but the content hash comes from offsets, labels and attributes.
 */
#include "io/inspect_data.h"

#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/dataset.h"
#include "io/file.h"
#include "io/shard_manifest.h"

enum { BAR = 40, CLASSES_SHOWN = 20 };

bool inspect_data_is(const char *path)
{
    bool found = file_path_has_extension(path, ".h5") && !file_is_dir(path);
    if (found || strcmp(file_path_base(path), MANIFEST_FILE) == 0)
        return true;
    if (!file_is_dir(path))
        return false;
    struct file_list list;
    if (file_list_read(&list, path) != MT_OK) {
        mt_error_clear();
        return false;
    }
    for (int32_t i = 0; i < list.count; i++)
        found = found || strncmp(list.names[i], "shard-", 6) == 0;
    file_list_release(&list);
    return found;
}

static void print_bar(FILE *out, int64_t count, int64_t most)
{
    int length = most > 0 ? (int)((double)count / (double)most * BAR + 0.5) : 0;
    for (int i = 0; i < length; i++)
        (void)fputc('#', out);
    (void)fputc('\n', out);
}

static double percent(int64_t part, int64_t whole)
{
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0.0;
}

static void print_rate(FILE *out, const char *what, int64_t part, int64_t whole)
{
    if (part < 0)
        (void)fprintf(out, "%-18s not recorded\n", what);
    else
        (void)fprintf(out, "%-18s %lld (%.3f %%)\n", what, (long long)part, percent(part, whole));
}

/* Sums over the shards; -1 as soon as one does not know. */
static void add_counts(const struct dataset *d, int64_t *unknown, int64_t *truncated,
                       int64_t *replaced)
{
    *unknown = *truncated = *replaced = 0;
    for (int32_t i = 0; i < dataset_shard_count(d); i++) {
        const struct shard_info *info = shard_info_of(dataset_shard(d, i));
        *unknown = *unknown < 0 || info->unknown_tokens < 0 ? -1 : *unknown + info->unknown_tokens;
        *truncated =
            *truncated < 0 || info->truncated_rows < 0 ? -1 : *truncated + info->truncated_rows;
        *replaced =
            *replaced < 0 || info->replaced_bytes < 0 ? -1 : *replaced + info->replaced_bytes;
    }
}

static void print_summary(FILE *out, const struct dataset *d)
{
    const struct shard_info *info = shard_info_of(dataset_shard(d, 0));
    int64_t unknown, truncated, replaced;
    add_counts(d, &unknown, &truncated, &replaced);
    (void)fprintf(out, "%-18s mttrain-shard, version %d%s%s\n", "format", info->version,
                  info->compressed ? ", compressed" : "", info->has_types ? ", pairs" : "");
    (void)fprintf(out, "%-18s %d\n", "shards", dataset_shard_count(d));
    (void)fprintf(out, "%-18s %lld\n", "rows", (long long)dataset_rows(d));
    (void)fprintf(out, "%-18s %lld\n", "tokens", (long long)dataset_tokens(d));
    (void)fprintf(out, "%-18s %d tokens, hash %016llx\n", "vocabulary", info->vocab_size,
                  (unsigned long long)info->vocab_hash);
    if (info->tokenizer[0] != '\0')
        (void)fprintf(out, "%-18s %s\n", "tokenizer", info->tokenizer);
    if (info->source_hash != 0)
        (void)fprintf(out, "%-18s %016llx\n", "source hash", (unsigned long long)info->source_hash);
    print_rate(out, "unknown tokens", unknown, dataset_tokens(d));
    print_rate(out, "truncated rows", truncated, dataset_rows(d));
    if (info->max_tokens > 0)
        (void)fprintf(out, "%-18s %d tokens\n", "rows cut at", info->max_tokens);
    if (replaced >= 0)
        (void)fprintf(out, "%-18s %lld\n", "bad bytes replaced", (long long)replaced);
}

static int32_t quantile(const int64_t *count, int32_t longest, int64_t rows, double q)
{
    int64_t seen = 0, wanted = (int64_t)(q * (double)(rows - 1));
    for (int32_t length = 1; length <= longest; length++) {
        seen += count[length];
        if (seen > wanted)
            return length;
    }
    return longest;
}

static mt_status print_lengths(FILE *out, const struct dataset *d)
{
    int32_t longest = dataset_longest_row_tokens(d);
    int64_t rows = dataset_rows(d), *count, most = 0;
    MT_TRY(mt_alloc(&count, (int64_t)longest + 1, sizeof *count, "length histogram"));
    for (int64_t row = 0; row < rows; row++)
        count[dataset_length(d, row)]++;
    (void)fprintf(
        out, "\nlengths in tokens: mean %.1f, median %d, 90 %% %d, 99 %% %d, longest %d\n",
        (double)dataset_tokens(d) / (double)rows, quantile(count, longest, rows, 0.5),
        quantile(count, longest, rows, 0.9), quantile(count, longest, rows, 0.99), longest);
    int32_t width = (longest + 15) / 16;
    for (int32_t pass = 0; pass < 2; pass++) { /* the largest bin first, then the bars */
        for (int32_t low = 1; low <= longest; low += width) {
            int64_t sum = 0;
            int32_t high = low + width - 1 < longest ? low + width - 1 : longest;
            for (int32_t length = low; length <= high; length++)
                sum += count[length];
            most = sum > most ? sum : most;
            if (pass == 0)
                continue;
            (void)fprintf(out, "%7d-%-7d %10lld  ", low, high, (long long)sum);
            print_bar(out, sum, most);
        }
    }
    mt_free(&count);
    return MT_OK;
}

struct class_count {
    int32_t label;
    int64_t rows;
};

static int compare_counts(const void *a, const void *b)
{
    const struct class_count *x = a, *y = b;
    if (x->rows != y->rows)
        return x->rows > y->rows ? -1 : 1;
    return x->label < y->label ? -1 : x->label > y->label;
}

static mt_status print_task(FILE *out, const struct dataset *d, int32_t t)
{
    const struct shard_task *task = dataset_task(d, t);
    struct class_count *count;
    int64_t labelled = 0, rows = dataset_rows(d);
    MT_TRY(mt_alloc(&count, task->classes, sizeof *count, "label counts"));
    for (int32_t k = 0; k < task->classes; k++)
        count[k].label = k;
    for (int64_t row = 0; row < rows; row++) {
        int32_t label = dataset_label(d, t, row);
        labelled += label >= 0;
        if (label >= 0)
            count[label].rows++;
    }
    (void)fprintf(out, "\ntask %s: %d labels, %lld rows labelled, %lld without a label\n",
                  task->name, task->classes, (long long)labelled, (long long)(rows - labelled));
    int32_t shown = task->classes;
    if (shown > CLASSES_SHOWN) { /* of many, the most frequent */
        qsort(count, (size_t)task->classes, sizeof *count, compare_counts);
        shown = CLASSES_SHOWN;
    }
    int64_t most = 0;
    for (int32_t k = 0; k < task->classes; k++)
        most = count[k].rows > most ? count[k].rows : most;
    for (int32_t k = 0; k < shown; k++) {
        (void)fprintf(out, "%6d %-24.60s %10lld %6.2f %%  ", count[k].label,
                      task->labels[count[k].label], (long long)count[k].rows,
                      percent(count[k].rows, labelled));
        print_bar(out, count[k].rows, most);
    }
    if (shown < task->classes)
        (void)fprintf(out, "       and %d more\n", task->classes - shown);
    mt_free(&count);
    return MT_OK;
}

static mt_status print_sources(FILE *out, const char *path)
{
    struct shard_manifest m;
    char *dir = NULL;
    bool is_dir = file_is_dir(path);
    mt_status st = MT_OK;
    if (is_dir)
        MT_TRY(mt_strdup(&dir, path));
    else
        MT_TRY(file_path_dir(&dir, path));
    char *list = NULL;
    MT_TRY_GOTO(st, file_path_join(&list, dir, MANIFEST_FILE), done);
    if (!file_exists(list) || (!is_dir && strcmp(file_path_base(path), MANIFEST_FILE) != 0))
        goto done;
    MT_TRY_GOTO(st, shard_manifest_read(&m, dir), done);
    for (int32_t i = 0; i < m.source_count; i++)
        (void)fprintf(out, "%-18s %s, %lld bytes, hash %016llx\n", "source", m.sources[i].path,
                      (long long)m.sources[i].size_bytes, (unsigned long long)m.sources[i].hash);
    shard_manifest_release(&m);
done:
    mt_free(&list);
    mt_free(&dir);
    return st;
}

mt_status inspect_data_print(FILE *out, const char *path, bool with_hash)
{
    struct dataset *d;
    MT_TRY(dataset_open(&d, file_path_base(path), &path, 1));
    mt_status st;
    (void)fprintf(out, "%s\n", path);
    print_summary(out, d);
    MT_TRY_GOTO(st, print_sources(out, path), done);
    if (with_hash) {
        uint64_t hash;
        MT_TRY_GOTO(st, dataset_content_hash(d, &hash), done);
        (void)fprintf(out, "%-18s %016llx\n", "content hash", (unsigned long long)hash);
    }
    MT_TRY_GOTO(st, print_lengths(out, d), done);
    for (int32_t t = 0; t < dataset_task_count(d); t++)
        MT_TRY_GOTO(st, print_task(out, d, t), done);
done:
    dataset_close(&d);
    return st;
}
