/* model_folder_names: names that reading and writing a model folder share. */
#ifndef MT_IO_MODEL_FOLDER_NAMES_H
#define MT_IO_MODEL_FOLDER_NAMES_H

#define FOLDER_HEADS_JSON "heads.json"
#define FOLDER_HEADS_WEIGHTS "heads.safetensors"
#define FOLDER_HEADS_FORMAT "mttrain-heads"
#define FOLDER_CLASSIFIER "classifier"

/* Pooling modes in the order in which sentence-transformers joins them. */
enum { FOLDER_POOLING_COUNT = 6 };

struct pooling_mode {
    const char *name, *key; /* key: of 1_Pooling/config.json */
};

extern const struct pooling_mode FOLDER_POOLING_MODES[FOLDER_POOLING_COUNT];

#endif
