/* xml_check: whether a text is well-formed XML, for what the product writes. */
#ifndef MT_TEST_XML_CHECK_H
#define MT_TEST_XML_CHECK_H

#include <stdbool.h>

/* Elements balance, attributes are quoted and appear once, entities are known, the text is UTF-8
 * without control characters.  On false, says on standard output what is wrong and where. */
bool xml_is_well_formed(const char *text);

/* How often a piece of text occurs. */
int text_occurrences(const char *text, const char *piece);

#endif
