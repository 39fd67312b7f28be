/*
 * vocab_json: what tokenizer.json and tokenizer_config.json say about a vocabulary.
 */
#ifndef MT_IO_VOCAB_JSON_H
#define MT_IO_VOCAB_JSON_H

#include "comm/base/status.h"

struct vocab_added {
    const char *content; /* borrowed from the document */
    int32_t id;
    bool plain; /* matched in text as it stands: no stripping, no normalising, within words too */
};

/* Zeroed but for vocab_json_init: nothing read. */
struct vocab_json {
    /* 1, 0; -1 = not said.  strip_accents: -1 also for null, which means "as lowercase". */
    int32_t lowercase, strip_accents, chinese_chars, clean_text;
    int64_t max_length_tokens; /* 0 = not said, or no limit */
    struct vocab_added *added; /* [added_count] */
    int32_t added_count;
    const char **tokens; /* [token_count] by id, "" = no such id; of tokenizer.json only */
    int32_t token_count;
    void *document;
};

void vocab_json_init(struct vocab_json *j);
void vocab_json_release(struct vocab_json *j);

/* Local.  tokenizer_config.json: switches, model_max_length, added_tokens_decoder.  A path that
 * does not exist leaves j as it was.  Errors: IO, DATA, NOMEM. */
mt_status vocab_json_read_config(struct vocab_json *j, const char *path) MT_CHECKED;

/* Local.  tokenizer.json: the normaliser's switches and, if with_model, tokens and added tokens.
 * Errors: IO; DATA also for what is not a BERT WordPiece tokenizer; NOMEM. */
mt_status vocab_json_read_tokenizer(struct vocab_json *j, const char *path,
                                    bool with_model) MT_CHECKED;

#endif
