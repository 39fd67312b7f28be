/*
 * See reduce.h: how a reducer is made and given back.  Which way its sums go is chosen here, from
 * what is asked for and what the world allows, the tree over the roots of all ranks is laid out,
 * and the errors of rounding get their room.
 */
#include <string.h>

#include "comm/agree.h"
#include "comm/base/hash.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/reduce_core.h"

static const char *const path_name[REDUCE_PATH_COUNT] = {"auto", "node", "halving", "direct",
                                                         "hosts"};

/* The lanes of a rank, or on the way by hosts of all ranks of a host. */
static struct lane_range part_lanes(const struct reducer *r, int32_t part)
{
    const struct comm *c = r->comm;
    struct lane_range all = {INT32_MAX, 0};
    if (r->path != REDUCE_PATH_HOSTS)
        return lane_tree_range(r->lanes, c->size, part);
    for (int32_t p = 0; p < c->size; p++) {
        struct lane_range own = lane_tree_range(r->lanes, c->size, p);
        if (comm_node_of(c, p) == part && own.begin < all.begin)
            all.begin = own.begin;
        if (comm_node_of(c, p) == part)
            all.end = own.end;
    }
    return all;
}

/* The tree over the roots of all ranks, or all hosts. */
static mt_status plan_values(struct reducer *r)
{
    bool hosts = r->path == REDUCE_PATH_HOSTS;
    int32_t parts = hosts ? r->comm->node_count : r->comm->size;
    int32_t *nodes = NULL, found[LANE_ROOTS_MAX];
    mt_status st;
    MT_TRY(mt_alloc(&r->first_value, (int64_t)parts + 1, sizeof *r->first_value, "the roots"));
    for (int32_t p = 0; p < parts; p++)
        r->first_value[p + 1] =
            r->first_value[p] + lane_tree_roots(r->lanes, part_lanes(r, p), found);
    r->values = r->first_value[parts];
    r->roots =
        lane_tree_roots(r->lanes, lane_tree_range(r->lanes, r->comm->size, r->comm->rank), found);
    MT_TRY_GOTO(st, mt_alloc(&nodes, r->values + LANE_ROOTS_MAX, sizeof *nodes, "the nodes"), done);
    MT_TRY_GOTO(st, mt_alloc(&r->merge, r->values, sizeof *r->merge, "the tree"), done);
    MT_TRY_GOTO(st, mt_alloc(&r->value, r->values, sizeof *r->value, "the values"), done);
    MT_TRY_GOTO(st, mt_alloc(&r->merge_group, r->values, sizeof *r->merge_group, "the groups"),
                done);
    for (int32_t p = 0; p < parts; p++)
        (void)lane_tree_roots(r->lanes, part_lanes(r, p), nodes + r->first_value[p]);
    /* half the bytes where each part has one group, alone in its root */
    r->half = r->groups == parts && (hosts || r->path == REDUCE_PATH_DIRECT);
    for (int32_t v = 0; v < r->values; v++)
        r->half = r->half && reduce_group_of(r, nodes[v]) >= 0;
    (void)lane_tree_merges(nodes, r->values, r->merge, NULL);
    for (int32_t m = 0; m + 1 < r->values; m++)
        r->merge_group[m] = 1 + reduce_group_of(r, nodes[r->merge[m].into] /= 2);
done:
    mt_free(&nodes);
    return st;
}

/* The errors of the groups that this rank forms or, as owner of slices, helps to form. */
static mt_status make_errors(struct reducer *r)
{
    const struct comm *c = r->comm;
    int64_t end = r->ranges.count > 0 ? r->ranges.r[r->ranges.count - 1].end : 0;
    if (r->groups == 0)
        return MT_OK;
    MT_TRY(mt_alloc(&r->lost, r->groups + 1, sizeof *r->lost, "the errors of rounding"));
    for (int32_t g = 0; g <= r->groups; g++) {
        struct lane_range all = lane_tree_lanes_of(r->lanes, g < r->groups ? r->groups + g : 1);
        int32_t first = lane_tree_owner(r->lanes, c->size, all.begin);
        int32_t last = lane_tree_owner(r->lanes, c->size, all.end - 1);
        if (g == r->groups || first != last || first == c->rank)
            MT_TRY(mt_alloc(&r->lost[g], end, sizeof *r->lost[g], "the errors of rounding"));
    }
    return MT_OK;
}

bool reduce_path_hosts_fits(const struct comm *c)
{
    bool neighbours = true;
    for (int32_t p = 1; p < c->size; p++)
        neighbours = neighbours && comm_node_of(c, p) >= comm_node_of(c, p - 1);
    return c->node_count > 1 && neighbours;
}

/* Path and bucket length, from what is asked for and what the world allows. */
static mt_status choose_path(struct reducer *r, enum reduce_path asked)
{
    const struct comm *c = r->comm;
    bool fits = asked != REDUCE_PATH_NODE || c->node_count == 1;
    fits = fits && (asked != REDUCE_PATH_HALVING || is_power_of_two(c->size));
    fits = fits && (asked != REDUCE_PATH_HOSTS || reduce_path_hosts_fits(c));
    if (!fits)
        return MT_FAIL(MT_BUG, "the reduction path \"%s\" does not fit %d ranks on %d hosts",
                       path_name[asked], c->size, c->node_count);
    r->path = asked;
    if (asked == REDUCE_PATH_AUTO && c->node_count == 1 && r->mode == REDUCE_EXACT)
        r->path = REDUCE_PATH_NODE;
    else if (asked == REDUCE_PATH_AUTO && r->mode == REDUCE_EXACT && c->node_count < c->size &&
             reduce_path_hosts_fits(c))
        r->path = REDUCE_PATH_HOSTS;
    else if (asked == REDUCE_PATH_AUTO && r->groups == c->size)
        r->path = REDUCE_PATH_DIRECT; /* half the bytes, which halving loses after one round */
    else if (asked == REDUCE_PATH_AUTO)
        r->path = is_power_of_two(c->size) ? REDUCE_PATH_HALVING : REDUCE_PATH_DIRECT;
    if (c->size == 1)
        r->transport = NULL;
    else if (r->mode == REDUCE_MPI)
        r->transport = &reduce_transport_vendor;
    else if (r->path == REDUCE_PATH_NODE)
        r->transport = &reduce_transport_node;
    else if (r->path == REDUCE_PATH_HOSTS)
        r->transport = &reduce_transport_hosts;
    else
        r->transport =
            r->path == REDUCE_PATH_HALVING ? &reduce_transport_halving : &reduce_transport_direct;
    return MT_OK;
}

static mt_status copy_ranges(struct range_list *out, const struct range_list *from)
{
    MT_TRY(mt_alloc(&out->r, from->count, sizeof *out->r, "the reduction's ranges"));
    if (from->count > 0)
        memcpy(out->r, from->r, (size_t)from->count * sizeof *out->r);
    out->count = out->capacity = from->count;
    out->elements = from->elements;
    return MT_OK;
}

static mt_status prepare(struct reducer *r, const struct range_list *ranges,
                         const struct reducer_options *options)
{
    const struct comm *c = r->comm;
    struct lane_range mine = lane_tree_range(r->lanes, c->size, c->rank);
    r->own_lanes = mine.end - mine.begin;
    r->whole = options->whole;
    r->watch = options->watch;
    r->watch_context = options->watch_context;
    r->rows = options->rows;
    r->active = r->rows != NULL ? &r->rows->active : &r->ranges;
    r->groups = options->wire_groups;
    MT_TRY(copy_ranges(&r->ranges, ranges));
    MT_TRY(make_errors(r));
    MT_TRY(choose_path(r, options->path));
    bool halving = c->size > 1 && r->mode == REDUCE_EXACT && r->path == REDUCE_PATH_HALVING;
    MT_TRY(reduce_plan_init(
        &r->plan, ranges,
        reduce_plan_bucket_elements(r->mode == REDUCE_EXACT ? r->path : REDUCE_PATH_DIRECT,
                                    options->bucket_elements, c->size),
        c->size, halving));
    if (r->plan.blocks > INT32_MAX)
        return MT_FAIL(MT_BUG, "%lld blocks in a reduction", (long long)r->plan.blocks);
    MT_TRY(plan_values(r));
    MT_TRY(mt_alloc(&r->block, r->own_lanes, sizeof *r->block, "the lanes' blocks"));
    MT_TRY(mt_alloc(&r->node, r->own_lanes, sizeof *r->node, "the lanes' nodes"));
    MT_TRY(mt_alloc(&r->local_merge, r->own_lanes, sizeof *r->local_merge, "the lanes' tree"));
    MT_TRY(mt_alloc(&r->index, r->own_lanes, sizeof *r->index, "the lanes' indexes"));
    MT_TRY(mt_alloc(&r->counts, c->size, sizeof *r->counts, "the ranks' counts"));
    MT_TRY(mt_alloc(&r->offsets, c->size, sizeof *r->offsets, "the ranks' offsets"));
    return mt_alloc(&r->norm, r->plan.blocks, sizeof *r->norm, "the blocks' norms");
}

static uint64_t hash_arguments(int32_t lanes, enum reduce_mode mode,
                               const struct range_list *ranges, const struct reducer_options *o)
{
    struct hash64 h;
    hash64_init(&h, 0);
    hash64_add_int(&h, lanes);
    hash64_add_int(&h, (int64_t)mode);
    hash64_add_int(&h, o->bucket_elements);
    hash64_add_int(&h, (int64_t)o->path);
    hash64_add_int(&h, o->whole);
    hash64_add_int(&h, o->wire_groups);
    hash64_add_int(&h, o->rows != NULL ? o->rows->rows : 0);
    for (int32_t i = 0; i < ranges->count; i++) {
        hash64_add_int(&h, ranges->r[i].begin);
        hash64_add_int(&h, ranges->r[i].end);
    }
    return hash64_value(&h);
}

static mt_status create_with(struct reducer **out, const struct comm *c, int32_t lanes,
                             enum reduce_mode mode, const struct range_list *ranges,
                             const struct reducer_options *options)
{
    struct reducer *r = NULL;
    mt_status st;
    st = comm_agree(c, mt_alloc(&r, 1, sizeof *r, "the reduction"));
    if (st != MT_OK) {
        mt_free(&r);
        return st;
    }
    r->comm = c;
    r->lanes = lanes;
    r->mode = mode;
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_cond_init(&r->wake, NULL);
    (void)pthread_cond_init(&r->done, NULL);
    MT_ALL_GOTO(st, c, prepare(r, ranges, options), failed);
    if (r->transport != NULL)
        MT_TRY_GOTO(st, r->transport->open(r), failed);
    if (c->threads && c->size > 1 && !options->no_thread)
        MT_ALL_GOTO(st, c, reduce_start_thread(r), failed);
    *out = r;
    return MT_OK;
failed:
    reducer_destroy(&r);
    return st;
}

mt_status reducer_create(struct reducer **out, const struct comm *c, int32_t lanes,
                         enum reduce_mode mode, const struct range_list *ranges,
                         const struct reducer_options *options)
{
    struct reducer_options chosen = {0};
    if (options != NULL)
        chosen = *options;
    MT_TRY(comm_agree_equal(c, "the plan of the reduction",
                            hash_arguments(lanes, mode, ranges, &chosen)));
    if (!lane_tree_valid(lanes, c->size))
        return MT_FAIL(MT_CONFIG,
                       "batch.lanes = %d cannot be dealt out to %d ranks: raise batch.lanes to a "
                       "power of two that is at least the number of ranks, or start fewer ranks",
                       lanes, c->size);
    int32_t groups = chosen.wire_groups;
    if (groups < 0 || groups > lanes || (groups > 0 && !is_power_of_two(groups)))
        return MT_FAIL(MT_CONFIG,
                       "wire_groups = %d is no level of the tree over batch.lanes = %d: choose a "
                       "power of two that is at most batch.lanes, best the number of ranks",
                       groups, lanes);
    if (groups > 0 && mode == REDUCE_MPI)
        return MT_FAIL(MT_CONFIG, "wire = \"bf16\" needs reduction = \"exact\": the library's own "
                                  "collectives add in fp32 only");
    mt_status st = create_with(out, c, lanes, mode, ranges, &chosen);
    if (st == MT_NOMEM && chosen.path == REDUCE_PATH_AUTO && c->node_count < c->size) {
        chosen.path = is_power_of_two(c->size) ? REDUCE_PATH_HALVING : REDUCE_PATH_DIRECT;
        if (c->rank == 0)
            log_warning("%s; the ranks send messages instead", mt_error_peek()->message);
        mt_error_clear();
        st = create_with(out, c, lanes, mode, ranges, &chosen);
    }
    return st;
}

void reducer_destroy(struct reducer **reducer)
{
    struct reducer *r = *reducer;
    if (r == NULL)
        return;
    reduce_stop_thread(r);
    if (r->state != NULL)
        r->transport->close(r);
    (void)pthread_cond_destroy(&r->wake);
    (void)pthread_cond_destroy(&r->done);
    (void)pthread_mutex_destroy(&r->lock);
    reduce_plan_release(&r->plan);
    range_list_release(&r->ranges);
    for (int32_t g = 0; r->lost != NULL && g <= r->groups; g++)
        mt_free(&r->lost[g]);
    mt_free(&r->lost);
    mt_free(&r->merge_group);
    mt_free(&r->block);
    mt_free(&r->node);
    mt_free(&r->local_merge);
    mt_free(&r->index);
    mt_free(&r->first_value);
    mt_free(&r->merge);
    mt_free(&r->value);
    mt_free(&r->norm);
    mt_free(&r->counts);
    mt_free(&r->offsets);
    mt_free(reducer);
}

enum reduce_path reducer_path(const struct reducer *r)
{
    return r->path;
}

const char *reduce_path_name(enum reduce_path path)
{
    return path_name[path];
}
