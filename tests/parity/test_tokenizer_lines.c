/*
 * Prints the ids of every line of standard input as a JSON array, so that they can be compared with
 * those of another tokenizer.
 * usage: parity_tokenizer_lines VOCAB lower|cased [MAX]      a line with a TAB is a pair
 * Without arguments it is skipped: test_tokenizer_hf.sh gives it arguments.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/tokenizer.h"

static void fail(void)
{
    fprintf(stderr, "%s\n", mt_error_peek()->message);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        printf("skipped: test_tokenizer_hf.sh runs this with arguments\n");
        return 77;
    }
    struct vocab v;
    struct tokenizer *t = NULL;
    enum vocab_case letter_case =
        strcmp(argv[2], "cased") == 0 ? VOCAB_CASE_CASED : VOCAB_CASE_LOWER;
    int32_t max = argc > 3 ? (int32_t)strtol(argv[3], NULL, 10) : 0;
    if (vocab_open(&v, argv[1], letter_case) != MT_OK || tokenizer_create(&t, &v, NULL) != MT_OK)
        fail();
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    while ((n = getline(&line, &capacity, stdin)) >= 0) {
        if (n > 0 && line[n - 1] == '\n')
            n--;
        char *tab = memchr(line, '\t', (size_t)n);
        int64_t first = tab != NULL ? tab - line : n;
        struct encoding e;
        if (tokenizer_encode(t, line, first, tab != NULL ? tab + 1 : NULL,
                             tab != NULL ? n - first - 1 : 0, max, &e) != MT_OK)
            fail();
        for (int32_t i = 0; i < e.count; i++)
            printf("%c%d", i == 0 ? '[' : ',', e.ids[i]);
        printf("]\n");
    }
    free(line);
    tokenizer_destroy(&t);
    vocab_close(&v);
    return 0;
}
