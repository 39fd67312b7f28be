/*
 * The idea: all tokens lie in one block of text, and an open-addressing table of 8-byte slots (half
 * of the hash, the id) finds them; the half in the slot spares nearly every comparison with a token
 * that is not meant.  Refused: a trie, which is slower to build and larger, and no faster for words
 * that are mostly tokens as they stand.  Cost: 8 to 16 bytes a token beside its text; a look-up
 * is about one cache miss.
 */
#include "io/vocab.h"

#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/vocab_json.h"

#include <string.h>

struct vocab_flags vocab_flags_default(bool lowercase)
{
    return (struct vocab_flags){.clean_text = true,
                                .chinese_chars = true,
                                .strip_accents = lowercase,
                                .lowercase = lowercase};
}

static uint64_t hash_of(const char *bytes, int64_t n_bytes)
{
    uint64_t h = VOCAB_HASH_EMPTY;
    for (int64_t i = 0; i < n_bytes; i++)
        h = vocab_hash_step(h, bytes[i]);
    return h;
}

/* FNV-1a spreads its last bytes poorly over the low bits; this does (Murmur3's finaliser). */
static uint64_t hash_finish(uint64_t h)
{
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    return h ^ h >> 33;
}

static int64_t token_bytes(const struct vocab *v, int32_t id)
{
    return v->offset[id + 1] - v->offset[id] - 1;
}

/* The slot of prefix+bytes, or the free slot where it belongs. */
static int64_t slot_of(const struct vocab *v, uint64_t hash, const char *prefix, const char *bytes,
                       int64_t n_bytes)
{
    uint64_t h = hash_finish(hash);
    int64_t i = (int64_t)(h & (uint64_t)(v->slot_count - 1));
    int64_t prefix_bytes = prefix[0] == '\0' ? 0 : 2;
    for (;; i = (i + 1) & (v->slot_count - 1)) {
        struct vocab_slot s = v->slot[i];
        if (s.id < 0)
            return i;
        if (s.check != (uint32_t)(h >> 32) || token_bytes(v, s.id) != prefix_bytes + n_bytes)
            continue;
        const char *token = v->text + v->offset[s.id];
        if (memcmp(token, prefix, (size_t)prefix_bytes) == 0 &&
            memcmp(token + prefix_bytes, bytes, (size_t)n_bytes) == 0)
            return i;
    }
}

int32_t vocab_find_hashed(const struct vocab *v, uint64_t hash, const char *prefix,
                          const char *bytes, int64_t n_bytes)
{
    return v->slot[slot_of(v, hash, prefix, bytes, n_bytes)].id;
}

int32_t vocab_find(const struct vocab *v, const char *bytes, int64_t n_bytes)
{
    return vocab_find_hashed(v, hash_of(bytes, n_bytes), "", bytes, n_bytes);
}

const char *vocab_token(const struct vocab *v, int32_t id)
{
    return id < 0 || id >= v->count ? "" : v->text + v->offset[id];
}

void vocab_close(struct vocab *v)
{
    mt_free(&v->text);
    mt_free(&v->offset);
    mt_free(&v->slot);
    *v = (struct vocab){0};
}

/* Enters every token that is not empty; of equal ones the last id stays. */
static mt_status build_index(struct vocab *v)
{
    v->slot_count = 16;
    while (v->slot_count < 2 * (int64_t)v->count)
        v->slot_count *= 2;
    MT_TRY(mt_alloc(&v->slot, v->slot_count, sizeof *v->slot, "vocabulary index"));
    for (int64_t i = 0; i < v->slot_count; i++)
        v->slot[i].id = -1;
    for (int32_t id = 0; id < v->count; id++) {
        int64_t bytes = token_bytes(v, id);
        if (bytes == 0)
            continue;
        const char *token = v->text + v->offset[id];
        uint64_t hash = hash_of(token, bytes);
        struct vocab_slot *s = &v->slot[slot_of(v, hash, "", token, bytes)];
        v->duplicates += s->id >= 0;
        *s = (struct vocab_slot){(uint32_t)(hash_finish(hash) >> 32), id};
        if (bytes > v->longest_bytes)
            v->longest_bytes = (int32_t)bytes;
    }
    return MT_OK;
}

/* Keeps added[] sorted: longer tokens first, so that the first that fits is the longest. */
static mt_status add_matched(struct vocab *v, int32_t id, const char *where)
{
    for (int32_t i = 0; i < v->added_count; i++)
        if (v->added[i] == id)
            return MT_OK;
    if (v->added_count == VOCAB_ADDED_CAPACITY)
        return MT_FAIL(MT_DATA, "%s: more than %d added tokens", where, VOCAB_ADDED_CAPACITY);
    int32_t at = v->added_count++;
    for (; at > 0 && token_bytes(v, v->added[at - 1]) < token_bytes(v, id); at--)
        v->added[at] = v->added[at - 1];
    v->added[at] = id;
    return MT_OK;
}

static mt_status find_specials(struct vocab *v, const char *where)
{
    const struct {
        const char *token;
        int32_t *id;
        bool needed;
    } specials[] = {{"[PAD]", &v->pad, false},
                    {"[UNK]", &v->unk, true},
                    {"[CLS]", &v->cls, true},
                    {"[SEP]", &v->sep, true},
                    {"[MASK]", &v->mask, false}};
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        const char *token = specials[i].token;
        *specials[i].id = vocab_find(v, token, (int64_t)strlen(token));
        if (*specials[i].id >= 0)
            MT_TRY(add_matched(v, *specials[i].id, where));
        else if (specials[i].needed)
            return MT_FAIL(
                MT_DATA, "%s: token %s is missing; a BERT vocabulary holds it on a line of its own",
                where, token);
    }
    return MT_OK;
}

static mt_status finish_tables(struct vocab *v, const char *where)
{
    MT_TRY(build_index(v));
    MT_TRY(find_specials(v, where));
    if (v->duplicates > 0)
        log_warning("%s: %lld tokens stand twice; the last line of each counts", where,
                    (long long)v->duplicates);
    return MT_OK;
}

/* Copies tokens into v->text, more of them behind those that are there. */
static mt_status append_tokens(struct vocab *v, const char *const *tokens, int64_t count,
                               const char *where)
{
    int64_t used = v->count > 0 ? v->offset[v->count] : 0, bytes = used;
    if (count > VOCAB_MAX_TOKENS - v->count)
        return MT_FAIL(MT_DATA, "%s: more than %d tokens", where, VOCAB_MAX_TOKENS);
    for (int64_t i = 0; i < count; i++) {
        bytes += (int64_t)strlen(tokens[i]) + 1;
        if (bytes > 2 * (int64_t)VOCAB_MAX_BYTES)
            return MT_FAIL(MT_DATA, "%s: the tokens are larger than %d bytes", where,
                           2 * VOCAB_MAX_BYTES);
    }
    MT_TRY(mt_grow(&v->text, used, bytes, 1, "vocabulary"));
    MT_TRY(mt_grow(&v->offset, v->count > 0 ? v->count + 1 : 0, v->count + count + 1,
                   sizeof *v->offset, "vocabulary"));
    for (int64_t i = 0; i < count; i++) {
        size_t length = strlen(tokens[i]) + 1;
        memcpy(v->text + used, tokens[i], length);
        v->offset[v->count + i] = used;
        used += (int64_t)length;
    }
    v->count += (int32_t)count;
    v->offset[v->count] = used;
    return MT_OK;
}

mt_status vocab_create(struct vocab *out, const char *const *tokens, int64_t count,
                       struct vocab_flags flags, const char *where)
{
    struct vocab v = {.flags = flags};
    mt_status st;
    MT_TRY_GOTO(st, append_tokens(&v, tokens, count, where), done);
    MT_TRY_GOTO(st, finish_tables(&v, where), done);
    *out = v;
    return MT_OK;
done:
    vocab_close(&v);
    return st;
}

/* Cuts the lines of a vocab.txt in place: each ends as a NUL, CR before LF goes. */
static mt_status read_lines(struct vocab *v, const char *path)
{
    int64_t bytes = 0, used = 0, lines = 0;
    MT_TRY(file_read(&v->text, &bytes, path, VOCAB_MAX_BYTES));
    for (int64_t i = 0; i < bytes; i++)
        lines += v->text[i] == '\n';
    lines += bytes > 0 && v->text[bytes - 1] != '\n';
    if (lines == 0 || lines > VOCAB_MAX_TOKENS)
        return MT_FAIL(MT_DATA, "%s: %lld lines; a vocabulary has 1 to %d, a token on each", path,
                       (long long)lines, VOCAB_MAX_TOKENS);
    MT_TRY(mt_alloc(&v->offset, lines + 1, sizeof *v->offset, "vocabulary"));
    for (int64_t begin = 0; begin < bytes; v->count++) {
        const char *end = memchr(v->text + begin, '\n', (size_t)(bytes - begin));
        int64_t length = (end != NULL ? end - v->text : bytes) - begin, next = begin + length + 1;
        if (end != NULL && length > 0 && end[-1] == '\r')
            length--;
        memmove(v->text + used, v->text + begin, (size_t)length);
        v->offset[v->count] = used;
        used += length;
        v->text[used++] = '\0';
        begin = next;
    }
    v->offset[v->count] = used;
    return MT_OK;
}

/* Tokens that tokenizer_config.json or tokenizer.json add at ids past the vocabulary's end. */
static mt_status append_added(struct vocab *v, const struct vocab_json *j, const char *where)
{
    int32_t count = v->count;
    for (int32_t i = 0; i < j->added_count; i++)
        count = j->added[i].id >= count ? j->added[i].id + 1 : count;
    if (count == v->count)
        return MT_OK;
    const char **extra = NULL;
    MT_TRY(mt_alloc(&extra, count - v->count, sizeof *extra, "added tokens"));
    for (int32_t i = 0; i < count - v->count; i++)
        extra[i] = "";
    for (int32_t i = 0; i < j->added_count; i++)
        if (j->added[i].id >= v->count)
            extra[j->added[i].id - v->count] = j->added[i].content;
    mt_status st = append_tokens(v, extra, count - v->count, where);
    mt_free(&extra);
    return st;
}

static mt_status match_added(struct vocab *v, const struct vocab_json *j, const char *where)
{
    for (int32_t i = 0; i < j->added_count; i++) {
        const struct vocab_added *a = &j->added[i];
        int32_t id = vocab_find(v, a->content, (int64_t)strlen(a->content));
        if (id != a->id)
            return MT_FAIL(
                MT_DATA,
                "%s: added token \"%.100s\" has id %d, but the vocabulary has \"%.100s\" "
                "there; the files do not belong together",
                where, a->content, a->id, vocab_token(v, a->id));
        if (a->plain)
            MT_TRY(add_matched(v, id, where));
        else
            log_warning("%s: added token \"%.100s\" is not looked for in text: only those with "
                        "normalized, lstrip, rstrip and single_word false are",
                        where, a->content);
    }
    return MT_OK;
}

static int32_t first_said(int32_t a, int32_t b, int32_t c)
{
    return a >= 0 ? a : b >= 0 ? b : c;
}

/* tokenizer_config.json goes before tokenizer.json, and both give way to the caller's case. */
static struct vocab_flags merge_flags(const struct vocab_json *config,
                                      const struct vocab_json *tokenizer,
                                      enum vocab_case letter_case)
{
    struct vocab_flags f;
    int32_t lower = letter_case == VOCAB_CASE_AUTO ? -1 : letter_case == VOCAB_CASE_LOWER;
    f.lowercase = first_said(lower, config->lowercase, first_said(tokenizer->lowercase, -1, 1));
    f.strip_accents = first_said(config->strip_accents, tokenizer->strip_accents, f.lowercase);
    f.chinese_chars = first_said(config->chinese_chars, tokenizer->chinese_chars, 1);
    f.clean_text = first_said(tokenizer->clean_text, -1, 1);
    return f;
}

/* Hugging Face lowers case where no file says anything; for a vocabulary full of capitals that is
 * likely to be a mistake. */
static void warn_of_capitals(const struct vocab *v, const char *path)
{
    int64_t capitals = 0;
    for (int32_t id = 0; id < v->count; id++) {
        char c = v->text[v->offset[id]];
        capitals += c >= 'A' && c <= 'Z';
    }
    if (v->flags.lowercase && capitals > v->count / 20)
        log_warning("%s: %lld of %d tokens begin with a capital, but text is lowered; ask for the "
                    "cased form if the model is cased",
                    path, (long long)capitals, v->count);
}

static bool ends_with_json(const char *path)
{
    return file_path_has_extension(path, ".json");
}

struct vocab_paths {
    char *folder, *vocab, *tokenizer, *config; /* vocab NULL = it is tokenizer */
};

static void release_paths(struct vocab_paths *p)
{
    mt_free(&p->folder);
    mt_free(&p->vocab);
    mt_free(&p->tokenizer);
    mt_free(&p->config);
}

static mt_status find_paths(struct vocab_paths *p, const char *path)
{
    if (file_is_dir(path)) {
        MT_TRY(mt_strdup(&p->folder, path));
        MT_TRY(file_path_join(&p->vocab, path, "vocab.txt"));
        MT_TRY(file_path_join(&p->tokenizer, path, "tokenizer.json"));
        if (!file_exists(p->vocab) && file_exists(p->tokenizer))
            mt_free(&p->vocab);
    } else {
        MT_TRY(file_path_dir(&p->folder, path));
        if (ends_with_json(path)) {
            MT_TRY(mt_strdup(&p->tokenizer, path));
        } else {
            MT_TRY(mt_strdup(&p->vocab, path));
            MT_TRY(file_path_join(&p->tokenizer, p->folder, "tokenizer.json"));
        }
    }
    return file_path_join(&p->config, p->folder, "tokenizer_config.json");
}

static mt_status open_from(struct vocab *v, const struct vocab_paths *p, struct vocab_json *config,
                           struct vocab_json *tokenizer, enum vocab_case letter_case)
{
    const char *where = p->vocab != NULL ? p->vocab : p->tokenizer;
    MT_TRY(vocab_json_read_config(config, p->config));
    if (p->vocab == NULL) {
        MT_TRY(vocab_json_read_tokenizer(tokenizer, p->tokenizer, true));
        MT_TRY(append_tokens(v, tokenizer->tokens, tokenizer->token_count, where));
    } else {
        MT_TRY(read_lines(v, p->vocab));
        if (config->lowercase < 0 && letter_case == VOCAB_CASE_AUTO && file_exists(p->tokenizer))
            MT_TRY(vocab_json_read_tokenizer(tokenizer, p->tokenizer, false));
    }
    MT_TRY(append_added(v, config, p->config));
    MT_TRY(append_added(v, tokenizer, p->tokenizer));
    v->flags = merge_flags(config, tokenizer, letter_case);
    v->max_length_tokens = config->max_length_tokens;
    MT_TRY(finish_tables(v, where));
    MT_TRY(match_added(v, config, p->config));
    MT_TRY(match_added(v, tokenizer, p->tokenizer));
    if (letter_case == VOCAB_CASE_AUTO && config->lowercase < 0 && tokenizer->lowercase < 0)
        warn_of_capitals(v, where);
    return MT_OK;
}

mt_status vocab_open(struct vocab *out, const char *path, enum vocab_case letter_case)
{
    struct vocab v = {0};
    struct vocab_paths paths = {0};
    struct vocab_json config, tokenizer;
    vocab_json_init(&config);
    vocab_json_init(&tokenizer);
    mt_status st;
    MT_TRY_GOTO(st, find_paths(&paths, path), done);
    MT_TRY_GOTO(st, open_from(&v, &paths, &config, &tokenizer, letter_case), done);
    *out = v;
    v = (struct vocab){0};
done:
    vocab_close(&v);
    release_paths(&paths);
    vocab_json_release(&config);
    vocab_json_release(&tokenizer);
    return st;
}

uint64_t vocab_hash(const struct vocab *v)
{
    struct hash64 h;
    hash64_init(&h, 0);
    hash64_add_int(&h, v->count);
    hash64_add(&h, v->text, v->offset[v->count]);
    hash64_add_int(&h, v->flags.clean_text);
    hash64_add_int(&h, v->flags.chinese_chars);
    hash64_add_int(&h, v->flags.strip_accents);
    hash64_add_int(&h, v->flags.lowercase);
    for (int32_t i = 0; i < v->added_count; i++)
        hash64_add_int(&h, v->added[i]);
    return hash64_value(&h);
}

mt_status vocab_write(const struct vocab *v, const char *path)
{
    struct file_writer w;
    mt_status st;
    MT_TRY(file_writer_open(&w, path));
    for (int32_t id = 0; id < v->count; id++) {
        const char *token = vocab_token(v, id);
        int64_t bytes = token_bytes(v, id);
        if (memchr(token, '\n', (size_t)bytes) != NULL || (bytes > 0 && token[bytes - 1] == '\r')) {
            st =
                MT_FAIL(MT_DATA, "%s: token %d holds a line end, which vocab.txt cannot", path, id);
            goto done;
        }
        MT_TRY_GOTO(st, file_writer_write(&w, token, bytes), done);
        MT_TRY_GOTO(st, file_writer_write(&w, "\n", 1), done);
    }
    st = file_writer_commit(&w);
done:
    file_writer_discard(&w);
    return st;
}
