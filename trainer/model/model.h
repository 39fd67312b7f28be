/*
 * model: a BERT encoder with pooling and one linear head per task; forward and backward of a batch.
 *
 * The computation is Hugging Face's BertModel (transformers, modeling_bert.py): post-layer-norm,
 * learned positions, token types.  The batch is ragged (io/batch.h): products and row-wise kernels
 * run over the N real tokens, attention runs sentence by sentence, padding does not exist.
 *
 * Depths.  0 = embeddings, 1..L = encoder layers (depth d is encoder.layer.(d-1)), L+1 = the
 * pooler's dense and the heads.  The input of depth d >= 1 is a "boundary": [N,H] hidden states for
 * d <= L, and for d = L+1 the pooled features [B,H] (mean, cls, ... of the last hidden states; for
 * pooling "pooler" the [CLS] rows that feed the pooler's dense).
 *
 * Everything below train_from is evaluated without dropout and without keeping activations; from
 * train_from upwards dropout is active (masks: trainer/model/dropout.h) and activations are kept
 * for backward.  So no gradient is computed for a tensor below train_from or below start.
 *
 * Bits.  A pass over one batch with one plan gives the same bits in any thread and on any rank.  In
 * evaluation they do not depend on where a boundary was cut, and the gradients of a partly frozen
 * model are those of the whole model (with the same dropout).  Another batch around a sentence may
 * change the last bits of its rows.
 *
 *     MT_TRY(pass_create(&p, m, 1024, 64));
 *     pass_forward(p, params, &batch, &plan, NULL);        // loss sums, logits
 *     pass_backward(p, params, grads);                     // adds into grads
 *
 * Functions here are Local, never fail after creation, allocate nothing and make no call to MPI:
 * ids, token types, lengths (at most max_position_embeddings) and labels were checked when the
 * batch was made.  Passes with memory of their own may run at the same time on the same parameters.
 */
#ifndef MT_MODEL_MODEL_H
#define MT_MODEL_MODEL_H

#include "comm/base/tensors.h"
#include "io/batch.h"
#include "io/bert_config.h"
#include "trainer/model/real.h"

enum pooling {
    POOL_MEAN,
    POOL_CLS,
    POOL_MAX,
    POOL_MEAN_SQRT,
    POOL_WEIGHTEDMEAN,
    POOL_POOLER,
    POOL_COUNT
};

const char *pooling_name(enum pooling p); /* "mean", "cls", ... */
bool pooling_parse(enum pooling *out, const char *name);

/* Of the encoder's products: bf16 rounds their operands and sums in float.  All else (layer norm,
 * softmax, attention, pooling, heads, loss, parameters, gradients) is float always. */
enum model_precision { MODEL_FP32, MODEL_BF16 };

enum { MODEL_TASKS_MAX = 64 };

struct model_task {
    char name[64];
    int32_t classes; /* K >= 1 */
};

/* Where the tensors of one encoder layer stand in the table. */
struct layer_tensors {
    int32_t q_w, q_b, k_w, k_b, v_w, v_b, o_w, o_b, ln1_w, ln1_b;
    int32_t f1_w, f1_b, f2_w, f2_b, ln2_w, ln2_b;
};

struct model {
    struct bert_config config;
    enum pooling pooling;
    enum model_precision precision; /* model_set_precision */
    int32_t task_count;
    struct model_task task[MODEL_TASKS_MAX];
    struct tensor_table table;
    int32_t word, position, type, ln_w, ln_b; /* indexes in the table */
    struct layer_tensors *layer;              /* [L] */
    int32_t pooler_w, pooler_b;               /* -1 = the model has no pooler */
    int32_t head_w[MODEL_TASKS_MAX], head_b[MODEL_TASKS_MAX];
};

/* Local.  Builds the table; also bounds the BLAS to one thread a call.  has_pooler: whether pooler
 * tensors exist (always with POOL_POOLER). Errors: NOMEM, BUG. */
mt_status model_init(struct model *m, const struct bert_config *config, enum pooling pooling,
                     bool has_pooler, const struct model_task *tasks,
                     int32_t task_count) MT_CHECKED;
void model_release(struct model *m);

/* Local.  Before passes are made; a model begins in fp32.  Errors: CONFIG for bf16 where processor
 * or build cannot multiply it, saying why. */
mt_status model_set_precision(struct model *m, enum model_precision precision) MT_CHECKED;

/* Local.  Fills one tensor as Hugging Face initialises it (normal with initializer_range, biases 0,
 * layer norm 1/0, the padding row of the word embeddings 0): a pure function of seed and name, so
 * adding a head does not change the others. */
void model_init_tensor(const struct model *m, int32_t tensor, uint64_t seed, real *params);

/* Whether anything computed depends on the tensor: false for a pooler that pooling does not use. */
bool model_uses_tensor(const struct model *m, int32_t tensor);

/* Whether a pass can set the tensor's gradient instead of adding to it: so for the weights of the
 * encoder's products. */
bool model_sets_gradient(const struct model *m, int32_t tensor);

/* How the loss of one task counts in a pass. */
struct task_loss {
    bool active;              /* false: no logits gradient, no loss */
    real weight;              /* multiplies the loss (not the count) */
    real label_smoothing;     /* as torch.nn.CrossEntropyLoss */
    const real *class_weight; /* [K] or NULL */
};

struct pass_plan {
    int32_t start;            /* depth of the first thing computed; 0 = from token ids */
    int32_t train_from;       /* lowest depth that is in training mode; L+2 = evaluation */
    const uint8_t *trainable; /* [table.count]: which gradients to compute; NULL = none */
    real hidden_dropout, attention_dropout, head_dropout;
    uint64_t dropout_key;         /* rng_key(seed, RNG_DROPOUT, step) */
    const struct task_loss *loss; /* [task_count]; NULL = no loss, logits only */
};

/* Sums over the sentences of a pass, never means. */
struct task_sums {
    double loss;   /* sum of class_weight * cross-entropy, before task_loss.weight */
    double weight; /* sum of class weights of the targets: the loss's divisor */
    int64_t labelled, correct;
};

struct pass;

/* Local.  Work space for batches of up to these sizes (both at least one sentence's worth), sized
 * for plans whose train_from is the given depth or more: a frozen prefix needs no memory for
 * activations.  A larger batch or a lower train_from traps.
 * Errors: NOMEM. */
mt_status pass_create(struct pass **out, const struct model *m, int32_t max_tokens,
                      int32_t max_sentences, int32_t train_from) MT_CHECKED;
void pass_destroy(struct pass **p);
int64_t pass_bytes(const struct pass *p);

/* Local.  The same with less memory: of each layer in training only the input is kept, and backward
 * computes the layer again.  The same bits; a pass_backward belongs to one pass_forward. */
mt_status pass_create_recomputing(struct pass **out, const struct model *m, int32_t max_tokens,
                                  int32_t max_sentences, int32_t train_from) MT_CHECKED;

/* Local.  What pass_bytes would say of such a pass.  Errors: NOMEM. */
mt_status pass_measure(int64_t *bytes, const struct model *m, int32_t max_tokens,
                       int32_t max_sentences, int32_t train_from, bool recompute) MT_CHECKED;

/* Computes from plan->start up to the logits and, with plan->loss, the loss.  `boundary` is the
 * input of depth plan->start (NULL when start is 0).  Keeps what backward needs; batch and boundary
 * must stay until then. */
void pass_forward(struct pass *p, const real *params, const struct batch *batch,
                  const struct pass_plan *plan, const real *boundary);

/* Computes depths plan->start .. depth-1 in evaluation mode and writes the input of `depth`
 * ([N,H], or [B,H] for L+1) to out.  plan->start <= depth, depth >= 1; out is not boundary.  The
 * results of the last forward are lost. */
void pass_forward_boundary(struct pass *p, const real *params, const struct batch *batch,
                           const struct pass_plan *plan, const real *boundary, int32_t depth,
                           real *out);

/* Called as soon as all gradients of this depth and those above are final for this pass: for each
 * depth from L+1 down to that of the lowest trainable tensor, for none if nothing is trainable. */
typedef void (*pass_depth_done)(void *context, int32_t depth);

/* Adds d(sum over active tasks of weight * loss)/d(parameter) into grads for each trainable tensor,
 * down to the lowest one.  `done` may be NULL. */
void pass_backward(struct pass *p, const real *params, real *grads, pass_depth_done done,
                   void *context);

/* The next pass_backward sets the gradients that model_sets_gradient names, whatever stands there,
 * and finds all others zero: spares clearing and adding.  The same bits as adding to zeros. */
void pass_expect_fresh(struct pass *p);

/* Results of the last forward; valid until the next, backward in between or not. */
const real *pass_hidden(const struct pass *p); /* [N,H] last ones; NULL where start is L+1 */
const real *pass_pooled(const struct pass *p); /* [B,H] what feeds the heads, before dropout */
const real *pass_logits(const struct pass *p, int32_t task); /* [B,K] */
void pass_sums(const struct pass *p, struct task_sums *out); /* [task_count] */

#endif
