/*
 * unicode_hf: what Hugging Face's fast tokenizer takes a character for.
 *
 * Its classes and canonical decomposition follow Unicode 8.0, its lower case and white space a far
 * newer version; and a character it does not know has no class.  Answers are the same whatever
 * Unicode version the installed utf8proc has.
 */
#ifndef MT_IO_UNICODE_HF_H
#define MT_IO_UNICODE_HF_H

#include "comm/base/status.h"

enum { UNICODE_DECOMPOSED_CHARS = 4 };

bool unicode_is_space(uint32_t code);       /* White_Space */
bool unicode_is_punctuation(uint32_t code); /* ASCII punctuation and symbols; categories P* */
bool unicode_is_control(uint32_t code);     /* Cc but for \t \n \r; Cf, Co; not Cn */
bool unicode_is_mark(uint32_t code);        /* Mn */
bool unicode_is_chinese(uint32_t code);     /* CJK ideographs; not kana, not hangul */

/* Local.  Canonical combining class; 0 = a starter. */
int32_t unicode_combining_class(uint32_t code);

/* Local.  Full canonical decomposition into out; answers how many (1 = itself). */
int32_t unicode_decompose(uint32_t code, uint32_t out[UNICODE_DECOMPOSED_CHARS]);

/* Local.  Lower case without context, into out (U+0130 gives two); answers how many. */
int32_t unicode_lower(uint32_t code, uint32_t out[2]);

#endif
