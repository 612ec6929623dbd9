/* Layer normalization of one row. */
#ifndef CLLM_LAYERNORM_H
#define CLLM_LAYERNORM_H

#include <math.h>

#include "vector.h"

static void layernorm_forward(float *out, float *mean, float *rstd, const float *x,
                              const float *gain, const float *shift, ptrdiff_t n)
{
    vec sums = {0}, squares = {0};
    for (ptrdiff_t i = 0; i < n; i += LANES)
        sums += vec_load_upto(x + i, n - i);
    const float m = vec_sum(sums) / n;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const vec centered = vec_first(vec_load_upto(x + i, n - i) - m, n - i, 0.0f);
        squares += centered * centered;
    }
    const float r = 1.0f / sqrtf(vec_sum(squares) / n + 1e-5f);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const vec normed = (vec_load_upto(x + i, n - i) - m) * r;
        vec_store_upto(
            out + i, vec_load_upto(gain + i, n - i) * normed + vec_load_upto(shift + i, n - i),
            n - i);
    }
    *mean = m;
    *rstd = r;
}

static void layernorm_backward(float *dx, float *dgain, float *dshift, const float *dout,
                               const float *dskip, const float *x, float mean, float rstd,
                               const float *gain, ptrdiff_t n)
{
    vec sums = {0}, products = {0};
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const vec d = vec_load_upto(dout + i, n - i);
        const vec normed = (vec_load_upto(x + i, n - i) - mean) * rstd;
        const vec dnormed = d * vec_load_upto(gain + i, n - i);
        sums += dnormed;  /* 0 beyond the row, as d is */
        products += dnormed * normed;
        vec_store_upto(dgain + i, vec_load_upto(dgain + i, n - i) + d * normed, n - i);
        vec_store_upto(dshift + i, vec_load_upto(dshift + i, n - i) + d, n - i);
    }
    const float mean_sum = vec_sum(sums) / n, mean_product = vec_sum(products) / n;
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const vec normed = (vec_load_upto(x + i, n - i) - mean) * rstd;
        const vec dnormed = vec_load_upto(dout + i, n - i) * vec_load_upto(gain + i, n - i);
        vec_store_upto(dx + i,
                       vec_load_upto(dskip + i, n - i)
                           + rstd * (dnormed - mean_sum - normed * mean_product),
                       n - i);
    }
}

#endif
