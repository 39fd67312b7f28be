/*
 * One macro writes the loops of each activation around its value-and-slope function, so that
 * forward and backward cannot disagree and each loop is free of branches.
 *
 * gelu needs Phi(x) and the density phi(x); both come from one exp(-x^2/2), see vector_math.h.
 * Cost: one exp and one division an element for gelu, twice that for training with recomputation.
 */
#include "trainer/model/activation.h"

#include "trainer/model/kernel.h"
#include "trainer/model/vector_math.h"

struct point {
    real value, slope;
};

static inline struct point at_gelu(real x)
{
    struct real_normal n = real_normal_of(x);
    return (struct point){x * n.cdf, n.cdf + x * n.density};
}

static inline struct point at_gelu_new(real x)
{
    const real c = (real)0.7978845608028654, k = (real)0.044715; /* sqrt(2/pi) */
    real t = real_tanh(c * (x + k * x * x * x));
    real slope = c * (1 + 3 * k * x * x);
    real half = (real)0.5;
    return (struct point){half * x * (1 + t), half * (1 + t) + half * x * (1 - t * t) * slope};
}

static inline struct point at_relu(real x)
{
    return (struct point){x > 0 ? x : 0, x > 0 ? 1 : 0};
}

static inline struct point at_silu(real x)
{
    real s = 1 / (1 + real_exp(-x));
    return (struct point){x * s, s * (1 + x * (1 - s))};
}

static inline struct point at_tanh(real x)
{
    real t = real_tanh(x);
    return (struct point){t, 1 - t * t};
}

#define ACTIVATION_LOOPS(name)                                                                     \
    static KERNEL void values_##name(int64_t count, const real *restrict u, real *restrict g)      \
    {                                                                                              \
        for (int64_t j = 0; j < count; j++)                                                        \
            g[j] = at_##name(u[j]).value;                                                          \
    }                                                                                              \
    static KERNEL void gradients_##name(int64_t F, const real *restrict u, real *restrict g,       \
                                        real *restrict d, real *restrict dbias)                    \
    {                                                                                              \
        for (int64_t j = 0; j < F; j++) {                                                          \
            struct point p = at_##name(u[j]);                                                      \
            real du = d[j] * p.slope;                                                              \
            g[j] = p.value;                                                                        \
            d[j] = du;                                                                             \
            dbias[j] += du;                                                                        \
        }                                                                                          \
    }                                                                                              \
    static KERNEL void slopes_##name(int64_t count, const real *restrict u, real *restrict g,      \
                                     real *restrict d)                                             \
    {                                                                                              \
        for (int64_t j = 0; j < count; j++) {                                                      \
            struct point p = at_##name(u[j]);                                                      \
            g[j] = p.value;                                                                        \
            d[j] *= p.slope;                                                                       \
        }                                                                                          \
    }

ACTIVATION_LOOPS(gelu)
ACTIVATION_LOOPS(gelu_new)
ACTIVATION_LOOPS(relu)
ACTIVATION_LOOPS(silu)
ACTIVATION_LOOPS(tanh)

static const struct {
    void (*values)(int64_t count, const real *u, real *g);
    void (*gradients)(int64_t F, const real *u, real *g, real *d, real *dbias);
    void (*slopes)(int64_t count, const real *u, real *g, real *d);
} loops[ACT_COUNT] = {
    [ACT_GELU] = {values_gelu, gradients_gelu, slopes_gelu},
    [ACT_GELU_NEW] = {values_gelu_new, gradients_gelu_new, slopes_gelu_new},
    [ACT_RELU] = {values_relu, gradients_relu, slopes_relu},
    [ACT_SILU] = {values_silu, gradients_silu, slopes_silu},
    [ACT_TANH] = {values_tanh, gradients_tanh, slopes_tanh},
};

void activation_values(enum activation a, int64_t count, const real *u, real *g)
{
    loops[a].values(count, u, g);
}

void activation_slopes(enum activation a, int64_t count, const real *u, real *g, real *d)
{
    loops[a].slopes(count, u, g, d);
}

void activation_gradients(enum activation a, int64_t F, const real *u, real *g, real *d,
                          real *dbias)
{
    loops[a].gradients(F, u, g, d, dbias);
}
