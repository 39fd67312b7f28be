/*
 * workspace: room for packed operands, one block a thread, that products use in turn.
 *
 * A block is made at a thread's first product, grows to the largest need, lies on huge pages where
 * the system has them and goes away with its thread; so a product allocates nothing once the first
 * of its size has run.  It is mapped, not counted by comm/base/memory.h.
 */
#ifndef MT_MODEL_WORKSPACE_H
#define MT_MODEL_WORKSPACE_H

#include <stdint.h>

/* Local.  At least `bytes` of the calling thread, aligned to a page, with any content; valid until
 * the thread's next call.  Where the memory is lacking the program ends with a message: a product
 * has no way to fail. */
void *workspace_take(int64_t bytes);

#endif
