/* See workspace.h. */
#include "trainer/model/workspace.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

#include "comm/base/log.h"
#include "comm/base/memory.h"

enum { GRAIN = 2 << 20 }; /* a huge page of x86-64 */

struct block {
    void *at;
    int64_t bytes;
};

static _Thread_local struct block mine;
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void give_back(void *context)
{
    struct block *b = context;
    if (b->at != NULL)
        (void)munmap(b->at, (size_t)b->bytes);
    *b = (struct block){NULL, 0};
}

static void create_key(void)
{
    if (pthread_key_create(&key, give_back) != 0)
        log_warning("the work space of threads stays until the program ends");
}

void *workspace_take(int64_t bytes)
{
    if (bytes <= mine.bytes)
        return mine.at;
    (void)pthread_once(&key_once, create_key);
    give_back(&mine);
    int64_t whole = (bytes + GRAIN - 1) / GRAIN * GRAIN;
    void *at = mt_map_huge((size_t)whole);
    if (at == NULL) {
        log_error("no memory for %lld bytes of packed operands", (long long)whole);
        __builtin_trap();
    }
    mine = (struct block){at, whole};
    (void)pthread_setspecific(key, &mine);
    return at;
}
