/* Loops over one row: element-wise sums and reductions in a fixed order of lanes. */
#ifndef CLLM_ROWS_H
#define CLLM_ROWS_H

#include <math.h>

#include "vector.h"

static void axpy(float *restrict y, float a, const float *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static void add(float *out, const float *x, const float *y, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += LANES)
        vec_store_upto(out + i, vec_load_upto(x + i, n - i) + vec_load_upto(y + i, n - i), n - i);
}

static void scale(float *x, float a, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] *= a;
}

static float max(const float *x, ptrdiff_t n)
{
    vec top = vec_of(-INFINITY);
    ivec unordered = {0};
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const vec v = vec_first(vec_load_upto(x + i, n - i), n - i, -INFINITY);
        unordered |= v != v;
        top = vec_max(top, v);
    }
    float lanes[LANES], most = -INFINITY;
    int32_t any = 0;
    vec_store(lanes, top);
    for (int i = 0; i < LANES; i++) {
        most = lanes[i] > most ? lanes[i] : most;
        any |= unordered[i];
    }
    return any ? NAN : most;
}

static double sum_squares(const float *x, ptrdiff_t n)
{
    double lanes[8] = {0};
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            lanes[j] += (double)x[i + j] * x[i + j];
    for (; i < n; i++)
        lanes[0] += (double)x[i] * x[i];
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
         + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

static double sum_double(const double *x, ptrdiff_t n)
{
    double lanes[8] = {0};
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            lanes[j] += x[i + j];
    for (; i < n; i++)
        lanes[0] += x[i];
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
         + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

#endif
