/* See workspace.h. */
#include "trainer/model/workspace.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

#include "comm/base/log.h"

enum { GRAIN = 2 << 20 }; /* a huge page of x86-64 */

struct block {
    char *at; /* where a huge page begins */
    int64_t bytes;
    void *mapped; /* GRAIN more than that */
};

static _Thread_local struct block mine;
static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void give_back(void *context)
{
    struct block *b = context;
    if (b->mapped != NULL)
        (void)munmap(b->mapped, (size_t)(b->bytes + GRAIN));
    *b = (struct block){0};
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
    void *mapped = mmap(NULL, (size_t)(whole + GRAIN), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        log_error("no memory for %lld bytes of packed operands", (long long)whole);
        __builtin_trap();
    }
    char *at = (char *)mapped + (-(uintptr_t)mapped & (uintptr_t)(GRAIN - 1));
    (void)madvise(at, (size_t)whole, MADV_HUGEPAGE);
    mine = (struct block){at, whole, mapped};
    (void)pthread_setspecific(key, &mine);
    return at;
}
