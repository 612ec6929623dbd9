/* The kernels: tight loops over one tile or one row.
 *
 * They know neither Python, malloc nor threads. One source, compiled once for each
 * instruction-set level; each level exports one table. All sizes are element counts, all arrays
 * float32 and only element-aligned; outputs do not overlap inputs unless a comment allows it.
 */
#ifndef CLLM_KERNELS_H
#define CLLM_KERNELS_H

#include <stddef.h>

typedef struct {
    const char *name;

    /* c (rows,cols) = a (rows,depth) b (depth,cols), added to c where accumulate is not 0.
     * Strides in elements: a[i*a_row + k*a_col], b[k*b_row + j*b_col], c[i*c_row + j]. Each
     * element of c is summed in one order, whatever the other rows and columns are. */
    void (*gemm)(ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t depth,
                 const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                 const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                 float *c, ptrdiff_t c_row, int accumulate);

    float (*dot)(const float *x, const float *y, ptrdiff_t n);
    void (*axpy)(float *y, float a, const float *x, ptrdiff_t n);          /* y += a x */
    void (*add)(float *out, const float *x, const float *y, ptrdiff_t n);  /* out may be x or y */
    float (*max)(const float *x, ptrdiff_t n);
    float (*sum)(const float *x, ptrdiff_t n);
    double (*sum_squares)(const float *x, ptrdiff_t n);

    /* out = exp(a x - shift); out may be x */
    void (*exp_shifted)(float *out, const float *x, float a, float shift, ptrdiff_t n);

    void (*gelu_forward)(float *out, const float *x, ptrdiff_t n);
    void (*gelu_backward)(float *dx, const float *dout, const float *x, ptrdiff_t n);

    /* one row of n = D elements */
    void (*layernorm_forward)(float *out, float *mean, float *rstd, const float *x,
                              const float *gain, const float *shift, ptrdiff_t n);
    void (*layernorm_backward)(float *dx, const float *dout, const float *x, float mean,
                               float rstd, const float *gain, ptrdiff_t n);

    void (*adam)(float *parameters, float *first, float *second, const float *gradients,
                 ptrdiff_t n, float beta1, float rest1, float beta2, float rest2, float scale,
                 float decay, float rate, float second_correction, float epsilon);
} Kernels;

/* The best level this processor runs, or the one called `name`; NULL if it is unknown or the
 * processor lacks it. kernels_names lists the levels built, best first, separated by spaces. */
const Kernels *kernels_choose(const char *name);
extern const char kernels_names[];

#endif
