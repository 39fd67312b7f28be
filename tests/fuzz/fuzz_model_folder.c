/* A model folder whose JSON files are of any bytes, parted by bytes 0: described as it would be
 * before loading. */
#include <unistd.h>

#include "comm/base/memory.h"
#include "io/bert_config.h"
#include "io/model_folder.h"
#include "tests/fuzz/fuzz_file.h"

static const char *const NAMES[] = {
    "config.json",           "heads.json",   "sentence_bert_config.json",
    "tokenizer_config.json", "modules.json", "model.safetensors.index.json"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes b = {data, data + size};
    struct bert_config c;
    const char *path[8];
    int files = 0;
    (void)fuzz_file("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", 34);
    for (; files < (int)(sizeof NAMES / sizeof *NAMES); files++) {
        size_t n = fuzz_upto(&b, 0);
        path[files] = fuzz_file(NAMES[files], b.at, n);
        b.at += n;
        if (fuzz_rest(&b) == 0) {
            files++;
            break;
        }
        b.at++;
    }
    if (fuzz_ok(bert_config_read(&c, path[0])))
        fuzz_claim(c.hidden_size > 0 && c.hidden_size % c.num_attention_heads == 0,
                   "sizes are in range");
    struct model_folder f;
    if (fuzz_ok(model_folder_describe(&f, fuzz_dir()))) {
        fuzz_claim(f.task_count >= 0 && f.task_count <= FOLDER_TASKS_MAX, "tasks are in range");
        model_folder_release(&f);
    }
    for (int i = 0; i < files; i++)
        (void)unlink(path[i]);
    return 0;
}
