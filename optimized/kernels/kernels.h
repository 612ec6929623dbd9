/* The kernels: tight loops over one tile, one row or one head.
 *
 * They know neither Python, malloc nor threads. One source, compiled once for each
 * instruction-set level; each level exports one table. All sizes are element counts, all arrays
 * float32 and only element-aligned; outputs do not overlap inputs unless a comment allows it.
 */
#ifndef CLLM_KERNELS_H
#define CLLM_KERNELS_H

#include <stddef.h>

#include "lattice.h"

enum {
    GEMM_COLUMNS = 48,     /* columns of b in a packed panel, for every level */
    GEMM_DEPTH = 512,      /* rows of b that gemm takes at a time */
    GEMM_ROWS = 128,       /* rows of a that are gathered at a time, where it is transposed */
    GEMM_FAR = 128,        /* and from how many elements between its rows, and columns, on */
    ATTENTION_QUERIES = 64 /* queries that attention takes at a time */
};

typedef struct {
    const char *name;

    /* c (rows,cols) = start + a (rows,depth) b (depth,cols). Strides in elements:
     * a[i*a_row + k*a_col], b[k*b_row + j*b_col], c[i*c_row + j], start[i*start_row + j]; start
     * may be c or NULL, for zero; panel is scratch of panel_floats. Each
     * element of c is summed in one order, whatever the other rows and columns are. */
    void (*gemm)(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth,
                 const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                 const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                 float *c, ptrdiff_t c_row,
                 const float *start, ptrdiff_t start_row, float *panel);

    /* c = c * (a b), element by element; panel is scratch of panel_floats(depth). */
    void (*gemm_times)(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth,
                       const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                       const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                       float *c, ptrdiff_t c_row, float *panel);

    /* out (cols,) = start + x (depth,) w, w[k*w_row + j]; start may be out or NULL, for zero */
    void (*gemv)(ptrdiff_t cols, ptrdiff_t depth, const float *x, const float *w,
                 ptrdiff_t w_row, float *out, const float *start);

    /* out (rows,) = m x, m[i*m_row + k], x (depth,) */
    void (*dots)(ptrdiff_t rows, ptrdiff_t depth, const float *m, ptrdiff_t m_row,
                 const float *x, float *out);

    void (*axpy)(float *y, float a, const float *x, ptrdiff_t n);          /* y += a x */
    void (*add)(float *out, const float *x, const float *y, ptrdiff_t n);  /* out may be x or y */
    void (*scale)(float *x, float a, ptrdiff_t n);                         /* x *= a */
    float (*max)(const float *x, ptrdiff_t n);                             /* NaN if there is one */
    double (*sum_squares)(const float *x, ptrdiff_t n);
    double (*sum_double)(const double *x, ptrdiff_t n);

    /* The sum of out = exp(a x - shift); out may be x, or NULL where the sum alone is wanted. */
    float (*exp_sum)(float *out, const float *x, float a, float shift, ptrdiff_t n);

    /* the same in double precision; a x - shift <= 0 */
    void (*exp_double)(double *out, const float *x, double a, double top, ptrdiff_t n);

    /* out = gelu(x), slope = its derivative; either may be NULL or x */
    void (*gelu)(float *out, float *slope, const float *x, ptrdiff_t n);

    /* one row of n = D elements */
    void (*layernorm_forward)(float *out, float *mean, float *rstd, const float *x,
                              const float *gain, const float *shift, ptrdiff_t n);

    /* dx = dskip + the gradient through the norm; adds to dgain and dshift. dx may be dout or
     * dskip. */
    void (*layernorm_backward)(float *dx, float *dgain, float *dshift, const float *dout,
                               const float *dskip, const float *x, float mean, float rstd,
                               const float *gain, ptrdiff_t n);

    /* One head of one sequence, T tokens, q, k, v and their gradients with rows `row` apart:
     * out = start + softmax(q k^T / sqrt(width)) v, causal, rows out_row apart; start may be NULL,
     * for zero. Leaves lse (T,), the logarithm of each denominator. scratch: attention_scratch,
     * panel as for gemm; lattice may be NULL, for none. */
    void (*attention_forward)(float *out, const float *start, ptrdiff_t out_row, float *lse,
                              const float *q, const float *k, const float *v, ptrdiff_t row,
                              ptrdiff_t T, ptrdiff_t width, float *scratch, float *panel,
                              const LatticeHead *lattice);

    /* dq, dk and dv may be q, k and v. */
    void (*attention_backward)(float *dq, float *dk, float *dv, const float *dout,
                               ptrdiff_t out_row, const float *lse, const float *q,
                               const float *k, const float *v, ptrdiff_t row, ptrdiff_t T,
                               ptrdiff_t width, float *scratch, float *panel,
                               const LatticeHead *lattice);

    /* Distances (3,n), rows `apart`, of token `one` of a sequence to those from `first` on. */
    void (*lattice_distances)(float *out, ptrdiff_t apart, const LatticeTokens *tokens,
                              ptrdiff_t one, ptrdiff_t first, ptrdiff_t n,
                              const LatticeTables *tables);

    /* scores (n,) = scores - weights (3,) distances (3,n) */
    void (*lattice_lower)(float *scores, const float *distances, ptrdiff_t apart,
                          const float *weights, ptrdiff_t n);

    /* n <= LATTICE_COLUMNS columns of e (V,...), rows `row` apart: sums (4,) of their squares and
     * of the three terms of the lattice loss, which are not yet divided. */
    void (*lattice_loss_sums)(double *sums, const float *e, ptrdiff_t row, ptrdiff_t n,
                              const LatticeGraph *graph);

    /* Add to d, which has e's rows: less factors[0] e, and each term's gradient by half its factor. */
    void (*lattice_loss_gradient)(float *d, const float *e, ptrdiff_t row, ptrdiff_t n,
                                  const LatticeGraph *graph, const float *factors);

    /* shared: other cores read the parameters next */
    void (*adam)(float *parameters, float *first, float *second, const float *gradients,
                 ptrdiff_t n, float beta1, float rest1, float beta2, float rest2, float scale,
                 float decay, float rate, float second_correction, float epsilon, int shared);
} Kernels;

/* Floats of scratch for products of any depth, and for gemm_times up to this one. */
static inline ptrdiff_t panel_floats(ptrdiff_t depth)
{
    const ptrdiff_t product = (GEMM_COLUMNS + GEMM_ROWS) * GEMM_DEPTH;
    return GEMM_COLUMNS * depth > product ? GEMM_COLUMNS * depth : product;
}

/* Floats of scratch for one head of T tokens. */
static inline ptrdiff_t attention_scratch(ptrdiff_t T, ptrdiff_t width)
{
    return 2 * ATTENTION_QUERIES * (T + width) + 2 * T * width;
}

/* The best level this processor runs, or the one called `name`; NULL if it is unknown or the
 * processor lacks it. kernels_names lists the levels built, best first, separated by spaces. */
const Kernels *kernels_choose(const char *name);
extern const char kernels_names[];

#endif
