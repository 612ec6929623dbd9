/* What kernels are told of the lattice, and the lattice of one head.
 *
 * See cllm.lattice.tables and cllm.lattice.relations, which the arrays come from.
 */
#ifndef CLLM_LATTICE_H
#define CLLM_LATTICE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { LATTICE_COLUMNS = 16 /* columns of the embedding that the loss takes at a time */ };

/* What is known of a token on the lattice: its place, ln n and v_2(n) ln 2 over the mean prime
 * distance, its class over the mean symmetry distance. */
enum {
    LATTICE_X,
    LATTICE_Y,
    LATTICE_Z,
    LATTICE_LOG,
    LATTICE_TWOS,
    LATTICE_CLASS,
    LATTICE_FIELDS
};

/* Of a vocabulary: the fields of each token (V, LATTICE_FIELDS); the powers of odd primes that
 * divide n, from start[n-1] to start[n], with their inverses modulo 2^32, (2^32 - 1) / q, and ln p
 * over the mean prime distance; a whole turn of classes over the mean symmetry distance. */
typedef struct {
    const float *tokens;
    const int64_t *start;
    const int32_t *inverse;
    const int32_t *bound;
    const float *log;
    float turn;
} LatticeTables;

/* The tokens of one sequence, and their fields one after another, `apart` floats from each other. */
typedef struct {
    const int32_t *ids;
    const float *fields;
    ptrdiff_t apart;
} LatticeTokens;

/* What lowers the scores of one head: softplus of its weights times what scores are divided by.
 * distances is scratch of lattice_scratch; backward adds to sums (3,) the gradient of the scores (as
 * they are before their division) times each distance. */
typedef struct {
    const LatticeTables *tables;
    LatticeTokens tokens;
    float weights[3];
    float *distances;
    double *sums;
} LatticeHead;

/* Those of all heads: tokens (B,T), their fields (B,LATTICE_FIELDS,T), weights (H,3), sums (B,H,3). */
typedef struct {
    const LatticeTables *tables;
    const int32_t *tokens;
    const float *fields;
    const float *weights;
    double *sums;
} LatticeBatch;

/* What the lattice loss compares: each token with `near` others, times their nearness (V,near); each
 * composite with its prime factors, from start[i] to start[i+1], times their exponents. */
typedef struct {
    ptrdiff_t tokens, near, composites;
    const int32_t *neighbour;
    const float *nearness;
    const int32_t *composite;
    const int64_t *start;
    const int32_t *prime;
    const float *exponent;
} LatticeGraph;

/* Floats of scratch for the distances of one head of T tokens, `queries` at a time. */
static inline ptrdiff_t lattice_scratch(ptrdiff_t T, ptrdiff_t queries)
{
    return 3 * queries * T;
}

/* out (3,) = softplus(w) sqrt(width): what is taken from scores that are not yet divided */
static inline void lattice_weights(float *out, const float *w, ptrdiff_t width)
{
    for (int d = 0; d < 3; d++)
        out[d] = (float)((log1p(exp(-fabs(w[d]))) + fmax(w[d], 0.0)) * sqrt((double)width));
}

static inline LatticeHead lattice_head(const LatticeBatch *batch, ptrdiff_t pair, ptrdiff_t T,
                                       ptrdiff_t H, ptrdiff_t width, float *distances)
{
    LatticeHead head;
    head.tables = batch->tables;
    head.tokens.ids = batch->tokens + pair / H * T;
    head.tokens.fields = batch->fields + pair / H * T * LATTICE_FIELDS;
    head.tokens.apart = T;
    head.distances = distances;
    head.sums = batch->sums == NULL ? NULL : batch->sums + 3 * pair;
    lattice_weights(head.weights, batch->weights + 3 * (pair % H), width);
    return head;
}

#endif
