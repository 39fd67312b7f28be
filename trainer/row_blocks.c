/* See row_blocks.h. */
#include "trainer/row_blocks.h"

int64_t row_blocks_cut(const struct dataset *d, int32_t set, struct row_block *block)
{
    int64_t rows = dataset_rows(d), count = 0;
    for (int64_t first = 0, end; first < rows; first = end) {
        int64_t tokens = 0;
        for (end = first; end < rows && end - first < ROW_BLOCK_SENTENCES; end++) {
            tokens += dataset_length(d, end);
            if (end > first && tokens > ROW_BLOCK_TOKENS)
                break;
        }
        if (block != NULL)
            block[count] = (struct row_block){set, (int32_t)(end - first), first};
        count++;
    }
    return count;
}

int32_t row_blocks_max_tokens(const struct dataset *d)
{
    int32_t longest = dataset_longest_row_tokens(d);
    return longest > ROW_BLOCK_TOKENS ? longest : ROW_BLOCK_TOKENS;
}

mt_status row_blocks_read(const struct dataset *d, const struct row_block *block,
                          struct batch *batch)
{
    batch->B = batch->N = 0;
    for (int32_t i = 0; i < block->rows; i++)
        MT_TRY(dataset_append(d, batch, block->set, block->first_row + i));
    return MT_OK;
}
